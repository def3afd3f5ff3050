"""One file per source of readings."""
