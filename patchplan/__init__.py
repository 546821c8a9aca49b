"""The front door: the ``patchplan`` command, the embedded services, the demo."""
