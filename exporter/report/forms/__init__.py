"""One file per form."""
