"""The ledger: every purchase, once and for good."""
