"""What stops the demo."""

from patchplan.errors import FrontDoorError


class DemoError(FrontDoorError):
    """The demo cannot go on; the message says why."""
