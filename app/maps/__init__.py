"""Drawings of plans: which patches to buy, at a glance."""
