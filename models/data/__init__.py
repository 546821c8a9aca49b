"""Labelled pictures in, tensors out: where images come from, how they are split, shrunk and loaded."""
