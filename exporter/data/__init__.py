"""Bundled tables, each beside a note of its provenance."""

from pathlib import Path

DIRECTORY = Path(__file__).parent
"""Where they lie. `importlib.resources` would say the same, and cost a tenth of the start."""
