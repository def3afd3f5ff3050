"""A real Prometheus over made-up nodes, for the dashboards."""
