"""Servers of grid intensity, as far as clients see them."""
