"""Hugging Face model cards: emissions from a record, merging them into a card, and checks."""
