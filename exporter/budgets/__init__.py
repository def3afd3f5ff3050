"""Emission budgets over many nodes: a file of them, made into rules and alerts for Prometheus."""
