#!/bin/sh
# SLURM as Snakemake's executor sees it, with one node: this machine. Linked under the name of each of its commands.
# Jobs run at once; FAKE_SLURM is the folder that keeps of each what it asked for, its name and its state.
set -eu

sbatch() {
    asked="$*"
    while [ $# -gt 0 ]; do
        case $1 in
        --job-name) name=$2; shift ;;
        --output) log=$2; shift ;;
        -D) folder=$2; shift ;;
        --wrap=*) command=${1#--wrap=} ;;
        esac
        shift
    done
    id=1
    until mkdir "$FAKE_SLURM/$id" 2>/dev/null; do id=$((id + 1)); done
    job=$FAKE_SLURM/$id
    echo "$name" >"$job/name"
    echo "${asked%% --wrap=*}" >"$job/asked"
    echo RUNNING >"$job/state"
    log=$(echo "$log" | sed "s/%j/$id/")
    export job command folder log SLURM_JOB_ID="$id"
    setsid sh -c 'cd "$folder"; sh -c "$command" && state=COMPLETED || state=FAILED; echo $state >"$job/state"' \
        >"$log" 2>&1 </dev/null &
    echo "$id"
}

sacct() {
    name=
    while [ $# -gt 0 ]; do
        case $1 in --name) name=$2; shift ;; esac
        shift
    done
    for job in "$FAKE_SLURM"/*/; do
        [ -n "$name" ] && [ "$(cat "$job/name")" = "$name" ] && echo "$(basename "$job")|$(cat "$job/state")"
    done
    return 0
}

case $(basename "$0") in
sbatch) sbatch "$@" ;;
sacct) sacct "$@" ;;
srun)
    while [ "${1#-}" != "$1" ]; do shift; done
    exec "$@"
    ;;
sinfo) printf 'PARTITION\nshort*\n' ;;
scontrol) echo "MaxArraySize = 1001" ;;
squeue | scancel | sacctmgr | sshare) ;;
esac
