"""Webhooks: who is told of each move of an order, and whether they heard it."""
