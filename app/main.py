"""The API as an ASGI application: ``uvicorn --factory app.main:create_app``."""

import shutil
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from importlib.metadata import version
from pathlib import Path
from typing import Final

from fastapi import Depends, FastAPI

from app.acquisitions import endpoints as acquisitions
from app.budgets import endpoints as budgets
from app.classifications import endpoints as classifications
from app.core import health, reference, tracing
from app.core.bodies import BodyLimitMiddleware
from app.core.db import database_url, dispose_engine, libpq_url
from app.core.head import HeadMiddleware
from app.core.logs import configure_logging
from app.core.metrics import DATABASE_REGISTRY
from app.core.notify import Listener
from app.core.observe import ObserveMiddleware
from app.core.openapi import complete_openapi
from app.core.parameters import only_known_parameters
from app.core.problems import add_problem_handlers
from app.core.revisions import known
from app.core.settings import get_settings
from app.datasets import endpoints as datasets
from app.labels import endpoints as labels
from app.ledger import endpoints as ledger
from app.orders import endpoints as orders
from app.plans import endpoints as plans
from app.pricing import endpoints as pricing
from app.rasters.sandbox import sandbox
from app.releases import alias_endpoints as aliases
from app.releases import endpoints as releases
from app.reports import endpoints as reports
from app.training import endpoints as training
from app.webhooks import endpoints as webhooks
from app.webhooks.metrics import WebhookCollector

DESCRIPTION: Final = (
    "Which high-resolution patches are worth paying for, and what is there once they are bought. "
    "Post a low-resolution GeoTIFF to get a plan, post the patches that were bought, ask for the class and "
    "for what was saved. Every call but the health checks needs an API key: `Authorization: Bearer pp_...`. "
    "Every error is a problem document (RFC 9457)."
)

STALE_UPLOAD_S: Final = 24 * 3600


# once in a process, however many applications are made
DATABASE_REGISTRY.register(WebhookCollector())


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Listen for finished work while the application runs."""
    configure_logging()
    tracing.start("patchplan-api")
    _sweep_spool(get_settings().spool_dir)
    sandbox.start()
    # reads every revision: at the first /readyz a busy machine could take longer than a check may
    known()
    listener = Listener(libpq_url(database_url()))
    await listener.start()
    app.state.listener = listener
    try:
        yield
    finally:
        await listener.stop()
        dispose_engine()
        tracing.stop()


def create_app() -> FastAPI:
    """The whole API; reads the settings when it starts to serve."""
    app = FastAPI(
        title="PatchPlan",
        version=version("patchplan"),
        summary="Plans which satellite image patches to buy",
        description=DESCRIPTION,
        license_info={"name": "Apache-2.0", "identifier": "Apache-2.0"},
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        separate_input_output_schemas=True,
    )
    add_problem_handlers(app)
    app.add_middleware(BodyLimitMiddleware)
    app.add_middleware(HeadMiddleware)
    app.add_middleware(ObserveMiddleware)
    for room in (
        plans,
        pricing,
        budgets,
        acquisitions,
        classifications,
        datasets,
        labels,
        orders,
        ledger,
        reports,
        training,
        releases,
        aliases,
        webhooks,
    ):
        app.include_router(room.router, dependencies=[Depends(only_known_parameters)])
    for open_room in (health, reference):
        app.include_router(open_room.router)
    app.openapi = lambda: complete_openapi(app)  # type: ignore[method-assign]
    return app


def _sweep_spool(spool: Path) -> None:
    # only a process killed while reading an upload leaves one behind
    for left in spool.glob("upload-*"):
        # another process of the API may sweep as well
        with suppress(FileNotFoundError):
            if time.time() - left.stat().st_mtime > STALE_UPLOAD_S:
                shutil.rmtree(left, ignore_errors=True)
