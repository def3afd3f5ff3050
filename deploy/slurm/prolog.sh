#!/bin/sh
# Prolog of slurmd, run as root on each node of a job: writes the job's user, account and allocated
# GPUs to a file. It always exits with 0, so that it never fails a job.
directory=${EMISSIONS_JOBS_DIRECTORY:-/run/emissions-exporter/jobs}
# Slurm runs prologs without a PATH.
export PATH="${PATH:+$PATH:}/usr/local/bin:/usr/bin:/bin"

log() {
    echo "emissions-exporter prolog: $*" >&2
    logger -t emissions-exporter "prolog of job ${SLURM_JOB_ID:-?}: $*" 2>/dev/null
}

# Bus address, UUID, index and MIG mode, one GPU per line. NVML indices are in PCI bus order.
# A hanging driver cannot be waited for, not even with a signal that ends the process: it stays in
# uninterruptible sleep. So nvidia-smi writes to a file, and is left behind after ten seconds.
by_nvml() {
    output=$directory/.nvidia-smi.$$
    nvidia-smi --query-gpu=pci.bus_id,uuid,index,mig.mode.current --format=csv,noheader \
        >"$output" 2>/dev/null </dev/null &
    rest=100
    while kill -0 $! 2>/dev/null && [ $rest -gt 0 ]; do
        sleep 0.1
        rest=$((rest - 1))
    done
    if [ $rest -gt 0 ]; then
        cat "$output"
    else
        kill -9 $!
        log "nvidia-smi did not answer within ten seconds"
    fi
    rm -f "$output"
}

# Bus address, UUID and minor number, one GPU per line. The UUID of a suspended GPU consists of
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

# Index, minor number and UUID, one GPU per line; "-" for an unknown value. Without nvidia-smi the
# index is the position in PCI bus order.
table_of() {
    printf '%s\n\n%s\n' "$1" "$2" | awk -F ', *' '
        $1 == "" { is_proc = 1; next }
        !is_proc && $2 !~ /^GPU-/ || is_proc && $3 !~ /^[0-9]+$/ { next } # an error message
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

# uuid_of COLUMN NUMBER TABLE: UUID of the GPU with this index (column 1) or minor number (2)
uuid_of() {
    echo "$3" | awk -v column="$1" -v number="$2" '$column == number && $3 != "-" { print $3 }'
}

# Expand "0,2-3" to one number per line.
each() {
    echo "$1" | tr ',' '\n' | awk -F - '
        /^[0-9]+$/ { print $1 }
        /^[0-9]+-[0-9]+$/ { for (i = $1; i <= $2; i++) print i }
    '
}

# Meaning of the numbers in SLURM_JOB_GPUS: they are positions in slurmd's list of GPUs, which is in
# the order of the vendor's library with AutoDetect (`index`), else sorted by device file (`minor` of
# /dev/nvidia0 and so on, `render` of /dev/dri/renderD128 and so on). `mixed` if the node has GPUs of
# several vendors. Empty if gres.conf, which may describe other nodes too, does not determine it.
# numbering TABLE: the table of NVIDIA GPUs
numbering() {
    case $EMISSIONS_GPU_NUMBERS in
    '') ;;
    index | minor)
        echo "$EMISSIONS_GPU_NUMBERS"
        return
        ;;
    *)
        log "EMISSIONS_GPU_NUMBERS is '$EMISSIONS_GPU_NUMBERS', which is neither index nor minor;" \
            "gres.conf is used instead"
        ;;
    esac
    conf=${SLURM_CONF:-/etc/slurm/slurm.conf}
    gres=$(sed 's/#.*//; s/[[:blank:]]//g' "${conf%/*}/gres.conf" 2>/dev/null |
        tr 'A-Z' 'a-z' | grep 'autodetect=\|file=')
    drivers=${EMISSIONS_PCI_DRIVERS_DIRECTORY:-/sys/bus/pci/drivers}
    others=$(ls -d "$drivers"/amdgpu/*:* "$drivers"/i915/*:* "$drivers"/xe/*:* 2>/dev/null)
    echo "$gres" | awk -v has_nvidia=$((${#1} > 0)) -v has_others=$((${#others} > 0)) '
        !NF { next }
        { kind = "minor"; vendor = "nvidia" }
        /autodetect=nvml/ { kind = "index" }
        /autodetect=(rsmi|amdsmi)/ { kind = "index"; vendor = "amd" }
        /autodetect=oneapi/ { kind = "index"; vendor = "intel" }
        /file=\/dev\/dri\/renderd/ { kind = "render"; vendor = "amd or intel" }
        has_nvidia != has_others && has_nvidia != (vendor == "nvidia") { next } # of another node
        { kinds[kind]; vendors[vendor] }
        END {
            for (kind in kinds) { only = kind; kind_count++ }
            for (vendor in vendors) vendor_count++
            if (vendor_count > 1) print "mixed"
            else if (kind_count == 1) print only
        }
    '
}

# Resolve a number of slurmd to a GPU. An ambiguous number is omitted: no GPU is better than a wrong
# one.
resolved() {
    index=$(uuid_of 1 "$1" "$table") minor=$(uuid_of 2 "$1" "$table")
    case $numbers in
    index) echo "${index:-$1}" ;; # without a UUID the daemon resolves the number
    minor) echo "${minor:-nvidia$1}" ;;
    render) echo "renderD$((128 + $1))" ;;
    mixed) log "GPU $1 is ambiguous: this node has GPUs of several vendors" ;;
    *)
        if [ -n "$index" ] && [ "$index" = "$minor" ]; then
            echo "$index"
        elif [ -z "$index$minor" ]; then
            log "the UUID of GPU $1 is unknown; check that nvidia-smi works"
        else
            log "GPU $1 is ambiguous: ${index:-unknown} by index," \
                "${minor:-unknown} by minor number; set EMISSIONS_GPU_NUMBERS, see the README"
        fi
        ;;
    esac
}

# The job's GPUs, one per line. CUDA_VISIBLE_DEVICES has the UUIDs known to Slurm, also of MIG
# instances, at the same positions as the numbers in SLURM_JOB_GPUS.
job_gpus() {
    [ -n "$SLURM_JOB_GPUS" ] || return
    nvml=$(by_nvml) place=0
    table=$(table_of "$nvml" "$(by_proc)")
    numbers=$(numbering "$table")
    for number in $(each "$SLURM_JOB_GPUS"); do
        place=$((place + 1))
        given=$(echo "$CUDA_VISIBLE_DEVICES," | cut -d , -f "$place")
        case "$given $nvml" in
        GPU-* | MIG-*) echo "$given" ;;
        *Enabled*) log "MIG is enabled on a GPU, so the number $number cannot be resolved" ;;
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
'' | *[!0-9]*) log "SLURM_JOB_ID is not a number; no job file written" ;;
*) write || log "cannot write the job file to $directory" ;;
esac
exit 0
