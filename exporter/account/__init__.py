"""Accounting stage: running totals in memory, the journal and the ledger."""
