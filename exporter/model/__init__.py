"""Data types passed between the stages, one module per pair of stages; only sums as behavior."""
