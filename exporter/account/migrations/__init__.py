"""The ledger's schema, one file per version."""
