"""All settings of the service, read once from ``PATCHPLAN_*`` variables."""

from functools import lru_cache
from ipaddress import ip_network
from pathlib import Path

from pydantic import Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

CHECKOUT = Path(__file__).resolve().parents[2]
LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")


class SettingsError(ValueError):
    """A setting that nothing can be done with; the message names its variable, for who set it."""


class Settings(BaseSettings):
    """One field per variable: ``database_url`` is ``PATCHPLAN_DATABASE_URL`` and so on."""

    model_config = SettingsConfigDict(env_prefix="PATCHPLAN_", extra="ignore", env_ignore_empty=True)

    database_url: str | None = Field(None, description="PostgreSQL, e.g. postgresql://user:pw@host/name.")
    broker_url: str | None = Field(None, description="Redis or Valkey, e.g. redis://host:6379/0.")
    data_dir: Path = Field(Path(".patchplan"), description="Everything kept on this machine lies here.")
    store_url: str | None = Field(None, description="s3://, gs://, az:// or file://; default data_dir/store.")
    releases_dir: Path = Field(CHECKOUT / "releases", description="One folder per release.")
    default_release: str | None = Field(None, description="Release used when a plan names none.")
    releases_in_memory: int = Field(4, ge=1, description="Releases a worker holds loaded at once.")
    release_cache_bytes: int = Field(
        4 * 1024**3, ge=0, description="Bytes of releases kept on a worker's disk."
    )

    mlflow_url: str | None = Field(None, description="MLflow server that is told of training runs.")
    mlflow_experiment: str = Field("patchplan", description="The experiment its runs belong to.")
    tensorboard_dir: Path | None = Field(None, description="TensorBoard event files of runs; default: none.")

    host: str = "127.0.0.1"
    port: int = Field(8000, ge=0, le=65535)
    worker_metrics_port: int | None = Field(
        None, ge=1, le=65535, description="Port of a worker's own /metrics; default: none."
    )
    log_level: str = "INFO"
    log_json: bool | None = Field(None, description="Default: JSON unless a terminal reads the log.")
    trust_traceparent: bool = Field(
        False,
        description="A request's `traceparent` decides whether, and in which trace, it is traced: only "
        "behind a server that sets or removes it.",
    )

    max_json_bytes: int = Field(
        8 * 1024 * 1024, gt=0, description="Bytes of one request body that is not an upload."
    )
    max_upload_bytes: int = Field(512 * 1024 * 1024, gt=0, description="Bytes of one upload.")
    max_upload_files: int = Field(256, gt=0)
    max_field_bytes: int = Field(64 * 1024, gt=0, description="Bytes of one form field that is not a file.")
    max_raster_pixels: int = Field(400_000_000, gt=0, description="Pixels times bands of one raster.")
    max_request_pixels: int = Field(
        1_000_000_000, gt=0, description="Pixels times bands of one request's HR files together."
    )

    wait_default_s: float = Field(5, ge=0, description="Prefer: wait when the client names none.")
    wait_max_s: float = Field(60, ge=0)

    lease_s: float = Field(30, gt=0, description="A worker silent for so long loses its work.")
    heartbeat_s: float = Field(5, gt=0)
    sweep_s: float = Field(3, gt=0, description="How often a worker looks for forgotten work.")
    max_attempts: int = Field(
        5, ge=1, description="Workers that die on a piece of work before it is given up."
    )

    order_search_s: float = Field(
        20, gt=0, description="How long an order's cheapest polygons are looked for, and full HR's again."
    )

    webhook_networks: str | None = Field(
        None, description="Networks webhooks may reach beside public ones: 10.1.0.0/16,127.0.0.1."
    )
    webhook_timeout_s: float = Field(10, gt=0, description="How long one delivery may take.")
    webhook_attempts: int = Field(8, ge=1, description="Tries of one delivery before it is given up.")
    webhook_backoff_s: float = Field(
        5, gt=0, description="Wait after the first try; each wait is 4 times longer."
    )

    @field_validator("log_level")
    @classmethod
    def _level(cls, text: str) -> str:
        if text.upper() not in LOG_LEVELS:
            raise ValueError(f"is one of {', '.join(LOG_LEVELS)}")
        return text.upper()

    @field_validator("webhook_networks")
    @classmethod
    def _networks(cls, text: str | None) -> str | None:
        for part in (text or "").split(","):
            if part.strip():
                ip_network(part.strip(), strict=False)
        return text

    max_dataset_bytes: int = Field(
        20 * 1024**3, gt=0, description="Bytes of one dataset, packed or unpacked."
    )
    max_dataset_files: int = Field(500_000, gt=0, description="Files of one dataset.")
    dataset_memory_bytes: int = Field(
        3 * 1024**3, gt=0, description="Memory of the process that reads a dataset."
    )
    dataset_time_s: float = Field(6 * 3600, gt=0, description="How long reading a dataset may take.")
    dataset_folders: str | None = Field(
        None, description="Folders datasets may be read from, separated by commas."
    )
    dataset_urls: str | None = Field(
        None, description="URL prefixes datasets may be read from: s3://bucket/images/,gs://other/."
    )

    @property
    def spool_dir(self) -> Path:
        """Where uploads lie while they are being checked."""
        return self.data_dir / "spool"

    @property
    def release_cache_dir(self) -> Path:
        """Where releases out of the object store lie, checked, for the workers of this machine."""
        return self.data_dir / "cache" / "releases"


@lru_cache
def get_settings() -> Settings:
    """The settings of this process; ``get_settings.cache_clear()`` reads them anew. Raises SettingsError."""
    try:
        return Settings()
    except ValidationError as error:
        # not what was given: it may be a secret that stands in the wrong place
        wrong = [
            f"PATCHPLAN_{str(item['loc'][0]).upper()}: {item['msg'].removeprefix('Value error, ')}"
            for item in error.errors(include_url=False, include_context=False, include_input=False)
        ]
        raise SettingsError("; ".join(wrong) + ".") from None


def check_served() -> None:
    """For processes that start no services themselves; raises SettingsError where none are named."""
    settings = get_settings()
    given = {"PATCHPLAN_DATABASE_URL": settings.database_url, "PATCHPLAN_BROKER_URL": settings.broker_url}
    if missing := [name for name, url in given.items() if not url]:
        raise SettingsError(
            f"{' and '.join(missing)} must be set here; `patchplan up` starts services of its own."
        )
