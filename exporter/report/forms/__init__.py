"""Output formats of records, one module per format."""
