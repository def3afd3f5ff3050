"""expose: the state of a tick as pages, answers and streams."""
