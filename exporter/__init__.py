"""Measures what a machine's work costs the climate, and says so to Prometheus."""

__version__ = "0.1.0"
