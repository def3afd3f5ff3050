#!/bin/sh
# Prolog of slurmd, as root on each node of a job: writes down whose the job is and which GPUs it
# was given. A job never fails for it.
directory=${EMISSIONS_JOBS_DIRECTORY:-/run/emissions-exporter/jobs}

say() {
    echo "emissions-exporter prolog: $*" >&2
    logger -t emissions-exporter "prolog of job ${SLURM_JOB_ID:-?}: $*" 2>/dev/null
}

# index and UUID of each GPU, a line each
gpus() {
    smi=$(command -v nvidia-smi || ls /usr/bin/nvidia-smi 2>/dev/null)
    if [ -n "$smi" ]; then
        timeout 10 "$smi" --query-gpu=index,uuid --format=csv,noheader && return
    fi
    # The kernel module tells it too, unless the card is asleep.
    awk -F ':[ \t]*' '
        /^GPU UUID/ { uuid = $2 }
        /^Device Minor/ { if (uuid !~ /\?/) print $2 ", " uuid }
    ' /proc/driver/nvidia/gpus/*/information 2>/dev/null
}

# "0,2-3" as a line each
each() {
    echo "$1" | tr ',' '\n' | awk -F - '
        /^[0-9]+$/ { print $1 }
        /^[0-9]+-[0-9]+$/ { for (i = $1; i <= $2; i++) print i }
    '
}

uuids() {
    [ -n "$SLURM_JOB_GPUS" ] || return
    known=$(gpus)
    for index in $(each "$SLURM_JOB_GPUS"); do
        uuid=$(echo "$known" | awk -F ', *' -v wanted="$index" '$1 == wanted { print $2 }')
        if [ -n "$uuid" ]; then
            printf '%s,' "$uuid"
        else
            say "GPU $index has no UUID that is known; is nvidia-smi in the PATH of slurmd?"
        fi
    done
}

line() {
    printf '%s=%s\n' "$1" "$(printf %s "$2" | tr -d '\000-\037')"
}

write() {
    umask 022
    mkdir -p "$directory" || return
    uuids_of_job=$(uuids)
    {
        line job_id "$SLURM_JOB_ID"
        line array_job_id "$SLURM_ARRAY_JOB_ID"
        line array_task_id "$SLURM_ARRAY_TASK_ID"
        line uid "${SLURM_JOB_UID:-$SLURM_UID}"
        line user "$SLURM_JOB_USER"
        line account "$SLURM_JOB_ACCOUNT"
        line name "$SLURM_JOB_NAME"
        line nodes "${SLURM_JOB_NUM_NODES:-$SLURM_NNODES}"
        line gpus "${uuids_of_job%,}"
    } >"$directory/.$SLURM_JOB_ID.$$" && mv "$directory/.$SLURM_JOB_ID.$$" "$directory/$SLURM_JOB_ID"
}

case $SLURM_JOB_ID in
'' | *[!0-9]*) say "no job id; nothing is written" ;;
*) write || say "$directory cannot be written" ;;
esac
exit 0
