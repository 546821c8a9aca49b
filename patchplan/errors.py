"""What the front door says to a person instead of a traceback."""


class FrontDoorError(RuntimeError):
    """Something a person can mend; the message says how."""


class EmbeddedError(FrontDoorError):
    """An embedded service cannot start."""


class ServingError(FrontDoorError):
    """The service cannot start."""
