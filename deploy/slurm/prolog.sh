#!/bin/sh
# Prolog of slurmd, as root on each node of a job: writes down whose the job is and which GPUs it
# was given. A job never fails for it.
directory=${EMISSIONS_JOBS_DIRECTORY:-/run/emissions-exporter/jobs}
# Slurm runs prologs without a PATH.
PATH=${PATH:+$PATH:}/usr/local/bin:/usr/bin:/bin

say() {
    echo "emissions-exporter prolog: $*" >&2
    logger -t emissions-exporter "prolog of job ${SLURM_JOB_ID:-?}: $*" 2>/dev/null
}

# number, UUID and MIG mode of each GPU, a line each, numbered along the PCI bus
by_index() {
    timeout 10 nvidia-smi --query-gpu=index,uuid,mig.mode.current --format=csv,noheader 2>/dev/null
}

# number and UUID of each GPU, numbered as the device files are; not of a card that is asleep
by_minor() {
    awk -F ':[ \t]*' '
        FNR == 1 { uuid = "" }
        /^GPU UUID/ { uuid = $2 }
        /^Device Minor/ { if (uuid !~ /\?/) print $2 ", " uuid }
    ' /proc/driver/nvidia/gpus/*/information 2>/dev/null
}

uuid_of() {
    echo "$2" | awk -F ', *' -v wanted="$1" '$1 == wanted { print $2 }'
}

# "0,2-3" as a line each
each() {
    echo "$1" | tr ',' '\n' | awk -F - '
        /^[0-9]+$/ { print $1 }
        /^[0-9]+-[0-9]+$/ { for (i = $1; i <= $2; i++) print i }
    '
}

# What SLURM_JOB_GPUS counts depends on gres.conf: places on the PCI bus with AutoDetect=nvml, else
# the order of its lines, mostly that of the device files. A wrong GPU is worse than none.
uuids() {
    [ -n "$SLURM_JOB_GPUS" ] || return
    case $CUDA_VISIBLE_DEVICES in
    GPU-* | MIG-*)
        printf %s "$CUDA_VISIBLE_DEVICES"
        return
        ;;
    esac
    indices=$(by_index) minors=$(by_minor)
    case $indices in
    *Enabled*)
        say "a GPU is split by MIG, so the numbers $SLURM_JOB_GPUS name no GPUs"
        return
        ;;
    esac
    for number in $(each "$SLURM_JOB_GPUS"); do
        index=$(uuid_of "$number" "$indices") minor=$(uuid_of "$number" "$minors")
        case $EMISSIONS_GPU_NUMBERS in
        index) uuid=$index ;;
        minor) uuid=$minor ;;
        *) uuid=${index:-$minor} ;;
        esac
        if [ -z "$uuid" ]; then
            say "GPU $number has no UUID that is known; does nvidia-smi work?"
        elif [ -z "$EMISSIONS_GPU_NUMBERS" ] && [ "${minor:-$uuid}" != "$uuid" ]; then
            say "GPU $number may be $index or $minor; set EMISSIONS_GPU_NUMBERS, see the README"
        else
            printf '%s,' "$uuid"
        fi
    done
}

line() {
    printf '%s=%s\n' "$1" "$(printf %s "$2" | tr -d '\000-\037\177')"
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
        line partition "$SLURM_JOB_PARTITION"
        line nodes "${SLURM_JOB_NUM_NODES:-$SLURM_NNODES}"
        line gpus "${uuids_of_job%,}"
        line sluid "$SLURM_JOB_SLUID"
        line end_time "$SLURM_JOB_END_TIME"
        line boot_id "$(cat /proc/sys/kernel/random/boot_id 2>/dev/null)"
    } >"$directory/.$SLURM_JOB_ID.$$" && mv "$directory/.$SLURM_JOB_ID.$$" "$directory/$SLURM_JOB_ID"
}

case $SLURM_JOB_ID in
'' | *[!0-9]*) say "no job id; nothing is written" ;;
*) write || say "$directory cannot be written" ;;
esac
exit 0
