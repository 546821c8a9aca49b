"""The backtest: what HR imagery one already owns would have cost, had a plan bought it."""

from patchplan.backtest.run import main

__all__ = ["main"]
