"""One of several processes that share a training: `python -m models.rank`, as `launch` starts it."""

import os
import sys

from models.parent import LAUNCHER, die_with_parent


def main() -> int:
    """Train, and end with the process that started this one."""
    # first, as loading torch takes seconds in which our parent may be killed
    die_with_parent(int(os.environ.get(LAUNCHER, os.getppid())))
    from models.train import main as train

    return train(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
