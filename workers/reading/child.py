"""``python -m workers.reading.child FOLDER``: read one dataset, with limited memory, and say what was found.

``FOLDER/job.json`` says what to read (``Job``). Leaves ``snapshot.tar``, ``inventory.jsonl`` and
``answer.json`` there: what was found, or the problem. Dies with its parent.
"""

import ctypes
import json
import os
import resource
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from app.core.errors import DatasetTooLarge, ProblemError
from workers.reading import findings
from workers.reading.archives import read_archive
from workers.reading.findings import Tolerance
from workers.reading.folder import read_folder
from workers.reading.forms import find
from workers.reading.heap import Bounds, Heap
from workers.reading.pictures import Look, look_at_all
from workers.reading.snapshot import check_snapshot, members_of, write_inventory, write_snapshot
from workers.reading.tables import listed_paths

ANSWER: Final = "answer.json"
JOB: Final = "job.json"
SNAPSHOT: Final = "snapshot.tar"
INVENTORY: Final = "inventory.jsonl"
_PR_SET_PDEATHSIG: Final = 1


@dataclass(frozen=True)
class Job:
    """What to read: an ``archive``, or a ``folder`` below ``allowed``, or what a ``table`` of it lists."""

    archive: str | None
    folder: str | None
    allowed: str | None
    table: str | None
    classes: Sequence[str] | None
    tolerance: dict[str, Any]
    max_bytes: int
    max_files: int


def main(folder: Path, parent: int, memory_bytes: int) -> None:
    """Read, and write the answer."""
    _confine(parent, memory_bytes)
    try:
        answer = {"found": read(folder, Job(**json.loads((folder / JOB).read_text())))}
    except ProblemError as problem:
        answer = {
            "problem": {"kind": type(problem).__name__, "detail": problem.detail, "extra": problem.extra}
        }
    except MemoryError:
        too_large = DatasetTooLarge("Reading this dataset takes more memory than the server allows for it.")
        answer = {"problem": {"kind": "DatasetTooLarge", "detail": too_large.detail, "extra": {}}}
    except OSError as error:
        # a full disk, a folder that went away: it may pass
        answer = {"passing": {"reason": repr(error), "errno": error.errno}}
    part = folder / f".{ANSWER}"
    part.write_text(json.dumps(answer))
    part.replace(folder / ANSWER)


def read(folder: Path, job: Job) -> dict[str, Any]:
    """The whole reading. Raises the DatasetRefused classes, MemoryError, OSError."""
    heap = _filled(folder, job)
    found = find(heap, job.table and Path(job.table).name, job.classes)
    if len(found.samples) > job.max_files:
        # boxes of fMoW, many to a picture
        raise DatasetTooLarge(f"There are more than {job.max_files} samples.", limit_files=job.max_files)
    tolerance = Tolerance(**job.tolerance)
    looks: list[Look] = []
    unreadable = list(found.unreadable)
    for look in look_at_all(heap, found, folder):
        if isinstance(look, Look):
            looks.append(look)
        else:
            unreadable.append((look[0].name, look[1]))
    findings.check_readable(looks, unreadable, tolerance.max_unreadable)
    warnings = findings.check_classes(found, looks)
    warnings += findings.check_bands(looks, allowed=tolerance.mixed_bands)
    groups = findings.same_pictures(looks)
    findings.check_splits(looks, groups, tolerance.max_leaks)
    summary = findings.summary(found, looks, unreadable, groups)
    if summary["duplicates"]["of_several_classes"]:
        warnings.append("same_picture_in_two_classes")
    if unreadable:
        warnings.append("unreadable_pictures")
    snapshot = folder / SNAPSHOT
    digest = write_snapshot(snapshot, heap, members_of(found, looks))
    heap.path.unlink()
    check_snapshot(snapshot, found, looks)
    write_inventory(folder / INVENTORY, looks, unreadable)
    splits = summary["splits"] or {}
    return {
        "content_sha256": digest,
        "snapshot_bytes": snapshot.stat().st_size,
        "form": found.form,
        "classes": list(found.classes),
        "n_pictures": len(looks),
        "n_train": splits.get("train", 0),
        "n_val": splits.get("val", 0),
        "n_test": splits.get("test", 0),
        "summary": summary,
        "warnings": warnings,
    }


def _filled(folder: Path, job: Job) -> Heap:
    archive = None if job.archive is None else Path(job.archive)
    packed = None if archive is None else archive.stat().st_size
    heap = Heap(folder / "heap", Bounds(job.max_bytes, job.max_files, packed))
    try:
        if archive is not None:
            read_archive(archive, heap)
        else:
            assert job.folder is not None
            assert job.allowed is not None
            root, only = Path(job.folder), None
            if job.table is not None:
                table = Path(job.table)
                only = [table.name, *listed_paths(table.read_bytes(), table.name)]
                only = [name for name in only if (root / name).exists()]
            read_folder(root, Path(job.allowed), heap, only)
    finally:
        heap.close()
    return heap


def _confine(parent: int, memory_bytes: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            raise SystemExit(1)
        resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGINT, signal.SIG_IGN)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
