"""The command line: every command explains itself, and what was done wrong is said in a line."""

import sys

import psycopg
import pytest
from typer.testing import CliRunner

from patchplan.cli import app, main
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
    assert all(scope in done.output for scope in ("plan", "acquire", "train", "report", "admin"))


@pytest.mark.parametrize("name", ["", " ", "x" * 201, "a\x1b[2J", "\udcff"])
@pytest.mark.parametrize("option", ["--org", "--name"])
def test_a_name_that_no_column_holds_is_refused(option: str, name: str) -> None:
    done = CliRunner().invoke(app, ["keys", "create", "--scope", "plan", option, name])
    assert done.exit_code == 2
    assert "1 to 200 characters" in done.output


def said_by(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """What the command says when it ends with 1: one message and no traceback."""
    monkeypatch.setattr(sys, "argv", ["patchplan", *words])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 1
    said = capsys.readouterr().err
    assert said.startswith("patchplan: ")
    return said


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("PORT", "abc", "PATCHPLAN_PORT: Input should be a valid integer"),
        ("LOG_LEVEL", "loud", "PATCHPLAN_LOG_LEVEL: is one of DEBUG, INFO"),
        ("WEBHOOK_NETWORKS", "home", "PATCHPLAN_WEBHOOK_NETWORKS: 'home'"),
        ("DATABASE_URL", "nobody:secret", "PATCHPLAN_DATABASE_URL is no address"),
        ("DATABASE_URL", "mysql://u:secret@db/x", "needs PostgreSQL, not mysql"),
        ("DATABASE_URL", "postgresql://u:secret@127.0.0.1:1/x", "The database does not answer: "),
        ("DATA_DIR", "/proc/none", "The data folder /proc/none cannot be made"),
    ],
)
def test_a_wrong_setting_is_one_message(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str, value: str, said: str
) -> None:
    given = {"PATCHPLAN_DATABASE_URL": "", f"PATCHPLAN_{name}": value}
    with environment(given):
        message = said_by(monkeypatch, capsys, "keys", "list")
    assert said in message
    assert "secret" not in message


@pytest.mark.parametrize("command", ["api", "worker"])
def test_what_starts_no_database_says_which_are_missing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    with environment({"PATCHPLAN_DATABASE_URL": "", "PATCHPLAN_BROKER_URL": ""}):
        message = said_by(monkeypatch, capsys, command)
    assert "PATCHPLAN_DATABASE_URL and PATCHPLAN_BROKER_URL must be set" in message


def test_keys_of_a_database_without_tables(
    services: Services, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    empty = services.database_url.replace("/patchplan?", "/postgres?")
    with environment({"PATCHPLAN_DATABASE_URL": empty}):
        for words in (["keys", "list"], ["keys", "revoke", "abc"]):
            assert "run `patchplan migrate`" in said_by(monkeypatch, capsys, *words)


def test_a_worker_tells_of_its_queues(capsys: pytest.CaptureFixture[str]) -> None:
    done = CliRunner().invoke(app, ["worker", "--help"])
    assert done.exit_code == 0
    assert "--queue {patchplan,training}" in done.output + capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--bands", "a,b"], "must be three band numbers"),
        (["--price-per-km2", "1,50"], "a price is a decimal string"),
        (["--currency", "euro"], "a currency is an ISO 4217 code"),
    ],
)
def test_a_wrong_option_is_told_before_anything_starts(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    done = CliRunner().invoke(app, ["demo", "--drawn", *words])
    assert done.exit_code == 2
    assert said in done.output + capsys.readouterr().err


def test_migrate_may_be_run_again(database: Services) -> None:
    for _ in range(2):
        assert CliRunner().invoke(app, ["migrate"]).exit_code == 0


def test_another_database_is_refused() -> None:
    with environment({"PATCHPLAN_DATABASE_URL": "sqlite:///x.db"}):
        done = CliRunner().invoke(app, ["migrate"])
    assert done.exit_code != 0
    assert "needs PostgreSQL" in str(done.exception)


def test_a_database_that_refuses_is_not_one_that_is_away(
    database: Services, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    url = f"{database.database_url}&options=-c%20lock_timeout%3D100"
    with psycopg.connect(database.database_url) as other, environment({"PATCHPLAN_DATABASE_URL": url}):
        other.execute("LOCK TABLE api_keys")
        assert "The database refused: canceling statement due to lock timeout" in said_by(
            monkeypatch, capsys, "keys", "list"
        )
