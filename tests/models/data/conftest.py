from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """The folder of real data sets, named by PATCHPLAN_DATA; tests that need it skip without it."""
    folder = Path(os.environ.get("PATCHPLAN_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no data folder at {folder}: set PATCHPLAN_DATA")
    return folder
