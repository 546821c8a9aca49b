"""Which code made a release."""

from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[1]


def commit(checkout: Path = CHECKOUT) -> str | None:
    """The commit that is checked out, in hex; None outside a checkout, as in an image."""
    git = checkout / ".git"
    try:
        if git.is_file():  # a worktree's points at its own folder
            git = (checkout / git.read_text().removeprefix("gitdir:").strip()).resolve()
        head = (git / "HEAD").read_text().strip()
        if not head.startswith("ref:"):
            return head
        return _of_branch(git, head.removeprefix("ref:").strip())
    except OSError:
        return None


def _of_branch(git: Path, name: str) -> str | None:
    common = git / "commondir"
    if common.is_file():
        git = (git / common.read_text().strip()).resolve()
    if (git / name).is_file():
        return (git / name).read_text().strip()
    packed = git / "packed-refs"
    for line in packed.read_text().splitlines() if packed.is_file() else ():
        value, _, ref = line.partition(" ")
        if ref == name:
            return value
    return None
