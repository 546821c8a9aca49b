"""The database: one engine per process, one way to get a session."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Annotated, Any, Final

from fastapi import Depends
from sqlalchemy import URL, Engine, MetaData, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.orm import DeclarativeBase, Session

from app.core.settings import SettingsError, get_settings

DATABASE_LOST: Final = (OperationalError, InterfaceError, PoolTimeoutError)
"""The database does not answer, which passes; other errors of it are the statement's fault and come again."""

SECRETS: Final = frozenset(
    {"password", "sslpassword", "oauth_client_secret", "scram_client_key", "scram_server_key"}
)
"""What libpq's addresses may hold that is nobody else's to know."""


class Base(DeclarativeBase):
    """Every table; the naming convention lets migrations drop what they made by name."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(column_0_N_label)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )


def sqlalchemy_url(url: str) -> str:
    """``postgresql://...`` (or ``postgres://``) with the driver named; SettingsError for other databases."""
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        # the error quotes the address, and a password with it
        raise SettingsError(
            "PATCHPLAN_DATABASE_URL is no address such as postgresql://user:password@host/name."
        ) from None
    if parsed.drivername.split("+")[0] not in ("postgresql", "postgres"):
        raise SettingsError(f"PATCHPLAN_DATABASE_URL: PatchPlan needs PostgreSQL, not {parsed.drivername}.")
    return parsed.set(drivername="postgresql+psycopg").render_as_string(hide_password=False)


def libpq_url(url: str) -> str:
    """The same address as psycopg and libpq's own tools read it."""
    return _rendered(make_url(sqlalchemy_url(url)).set(drivername="postgresql"))


def without_secrets(url: str) -> tuple[str, dict[str, str]]:
    """A ``libpq_url`` without its secrets, and these by libpq's names.

    A password of the query counts for more than the user's, as libpq has it.
    """
    parsed = make_url(url)
    secrets = {} if parsed.password is None else {"password": parsed.password}
    for name in parsed.query.keys() & SECRETS:
        value = parsed.query[name]
        # libpq takes the last of several
        secrets[name] = value if isinstance(value, str) else value[-1]
    query = {name: value for name, value in parsed.query.items() if name not in SECRETS}
    place = (parsed.host, parsed.port, parsed.database)
    return _rendered(URL.create(parsed.drivername, parsed.username, None, *place, query)), secrets


def _rendered(url: URL) -> str:
    # SQLAlchemy writes a space of the query as +, which libpq takes for a plus
    address, mark, query = url.render_as_string(hide_password=False).partition("?")
    return address + mark + query.replace("+", "%20")


def database_url() -> str:
    """The configured address in SQLAlchemy's form; raises SettingsError when there is none."""
    url = get_settings().database_url
    if not url:
        raise SettingsError("PATCHPLAN_DATABASE_URL is not set; `patchplan up` starts a database of its own.")
    return sqlalchemy_url(url)


@lru_cache
def get_engine() -> Engine:
    """The engine of this process, made on first use so that no connection is inherited by a child."""
    engine = create_engine(
        database_url(),
        pool_pre_ping=True,
        pool_size=10,
        max_overflow=20,
        pool_recycle=1800,
        # statements that are prepared belong to a connection, and poolers lend another for each transaction
        connect_args={"connect_timeout": 5, "application_name": "patchplan", "prepare_threshold": None},
    )
    event.listen(engine, "connect", _in_utc)
    return engine


def _in_utc(connection: Any, _record: object) -> None:
    # PostgreSQL's own zone is the machine's, and times come back in it: clients get Z everywhere
    connection.autocommit = True
    connection.execute("SET TIME ZONE 'UTC'")
    connection.autocommit = False


def dispose_engine() -> None:
    """Close all connections and forget the engine (tests, and after settings change)."""
    if get_engine.cache_info().currsize:
        get_engine().dispose()
        get_engine.cache_clear()


@contextmanager
def session_scope() -> Iterator[Session]:
    """A session that commits at the end of the block and rolls back when it raises.

    Rows stay readable after the commit (``expire_on_commit=False``).
    """
    with Session(get_engine(), expire_on_commit=False) as session, session.begin():
        yield session


def _request_session() -> Iterator[Session]:
    with session_scope() as session:
        yield session


# scope="function": the commit happens before the answer leaves, so a 201 is never a lie.
SessionDep = Annotated[Session, Depends(_request_session, scope="function")]
