"""One file per source of grid intensity."""
