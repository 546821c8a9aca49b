"""Budgets: the most expected accuracy for a sum of money, over many plans."""
