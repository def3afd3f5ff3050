#!/bin/sh
#SBATCH --job-name=example
#SBATCH --ntasks=1
# A job needs nothing of ours: its energy is found by its cgroup, its GPUs by the prolog.
python3 -c 'sum(number**0.5 for number in range(30_000_000))'

# What it has used so far on this node; afterwards the same works from any shell of the node.
emissions-exporter report --job-id "$SLURM_JOB_ID"
