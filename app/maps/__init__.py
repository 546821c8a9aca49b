"""Drawings of plans: which patches to buy, at a glance."""

from app.maps.preview import Layer, render_preview

__all__ = ["Layer", "render_preview"]
