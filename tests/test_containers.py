"""Dockerfile and docker-compose.yml against the code: no engine is needed, and none is asked."""

import ast
import re
import shlex
import subprocess
import sys
import tomllib
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml
from typer.main import get_command

from app.core.db import sqlalchemy_url
from app.core.settings import Settings
from app.main import create_app
from patchplan.cli import app as cli
from tests.conftest import checkout

ROOT = checkout()
OURS = ("migrate", "api", "worker", "trainer", "worker-gpu", "trainer-gpu")
OF_OTHERS = ("AWS_", "GOOGLE_", "AZURE_", "OTEL_")
TORCH_INDEX = "https://download.pytorch.org/whl/cpu"


def compose() -> dict[str, Any]:
    text = (ROOT / "docker-compose.yml").read_text()
    found: dict[str, Any] = yaml.safe_load(re.sub(r"\$\{\w+(:-(?P<default>[^}]*)|:\?[^}]*)?\}", _fill, text))
    return found


def _fill(match: re.Match[str]) -> str:
    return match["default"] or "abc"


def stages() -> dict[str, list[list[str]]]:
    """Instructions of each build stage, continuation lines joined, by the stage's name."""
    text = re.sub(r"^#.*\n", "", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE)
    found: dict[str, list[list[str]]] = {}
    name = ""
    for line in re.sub(r"\\\n", " ", text).splitlines():
        words = line.split(maxsplit=1)
        if not words:
            continue
        if words[0] == "FROM":
            base, _, name = words[1].partition(" AS ")
            found[name] = [["FROM", base]]
        elif name:
            found[name].append(words)
    return found


def ending(stage: str, instruction: str) -> str:
    """The last such instruction that holds in a stage, from the stages it builds on where it has none."""
    named = stages()
    lines = [words[1] for words in named[stage] if words[0] == instruction]
    return lines[-1] if lines else ending(named[stage][0][1], instruction)


def commands() -> set[str]:
    return set(get_command(cli).commands)  # type: ignore[attr-defined]


def variables() -> set[str]:
    return {f"PATCHPLAN_{name.upper()}" for name in Settings.model_fields}


def routes() -> set[str]:
    return set(create_app().openapi()["paths"])


def runs(code: str) -> None:
    """A one-line program of a health check: it parses, and what it imports of ours is there."""
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.ImportFrom):
            assert node.module is not None
            module = import_module(node.module)
            assert all(hasattr(module, alias.name) for alias in node.names)
        elif isinstance(node, ast.Import):
            assert all(find_spec(alias.name) for alias in node.names)


@pytest.mark.parametrize("target", ["cpu", "cuda"])
def test_an_image_serves_as_an_ordinary_user(target: str) -> None:
    assert ending(target, "USER") == "10001:10001"
    assert stages()[target][-1] == ["CMD", '["patchplan", "api"]']
    given = dict(pair.split("=", 1) for pair in shlex.split(ending(target, "ENV")))
    ours = {name for name in given if name.startswith("PATCHPLAN_")}
    assert ours <= variables()
    settings = Settings.model_validate(
        {name.removeprefix("PATCHPLAN_").lower(): given[name] for name in ours}
    )
    assert ending(target, "EXPOSE") == str(settings.port)
    assert ending(target, "VOLUME") == str(settings.data_dir)


@pytest.mark.parametrize("target", ["cpu", "cuda"])
def test_an_image_asks_a_route_that_there_is_after_its_health(target: str) -> None:
    check = ending(target, "HEALTHCHECK").split("CMD ", 1)[1]
    python, option, code = yaml.safe_load(check)
    assert (python, option) == ("python", "-c")
    runs(code)
    (url,) = re.findall(r"http://[^'\"]+", code)
    assert urlsplit(url).path in routes()
    assert urlsplit(url).port == int(ending(target, "EXPOSE"))


def test_what_the_image_copies_is_there() -> None:
    for stage in stages().values():
        for words in stage:
            if words[0] == "COPY":
                for source in words[1].split()[:-1]:
                    assert (ROOT / source).exists()


def test_the_image_has_what_a_training_worker_needs() -> None:
    (program,) = [line for words in stages()["base"] if "tomllib" in (line := words[-1])]
    python, option, code, *_ = shlex.split(program)
    assert (python, option) == ("python", "-c")
    made = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    wanted = [*extras["train"], *extras["trackers"], *extras["otel"]]
    assert made.stdout.splitlines() == [*project["dependencies"], *wanted]
    for stage in ("cpu-packages", "cuda-packages"):
        assert any("-r /tmp/requirements.txt" in line[1] for line in stages()[stage] if line[0] == "RUN")


def test_pytorchs_index_is_the_only_one_and_the_cpu_images_alone() -> None:
    text = (ROOT / "Dockerfile").read_text()
    assert set(re.findall(r"https://\S+", text)) == {TORCH_INDEX}
    users = [name for name, lines in stages().items() if any(TORCH_INDEX in line[-1] for line in lines)]
    assert users == ["cpu-packages"]
    for stage in ("cpu-packages", "cuda-packages"):
        assert all("-c constraints-cpu.txt" in line[1] for line in stages()[stage] if line[0] == "RUN")


@pytest.mark.parametrize("service", OURS)
def test_a_service_runs_a_command_with_settings_there_are(service: str) -> None:
    found = compose()["services"][service]
    program, command, *_ = found["command"]
    assert program == "patchplan"
    assert command in commands()
    assert {name for name in found["environment"] if not name.startswith(OF_OTHERS)} <= variables()
    assert found["build"]["target"] in stages()
    assert found["environment"]["PATCHPLAN_DATA_DIR"] == ending(found["build"]["target"], "VOLUME")
    url = urlsplit(found["environment"]["PATCHPLAN_DATABASE_URL"])
    assert url.hostname in compose()["services"]
    assert sqlalchemy_url(found["environment"]["PATCHPLAN_DATABASE_URL"])
    assert urlsplit(found["environment"]["PATCHPLAN_BROKER_URL"]).hostname in compose()["services"]
    assert found["volumes"] == compose()["services"]["api"]["volumes"]
    for other, how in found["depends_on"].items():
        assert other in compose()["services"]
        checked = "healthcheck" in compose()["services"][other]
        assert checked or how["condition"] != "service_healthy"


@pytest.mark.parametrize("service", OURS)
def test_every_setting_reaches_a_container(service: str) -> None:
    found = compose()["services"][service]
    image = dict(pair.split("=", 1) for pair in shlex.split(ending(found["build"]["target"], "ENV")))
    assert variables() <= found["environment"].keys() | image.keys()
    # a name without a value that is set nowhere is taken away from what the image has
    handed = {name for name, value in found["environment"].items() if value is None}
    assert not handed & image.keys()
    # where the API listens is the image's: the port that is published and the health check go by it
    assert not {"PATCHPLAN_HOST", "PATCHPLAN_PORT"} & found["environment"].keys()


def test_the_database_is_the_one_that_is_served() -> None:
    services = compose()["services"]
    url = urlsplit(services["api"]["environment"]["PATCHPLAN_DATABASE_URL"])
    made = services["postgres"]["environment"]
    assert (url.username, url.password) == (made["POSTGRES_USER"], made["POSTGRES_PASSWORD"])
    assert url.path == f"/{made['POSTGRES_DB']}"


def test_the_api_is_published_on_loopback_at_the_images_port() -> None:
    (port,) = compose()["services"]["api"]["ports"]
    address, _published, inside = port.split(":")
    assert (address, inside) == ("127.0.0.1", ending("cpu", "EXPOSE"))
    assert all("ports" not in found for name, found in compose()["services"].items() if name != "api")


def test_a_worker_asks_after_itself() -> None:
    for name in ("worker", "trainer", "worker-gpu", "trainer-gpu"):
        word, python, option, code = compose()["services"][name]["healthcheck"]["test"]
        assert (word, python, option) == ("CMD", "python", "-c")
        runs(code)


def test_a_gpu_is_reserved_by_the_profile_alone() -> None:
    services = compose()["services"]
    assert [name for name, found in services.items() if "profiles" in found] == ["worker-gpu", "trainer-gpu"]
    for name in ("worker", "trainer"):
        usual, there = services[name], services[f"{name}-gpu"]
        for key in ("command", "healthcheck", "environment", "volumes", "depends_on"):
            assert there[key] == usual[key]
        assert (there["build"]["target"], there["profiles"]) == ("cuda", ["gpu"])
        (device,) = there["deploy"]["resources"]["reservations"]["devices"]
        assert device == {"driver": "nvidia", "count": 1, "capabilities": ["gpu"]}


def test_volumes_are_declared() -> None:
    named = {
        mount.split(":")[0] for found in compose()["services"].values() for mount in found.get("volumes", ())
    }
    assert named == set(compose()["volumes"])


def test_the_image_leaves_out_what_git_does_and_keeps_what_serves() -> None:
    ignored = set(Path(ROOT / ".dockerignore").read_text().split())
    for needed in (
        "app",
        "models",
        "workers",
        "patchplan",
        "migrations",
        "releases",
        "pyproject.toml",
        "README.md",
    ):
        assert needed not in ignored
    for left in (".venv", ".patchplan", "out", "shared", ".git", ".env"):
        assert left in ignored
