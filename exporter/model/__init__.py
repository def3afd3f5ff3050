"""The values that travel between the stages, one file per arrow; no behaviour beyond sums."""
