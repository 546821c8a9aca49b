"""Releases: the trained networks a plan can be made with, by their cards."""
