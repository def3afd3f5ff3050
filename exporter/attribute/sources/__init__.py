"""Sources of workload: processes, cgroups, schedulers."""
