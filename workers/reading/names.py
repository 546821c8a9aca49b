"""Names that strangers give to files: made one of a kind, or refused."""

import re
import unicodedata
from typing import Final

from app.core.errors import UnsafeNames
from app.labels.names import UNSEEN, clean_label, shown

__all__ = ["clean_label", "clean_name", "shown"]

MOST_BYTES_A_PART: Final = 255
MOST_BYTES: Final = 1024

_DRIVE = re.compile(r"[A-Za-z]:")


def clean_name(name: str) -> str:
    """A relative POSIX path in Unicode's composed form; the same file packed anywhere has the same.

    Raises UnsafeNames for a path that is absolute, climbs out, is too long, or holds a backslash or
    characters that cannot be seen.
    """
    text = unicodedata.normalize("NFC", name)
    why = ""
    parts = [part for part in text.split("/") if part not in ("", ".")]
    if not parts:
        why = "is empty"
    elif text.startswith("/") or _DRIVE.match(text):
        why = "is an absolute path"
    elif ".." in parts:
        why = "climbs out with .."
    elif "\\" in text:
        why = "holds a backslash"
    elif any(unicodedata.category(c) in UNSEEN for c in text):
        why = "holds characters that cannot be seen or are not UTF-8"
    elif len(text.encode()) > MOST_BYTES or max(len(part.encode()) for part in parts) > MOST_BYTES_A_PART:
        why = f"is longer than {MOST_BYTES} bytes, or {MOST_BYTES_A_PART} between two slashes"
    if why:
        raise UnsafeNames(f"A file's name {why}: {shown(name)}", names=[shown(name)])
    return "/".join(parts)
