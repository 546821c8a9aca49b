"""Datasets: labelled pictures, read once into a snapshot that never changes."""
