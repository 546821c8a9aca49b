"""Archives as strangers send them, good and bad, packed in memory."""

import gzip
import io
import tarfile
import zipfile
from collections.abc import Iterable, Mapping
from typing import Any

from tests.models.data.pictures import encode, picture

Files = Mapping[str, bytes]


def folders(
    classes: Iterable[str] = ("forest", "harbor"), each: int = 4, *, prefix: str = "", first: int = 0
) -> dict[str, bytes]:
    """``[prefix]CLASS/N.png``, every picture another."""
    return {
        f"{prefix}{name}/{number}.png": encode(picture(first + 1000 * k + number))
        for k, name in enumerate(classes)
        for number in range(each)
    }


def split_folders() -> dict[str, bytes]:
    """Class folders in train, val and test."""
    parts = (("train", 4), ("val", 2), ("test", 2))
    return {
        name: data
        for k, (split, each) in enumerate(parts)
        for name, data in folders(each=each, prefix=f"{split}/", first=100 * k).items()
    }


def tar(files: Files, mtime: int = 0, extra: Iterable[tarfile.TarInfo] = ()) -> bytes:
    """A tar with files in the order given, and members without content."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mtime = len(data), mtime
            archive.addfile(entry, io.BytesIO(data))
        for entry in extra:
            archive.addfile(entry)
    return buffer.getvalue()


def tar_gz(files: Files) -> bytes:
    """The same, compressed."""
    return gzip.compress(tar(files), compresslevel=1)


def zipped(files: Files, **attributes: Any) -> bytes:
    """A zip; ``attributes`` are set on every member."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            entry = zipfile.ZipInfo(name, (2001, 2, 3, 4, 5, 6))
            entry.compress_type = zipfile.ZIP_DEFLATED
            for key, value in attributes.items():
                setattr(entry, key, value)
            archive.writestr(entry, data)
    return buffer.getvalue()


def member(name: str, kind: bytes, linkname: str = "") -> tarfile.TarInfo:
    """A tar member that is no file."""
    entry = tarfile.TarInfo(name)
    entry.type, entry.linkname = kind, linkname
    return entry
