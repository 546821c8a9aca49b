"""One reading in this process, as the child does it."""

from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

from workers.reading.child import Job, read

JOB = Job(
    archive=None,
    folder=None,
    allowed=None,
    table=None,
    classes=None,
    tolerance={},
    max_bytes=64 * 1024 * 1024,
    max_files=1000,
)


def read_archive(scratch: Path, content: bytes, **changes: Any) -> dict[str, Any]:
    """What is found in an archive; ``changes`` are fields of the job."""
    folder = scratch / uuid4().hex
    folder.mkdir()
    (folder / "archive").write_bytes(content)
    job = replace(JOB, archive=str(folder / "archive"), **changes)
    return read(folder, job) | {"at": folder}


def read_folder(scratch: Path, root: Path, **changes: Any) -> dict[str, Any]:
    """What is found in a folder, which is the opened one unless ``allowed`` is another."""
    folder = scratch / uuid4().hex
    folder.mkdir()
    given = {"folder": str(root.resolve()), "allowed": str(root.resolve())} | changes
    return read(folder, replace(JOB, **given)) | {"at": folder}
