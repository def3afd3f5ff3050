"""Runs against each other: what each used, what came of it, and which are worth their grams."""
