"""Every table of the service, imported in one place: for migrations, and for whoever walks the metadata."""

from importlib import import_module
from importlib.util import find_spec
from typing import Final

import app.core.auth  # noqa: F401

ROOMS: Final = ("plans", "acquisitions", "classifications", "reports", "releases")

for room in ROOMS:
    if find_spec(f"app.{room}") and find_spec(f"app.{room}.tables"):
        import_module(f"app.{room}.tables")
