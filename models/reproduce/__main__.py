"""`python -m models.reproduce`."""

import sys

from models.reproduce.command import main

sys.exit(main())
