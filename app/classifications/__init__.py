"""Classifications: what is there, from the patches bought and the LR image."""
