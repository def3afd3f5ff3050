"""HTTP: the server and its limits, its listeners, and what is at which path."""
