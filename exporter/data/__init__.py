"""Bundled tables, each beside a note of its provenance."""
