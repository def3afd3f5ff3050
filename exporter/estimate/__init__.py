"""Emissions of work that nobody measured, from the limits of its hardware."""
