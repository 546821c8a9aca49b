"""Names that strangers give to files and classes: made one of a kind, or refused."""

import re
import unicodedata
from typing import Final

from app.core.errors import UnknownLabels, UnsafeNames

MOST_BYTES_A_PART: Final = 255
MOST_BYTES: Final = 1024
MOST_LABEL: Final = 200
SHOWN: Final = 120

_DRIVE = re.compile(r"[A-Za-z]:")
# control characters, invisible ones (also those that turn the writing direction), halves of characters
_UNSEEN: Final = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})


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
    elif any(unicodedata.category(c) in _UNSEEN for c in text):
        why = "holds characters that cannot be seen or are not UTF-8"
    elif len(text.encode()) > MOST_BYTES or max(len(part.encode()) for part in parts) > MOST_BYTES_A_PART:
        why = f"is longer than {MOST_BYTES} bytes, or {MOST_BYTES_A_PART} between two slashes"
    if why:
        raise UnsafeNames(f"A file's name {why}: {shown(name)}", names=[shown(name)])
    return "/".join(parts)


def clean_label(label: str) -> str:
    """A class's name as it may be a folder; raises UnknownLabels."""
    text = unicodedata.normalize("NFC", label).strip()
    bad = (
        not text
        or len(text) > MOST_LABEL
        or len(text.encode()) > MOST_BYTES_A_PART
        or text.startswith(".")
        or text == "__MACOSX"
        or any(c in "/\\" or unicodedata.category(c) in _UNSEEN for c in text)
    )
    if bad:
        raise UnknownLabels(
            f"This cannot be the name of a class: {shown(label)!r}. A class has 1 to {MOST_LABEL} visible "
            "characters, no slash, and does not begin with a dot.",
            labels=[shown(label)],
        )
    return text


def shown(name: str) -> str:
    """A stranger's name as it may stand in an answer or a log: escaped, and not too long."""
    text = "".join(
        c if unicodedata.category(c) not in _UNSEEN else c.encode("unicode_escape", "replace").decode()
        for c in name[:SHOWN]
    )
    return text if len(name) <= SHOWN else text + "..."
