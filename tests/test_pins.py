"""What is installed is what the tests ran with: every requirement is pinned to a version that it allows."""

import itertools
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]


def pins(file: str) -> dict[str, str]:
    """Name and version of what a constraints file says itself."""
    lines = [line.strip() for line in (ROOT / file).read_text(encoding="utf-8").splitlines()]
    pairs = [line.split("==") for line in lines if line and not line.startswith(("#", "-c "))]
    return {canonicalize_name(name): version for name, version in pairs}


def test_every_requirement_is_pinned_to_what_it_allows() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    asked = [*project["dependencies"], *itertools.chain(*project["optional-dependencies"].values())]
    pinned = pins("constraints.txt") | pins("constraints-cpu.txt")
    for requirement in map(Requirement, asked):
        version = pinned[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(version, prereleases=True), f"{requirement} is {version}"


def test_torch_is_pinned_for_processors_alone() -> None:
    """And the rest with it: a GPU's torch is installed with constraints.txt."""
    assert set(pins("constraints-cpu.txt")) == {"torch", "torchvision"}
    assert "-c constraints.txt" in (ROOT / "constraints-cpu.txt").read_text(encoding="utf-8").splitlines()
    assert {"torch", "torchvision"}.isdisjoint(pins("constraints.txt"))
