"""What learns and decides: the grid, the networks, the two-step decision, training, evaluation."""
