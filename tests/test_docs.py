"""What the documents say of commands, settings, routes, problems and files is true of the code."""

import re
from pathlib import Path

import pytest
from typer.main import get_command

from app.acquisitions.service import TWICE
from app.core.db import Base
from app.core.errors import RasterRefused, every_problem
from app.core.settings import CHECKOUT, Settings
from app.core.work import WorkRow
from app.main import create_app
from app.plans.schemas import PlanForm
from app.rasters import Refusal
from patchplan.cli import app as cli
from tests.conftest import checkout
from tests.figures import table

ROOT = checkout()
# set for a command, not read by the service
OTHERS = {"PATCHPLAN_DATA", "PATCHPLAN_DB_PASSWORD", "PATCHPLAN_GUARD", "PATCHPLAN_PUBLISH_PORT"}


def documents() -> list[Path]:
    return sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])


def text(name: str) -> str:
    return (ROOT / name).read_text()


@pytest.mark.parametrize("path", documents(), ids=lambda path: path.name)
def test_links_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", path.read_text()):
        if not target.startswith(("http://", "https://", "#")):
            assert (path.parent / target.split("#")[0]).exists(), target


@pytest.mark.parametrize("path", documents(), ids=lambda path: path.name)
def test_variables_and_commands_exist(path: Path) -> None:
    variables = {f"PATCHPLAN_{name.upper()}" for name in Settings.model_fields}
    assert set(re.findall(r"PATCHPLAN_[A-Z_]+[A-Z]", path.read_text())) <= variables | OTHERS
    commands = set(get_command(cli).commands)  # type: ignore[attr-defined]
    named = re.findall(r"^(?:\S*=\S* )?(?:\.venv/bin/)?patchplan ([a-z]+)", path.read_text(), re.MULTILINE)
    assert set(named) <= commands
    targets = re.findall(r"^([a-z-]+):", text("Makefile"), re.MULTILINE)
    assert set(re.findall(r"`make ([a-z-]+)", path.read_text())) <= set(targets)


def test_every_setting_is_described_with_its_default() -> None:
    page = text("docs/operations.md")
    for name, field in Settings.model_fields.items():
        value = field.default
        if isinstance(value, Path) and value.is_relative_to(CHECKOUT):
            value = value.relative_to(CHECKOUT)
        shown = "" if value is None else f"`{value}`"
        assert f"| `PATCHPLAN_{name.upper()}` | {shown} |" in page


def test_every_table_whose_rows_are_counted_is_named() -> None:
    [row] = re.findall(r"^\| `patchplan_work_rows.*", text("docs/operations.md"), re.MULTILINE)
    counted = {one.class_.__tablename__ for one in Base.registry.mappers if issubclass(one.class_, WorkRow)}
    assert set(re.findall(r"`(\w+)`", row)) == counted


def test_every_call_is_in_the_api_page_and_in_the_readme() -> None:
    page = text("docs/api.md")
    # what the README does not show, a page of its own walks through
    readme = "".join(path.read_text() for path in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")))
    for path, operations in create_app().openapi()["paths"].items():
        for method in operations:
            assert f"`{method.upper()} {path}`" in page
        if path.startswith("/v1") or path in ("/healthz", "/readyz", "/metrics"):
            shape = re.sub(r"\{\w+\}", r"[$\\w-]+", path)
            assert re.search(rf"\$API{shape}(?![\w/-])", readme), path


def test_every_field_refusal_and_raster_problem_is_described() -> None:
    page = text("docs/api.md")
    for name in [*PlanForm.model_fields, *Refusal, TWICE]:
        assert f"`{name}`" in page
    for problem in every_problem():
        if issubclass(problem, RasterRefused) and problem is not RasterRefused:
            assert f"`{problem.slug}`" in page


def test_the_readme_shows_real_answers() -> None:
    assert "@@" not in text("README.md")


def test_the_readme_shows_the_figures_of_the_card() -> None:
    assert table() in text("README.md")
