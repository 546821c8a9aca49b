"""The canonical tar of a dataset: the same pictures under the same names make the same bytes.

Members are ``[SPLIT/]CLASS/path``, or an fMoW tree; sorted by name, without times, owners or folders. So the
SHA-256 of the file is the content's name, whatever archive, order or clock it came with.
"""

import hashlib
import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from app.core.errors import UnknownLayout
from models.data.sources import open_source
from workers.reading.forms import Found
from workers.reading.heap import Heap
from workers.reading.names import shown
from workers.reading.pictures import Look


def write_snapshot(path: Path, heap: Heap, members: Mapping[str, str]) -> str:
    """Write members (name in the tar -> name in the heap); returns the SHA-256 of the tar."""
    with path.open("wb") as file:
        out = _Hashing(file)
        with tarfile.open(fileobj=out, mode="w|", format=tarfile.PAX_FORMAT) as tar:
            for member in sorted(members):
                data = heap.read(members[member])
                entry = tarfile.TarInfo(member)
                entry.size = len(data)
                tar.addfile(entry, io.BytesIO(data))
    return out.sha256.hexdigest()


def members_of(found: Found, looks: Sequence[Look]) -> dict[str, str]:
    """What the snapshot holds: the pictures that can be read, and what describes them."""
    pictures = {look.sample.name for look in looks}
    members = {_file(look): look.sample.name for look in looks}
    return members | {member: name for member, name in found.extra.items() if name not in pictures}


def check_snapshot(path: Path, found: Found, looks: Sequence[Look]) -> None:
    """Raises UnknownLayout where training would see other samples in the snapshot than were found."""
    source = open_source(path, check="none", max_unreadable=len(found.unreadable))
    seen = {
        (source.ids[i], source.classes[source.labels[i]], source.splits[i] if source.splits else None)
        for i in range(len(source))
    }
    wanted = {(look.sample.member, look.sample.label, look.sample.split or None) for look in looks}
    if found.form == "fmow" and not source.splits:
        wanted = {(member, label, None) for member, label, _ in wanted}
    if seen != wanted or source.classes != found.classes:
        raise UnknownLayout(
            "Names of classes or folders in this dataset can be read in more than one way: rename folders "
            "that are called like splits (train, val, test)."
        )


def write_inventory(path: Path, looks: Sequence[Look], unreadable: Sequence[tuple[str, str]]) -> None:
    """One JSON line a picture, then one for each that cannot be read."""
    with path.open("w", encoding="utf-8") as file:
        for look in looks:
            file.write(json.dumps(_line(look), ensure_ascii=False) + "\n")
        for name, reason in unreadable:
            file.write(
                json.dumps({"picture": shown(name), "unreadable": shown(reason)}, ensure_ascii=False) + "\n"
            )


def _line(look: Look) -> dict[str, Any]:
    return {
        "picture": look.sample.member,
        "class": look.sample.label,
        "split": look.sample.split,
        "width": look.width,
        "height": look.height,
        "bands": look.bands,
        "type": look.kind,
        "gsd_m": None if look.gsd_m is None else round(look.gsd_m, 6),
        "bytes": look.size,
        "sha256": look.sha256,
    }


def _file(look: Look) -> str:
    # several boxes of an fMoW picture are one file
    return look.sample.member if look.sample.row < 0 else look.sample.member.partition("#")[0]


class _Hashing(io.RawIOBase):
    """Passes bytes on and hashes them."""

    def __init__(self, file: IO[bytes]) -> None:
        self.sha256 = hashlib.sha256()
        self._file = file

    def write(self, data: Any) -> int:
        self.sha256.update(data)
        return self._file.write(data)
