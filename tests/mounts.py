"""Disks that are not mounted."""

from collections.abc import Callable
from pathlib import Path


def unmount(folder: Path) -> Callable[[], None]:
    """Put a bare mount point in the place of ``folder``; what is returned mounts it again.

    That fails where something was written to the bare mount point.
    """
    disk = folder.with_name(f"{folder.name}-disk")
    folder.rename(disk)
    folder.mkdir()

    def mount() -> None:
        folder.rmdir()
        disk.rename(folder)

    return mount
