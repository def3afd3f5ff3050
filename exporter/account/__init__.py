"""account: totals that survive."""
