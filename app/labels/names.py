"""What a class may be called."""

import unicodedata
from typing import Final

from app.core.errors import UnknownLabels

MOST: Final = 200
MOST_BYTES: Final = 255
SHOWN: Final = 120

# control characters, invisible ones (also those that turn the writing direction), halves of characters
UNSEEN: Final = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})


def clean_label(label: str) -> str:
    """A class's name in Unicode's composed form, as it may be a folder; raises UnknownLabels."""
    text = unicodedata.normalize("NFC", label).strip()
    bad = (
        not text
        or len(text) > MOST
        or len(text.encode("utf-8", "surrogatepass")) > MOST_BYTES
        or text.startswith(".")
        or text == "__MACOSX"
        or any(c in "/\\" or unicodedata.category(c) in UNSEEN for c in text)
    )
    if bad:
        raise UnknownLabels(
            f"This cannot be the name of a class: {shown(label)!r}. A class has 1 to {MOST} visible "
            "characters, no slash, and does not begin with a dot.",
            labels=[shown(label)],
        )
    return text


def shown(name: str, most: int = SHOWN) -> str:
    """A stranger's name as it may stand in an answer or a log: escaped, and not too long."""
    text = "".join(
        c if unicodedata.category(c) not in UNSEEN else c.encode("unicode_escape").decode()
        for c in name[:most]
    )
    return text if len(name) <= most else text + "..."


def printable(text: str) -> str:
    """The text itself; raises ValueError where it holds what cannot be seen, or kept by the database."""
    if not text.isprintable():
        raise ValueError("holds characters that cannot be printed")
    return text
