"""What programs import to name their runs; imports nothing else of this package."""
