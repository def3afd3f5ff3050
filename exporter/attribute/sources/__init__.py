"""One file per source of workload."""
