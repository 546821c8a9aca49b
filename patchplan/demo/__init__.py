"""The demo: the main job over HTTP, as a client does it, with a service of its own that ends with it."""

from patchplan.demo.run import main

__all__ = ["main"]
