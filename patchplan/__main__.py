"""``python -m patchplan``."""

from patchplan.cli import main

if __name__ == "__main__":
    main()
