#!/bin/sh
#SBATCH --job-name=example
#SBATCH --ntasks=1
# The job requires no integration: the daemon measures its cgroup, and the prolog records its GPUs.
python3 -c 'sum(number**0.5 for number in range(30_000_000))'

# Print the usage of the job on this node. After the job, this works in any shell of the node.
emissions-exporter report --job-id "$SLURM_JOB_ID"
