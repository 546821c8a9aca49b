"""The command line: every command explains itself, and what was done wrong is said in a line."""

import pytest
from typer.testing import CliRunner

from patchplan.cli import app
from patchplan.embedded import Services
from patchplan.supervise import environment


@pytest.mark.parametrize(
    "command",
    [[], ["up"], ["api"], ["migrate"], ["dump"], ["restore"], ["keys"], ["keys", "create"], ["keys", "list"]],
)
def test_every_command_explains_itself(command: list[str]) -> None:
    done = CliRunner().invoke(app, [*command, "--help"])
    assert done.exit_code == 0
    assert "Usage" in done.output


@pytest.mark.parametrize("command", ["train", "evaluate", "demo"])
def test_what_others_do_is_explained_by_them(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    done = CliRunner().invoke(app, [command, "--help"])
    assert done.exit_code == 0
    assert "usage" in (done.output + capsys.readouterr().out).lower()
    # none of our own options: the delegate was asked
    assert "--data" in done.output or "--hr" in done.output


def test_keys_are_made_listed_and_revoked(database: Services) -> None:
    runner = CliRunner()
    key = runner.invoke(app, ["keys", "create", "--scope", "plan", "--scope", "report", "--org", "acme"])
    assert key.exit_code == 0, key.output
    prefix = key.output.split("_")[1]
    listed = runner.invoke(app, ["keys", "list"]).output
    assert prefix in listed
    assert "plan, report" in listed
    assert runner.invoke(app, ["keys", "revoke", prefix]).exit_code == 0
    assert "revoked" in runner.invoke(app, ["keys", "list"]).output
    assert runner.invoke(app, ["keys", "revoke", prefix]).exit_code == 1


def test_an_unknown_scope_is_named(database: Services) -> None:
    done = CliRunner().invoke(app, ["keys", "create", "--scope", "everything"])
    assert done.exit_code == 2
    assert "everything" in done.output


def test_migrate_may_be_run_again(database: Services) -> None:
    for _ in range(2):
        assert CliRunner().invoke(app, ["migrate"]).exit_code == 0


def test_another_database_is_refused() -> None:
    with environment({"PATCHPLAN_DATABASE_URL": "sqlite:///x.db"}):
        done = CliRunner().invoke(app, ["migrate"])
    assert done.exit_code != 0
    assert "needs PostgreSQL" in str(done.exception)
