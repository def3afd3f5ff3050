#!/bin/sh
# Epilog of slurmd: removes the file of a job that has ended on this node. Slurm runs epilogs
# without a PATH.
export PATH="${PATH:+$PATH:}/usr/bin:/bin"
case $SLURM_JOB_ID in
'' | *[!0-9]*) ;;
*) rm -f "${EMISSIONS_JOBS_DIRECTORY:-/run/emissions-exporter/jobs}/$SLURM_JOB_ID" ;;
esac
exit 0
