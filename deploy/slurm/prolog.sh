#!/bin/sh
# Prolog of slurmd, as root on each node of a job: writes down whose the job is and which GPUs it
# was given. A job never fails for it.
directory=${EMISSIONS_JOBS_DIRECTORY:-/run/emissions-exporter/jobs}
# Slurm runs prologs without a PATH. Exported, so that timeout finds nvidia-smi as well.
export PATH="${PATH:+$PATH:}/usr/local/bin:/usr/bin:/bin"

say() {
    echo "emissions-exporter prolog: $*" >&2
    logger -t emissions-exporter "prolog of job ${SLURM_JOB_ID:-?}: $*" 2>/dev/null
}

# Bus address, UUID, index and MIG mode of each GPU, a line each. NVML numbers along the PCI bus.
by_nvml() {
    timeout 10 nvidia-smi --query-gpu=pci.bus_id,uuid,index,mig.mode.current \
        --format=csv,noheader 2>/dev/null
}

# Bus address, UUID and minor number of each GPU, a line each; the UUID of one that is asleep has
# question marks.
by_proc() {
    for file in "${EMISSIONS_DRIVER_DIRECTORY:-/proc/driver/nvidia}"/gpus/*/information; do
        bus=${file%/information}
        awk -F ':[ \t]*' -v bus="${bus##*/}" '
            /^GPU UUID/ && !/\?/ { uuid = $2 }
            /^Device Minor/ { print bus ", " uuid ", " $2 }
        ' "$file" 2>/dev/null
    done
}

# Index, minor number and UUID of each GPU, a line each; "-" for what is not known. Without
# nvidia-smi its index is its place on the bus.
table_of() {
    printf '%s\n\n%s\n' "$1" "$2" | awk -F ', *' '
        $1 == "" { is_proc = 1; next }
        !is_proc && $2 !~ /^GPU-/ || is_proc && $3 !~ /^[0-9]+$/ { next } # a message of an error
        { bus = tolower($1); sub(/^0+/, "", bus) }
        !(bus in uuid) { order[++count] = bus }
        $2 != "" { uuid[bus] = $2 }
        !is_proc { index_of[bus] = $3; by_nvml = 1 }
        is_proc { minor[bus] = $3; place[bus] = places++ }
        function known(text) { return text == "" ? "-" : text }
        END {
            for (i = 1; i <= count; i++) {
                bus = order[i]
                number = by_nvml ? index_of[bus] : place[bus]
                print known(number), known(minor[bus]), known(uuid[bus])
            }
        }
    '
}

# UUID of the GPU with a number: in which column (1 index, 2 minor number) of which table
uuid_of() {
    echo "$3" | awk -v column="$1" -v number="$2" '$column == number && $3 != "-" { print $3 }'
}

# "0,2-3" as a line each
each() {
    echo "$1" | tr ',' '\n' | awk -F - '
        /^[0-9]+$/ { print $1 }
        /^[0-9]+-[0-9]+$/ { for (i = $1; i <= $2; i++) print i }
    '
}

# What SLURM_JOB_GPUS counts: places in the list of slurmd, which is sorted along the PCI bus with
# AutoDetect=nvml, else by the names of the device files. "": gres.conf does not tell.
numbering() {
    case $EMISSIONS_GPU_NUMBERS in
    '') ;;
    index | minor)
        echo "$EMISSIONS_GPU_NUMBERS"
        return
        ;;
    *)
        say "EMISSIONS_GPU_NUMBERS is '$EMISSIONS_GPU_NUMBERS', which is neither index nor minor;" \
            "gres.conf is read instead"
        ;;
    esac
    conf=${SLURM_CONF:-/etc/slurm/slurm.conf}
    gres=$(sed 's/#.*//; s/[[:blank:]]//g' "${conf%/*}/gres.conf" 2>/dev/null |
        tr 'A-Z' 'a-z' | grep 'autodetect=\|file=')
    case $gres in
    '') ;;
    *autodetect=nvml*) [ -n "$(echo "$gres" | grep -v autodetect=nvml)" ] || echo index ;;
    *) echo minor ;;
    esac
}

# The GPU with a number of slurmd. A wrong GPU is worse than none.
resolved() {
    index=$(uuid_of 1 "$1" "$table") minor=$(uuid_of 2 "$1" "$table")
    case $numbers in
    index) echo "${index:-$1}" ;; # without a UUID the daemon finds it by the number
    minor) echo "${minor:-nvidia$1}" ;;
    *)
        if [ -n "$index" ] && [ "$index" = "$minor" ]; then
            echo "$index"
        elif [ -z "$index$minor" ]; then
            say "GPU $1 has no UUID that is known; does nvidia-smi work?"
        else
            say "GPU $1 may be ${index:-unknown} by index or ${minor:-unknown} by minor number;" \
                "set EMISSIONS_GPU_NUMBERS, see the README"
        fi
        ;;
    esac
}

# The job's GPUs, a line each. In CUDA_VISIBLE_DEVICES Slurm gives the UUIDs that it knows, those of
# MIG instances among them, at the same places as the numbers.
job_gpus() {
    [ -n "$SLURM_JOB_GPUS" ] || return
    nvml=$(by_nvml) numbers=$(numbering) place=0
    table=$(table_of "$nvml" "$(by_proc)")
    for number in $(each "$SLURM_JOB_GPUS"); do
        place=$((place + 1))
        given=$(echo "$CUDA_VISIBLE_DEVICES," | cut -d , -f "$place")
        case "$given $nvml" in
        GPU-* | MIG-*) echo "$given" ;;
        *Enabled*) say "a GPU is split by MIG, so the number $number names no GPU" ;;
        *) resolved "$number" ;;
        esac
    done
}

line() {
    printf '%s=%s\n' "$1" "$(printf %s "$2" | tr -d '\000-\037\177')"
}

write() {
    umask 022
    mkdir -p "$directory" || return
    gpus_of_job=$(job_gpus | tr '\n' ',')
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
        line gpus "${gpus_of_job%,}"
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
