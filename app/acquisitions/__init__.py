"""Acquisitions: HR pixels that arrived for patches of a plan."""
