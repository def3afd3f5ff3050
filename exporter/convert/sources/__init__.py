"""Sources of grid carbon intensity, one module each."""
