"""attribute: whose energy it was."""
