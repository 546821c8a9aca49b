"""Training runs: a dataset and a recipe in, a release out."""
