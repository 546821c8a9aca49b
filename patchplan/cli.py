"""The ``patchplan`` command. Each subcommand imports what it needs when it runs."""

import sys
from importlib import import_module
from pathlib import Path
from typing import Annotated, Final

import typer

from app.core.settings import SettingsError
from patchplan.errors import FrontDoorError

app = typer.Typer(
    name="patchplan",
    help="Which high-resolution patches are worth paying for, and what is there once they are bought.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
keys = typer.Typer(help="API keys.", no_args_is_help=True)
app.add_typer(keys, name="keys")
store = typer.Typer(help="The object store.", no_args_is_help=True)
app.add_typer(store, name="store")

NAME_LENGTH: Final = 200
"""Of an organisation's name and a key's, as their columns have it."""

# these read their own options, --help included
DELEGATES = {"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []}


def main() -> None:
    """Run the command; what a person can mend is said in one message, not as a traceback."""
    from sqlalchemy.exc import OperationalError

    try:
        app()
    except (FrontDoorError, SettingsError) as error:
        typer.echo(f"patchplan: {error}", err=True)
        sys.exit(1)
    except OperationalError as error:
        state = getattr(error.orig, "sqlstate", None)
        # no state: nobody answered; 08 and 57P: it shut the connection
        said = "refused" if state and not state.startswith(("08", "57P")) else "does not answer"
        typer.echo(f"patchplan: The database {said}: {str(error.orig).strip()}", err=True)
        sys.exit(1)


@app.command()
def up() -> None:
    """Serve until Ctrl-C: database, broker, API and worker; what PATCHPLAN_*_URL names is not started."""
    from patchplan.supervise import up as serve

    serve(say=typer.echo)


@app.command()
def api() -> None:
    """The API alone, against the configured database and broker."""
    import uvicorn

    from app.core.logs import configure_logging
    from app.core.settings import check_served, get_settings

    check_served()
    configure_logging()
    settings = get_settings()
    uvicorn.run(
        "app.main:create_app",
        factory=True,
        host=settings.host,
        port=settings.port,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=5,
    )


@app.command(context_settings=DELEGATES)
def worker(context: typer.Context) -> None:
    """One worker; `--queue training` makes one that trains."""
    _delegate("workers.__main__", context.args)


@app.command()
def migrate() -> None:
    """Bring the database up to date."""
    from patchplan.database import database_here
    from patchplan.migrate import migrate as run

    with database_here():
        run()


@app.command()
def dump(file: Path) -> None:
    """Write the database to FILE as SQL, e.g. before PostgreSQL's major version changes."""
    from patchplan.database import dump as run

    run(file)


@app.command()
def restore(file: Path) -> None:
    """Read a dump into an empty database."""
    from patchplan.database import restore as run

    run(file)


@app.command(context_settings=DELEGATES)
def demo(context: typer.Context) -> None:
    """The main job end to end on real imagery: `patchplan demo [--hr FILE]`."""
    _delegate("patchplan.demo", context.args)


@app.command(context_settings=DELEGATES)
def backtest(context: typer.Context) -> None:
    """What HR you own would have cost to buy by plan: `patchplan backtest --hr FOLDER --product P`."""
    _delegate("patchplan.backtest", context.args)


@app.command(context_settings=DELEGATES)
def train(context: typer.Context) -> None:
    """Train a release: `patchplan train --recipe R --data D --out RELEASE`."""
    _delegate("models.train", context.args)


@app.command(context_settings=DELEGATES)
def evaluate(context: typer.Context) -> None:
    """Measure a release: `patchplan evaluate RELEASE --data D [--ds N] [--json]`."""
    _delegate("models.evaluate", context.args)


@app.command(context_settings=DELEGATES)
def reproduce(context: typer.Context) -> None:
    """The paper's tables and figures: `patchplan reproduce TABLE --data D --profile P`."""
    _delegate("models.reproduce.command", context.args)


def _named(text: str) -> str:
    if not 1 <= len(text) <= NAME_LENGTH or not text.isprintable() or not text.strip():
        raise typer.BadParameter(f"1 to {NAME_LENGTH} characters that can be seen.")
    return text


@keys.command("create")
def keys_create(
    scope: Annotated[list[str], typer.Option(help="plan, acquire, train, report or admin; several times.")],
    org: Annotated[str, typer.Option(callback=_named, help="The organisation, made when new.")] = "default",
    name: Annotated[str, typer.Option(callback=_named, help="What the key is for.")] = "key",
) -> None:
    """Make a key and print it; it is not shown again."""
    from patchplan.database import database_here
    from patchplan.keys import create
    from patchplan.migrate import migrate as run

    with database_here():
        run()
        try:
            typer.echo(create(org, scope, name))
        except ValueError as error:
            raise typer.BadParameter(str(error), param_hint="--scope") from error


@keys.command("list")
def keys_list() -> None:
    """List all keys; the secrets are not known."""
    from patchplan.database import database_here
    from patchplan.keys import listing

    with database_here():
        for row in listing():
            typer.echo("  ".join(row))


@keys.command("revoke")
def keys_revoke(
    prefix: Annotated[
        str, typer.Argument(help="The key's first part, as `keys list` shows it; the whole key will do.")
    ],
) -> None:
    """Make a key useless."""
    from patchplan.database import database_here
    from patchplan.keys import revoke

    with database_here():
        if not revoke(prefix):
            typer.echo(f"There is no working key {prefix}.", err=True)
            raise typer.Exit(1)


@store.command("claim")
def store_claim(
    force: Annotated[
        bool,
        typer.Option("--force", help="Even one marked as another database's, or whose marker is damaged."),
    ] = False,
) -> None:
    """Make the configured store this database's, as after its marker was lost."""
    from obstore.exceptions import BaseError

    from app.core.marker import StoreMarker, StoreRefused
    from app.core.store import backend_here
    from patchplan.database import database_here
    from patchplan.migrate import migrate as run

    with database_here():
        run()
        try:
            typer.echo(StoreMarker(backend_here()).claim(force=force))
        except StoreRefused as error:
            raise FrontDoorError(f"{error} --force takes it all the same.") from error
        except BaseError as error:
            raise FrontDoorError(
                f"The object store cannot be claimed: {str(error).splitlines()[0]}"
            ) from error


def _delegate(module: str, arguments: list[str]) -> None:
    code = import_module(module).main(arguments)
    raise typer.Exit(int(code or 0))
