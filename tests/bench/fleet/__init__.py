"""One real Prometheus that scrapes many simulated nodes; see docs/scale.md."""
