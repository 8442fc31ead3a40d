# shellcheck shell=bash disable=SC2154
# Shared by the job scripts, which source it: not for submission.

# run_in_jobs ARGUMENTS...: `fatescal run ARGUMENTS` on all tasks of this job, on the machine `machine`. When the wall time ends first, the script and
# arguments of the array `again` are submitted in turn, unless this job brought the run no further.
run_in_jobs() {
    local before program code
    environment
    set -- "$@" --machine "$machine"
    before=$(python -m fatescal status "$@" 2>&1)
    "${MPIRUN:-mpirun}" -n "${SLURM_NTASKS:?}" python -m fatescal run "$@" &
    program=$!
    trap 'kill -USR1 "$program"' USR1 # before the wall time ends: stop cleanly
    while wait "$program"; code=$?; [ "$code" -gt 128 ] && kill -0 "$program" 2>/dev/null; do :; done
    if [ "$code" -eq 75 ]; then
        if [ "$(python -m fatescal status "$@" 2>&1)" = "$before" ]; then
            echo "fatescal: no member and no stage was finished, so no further job is submitted. Ask for more --time." >&2
        else
            submit_again
        fi
    fi
    exit "$code"
}

# What was given to sbatch on the command line is not in the script. A task of an array goes on alone.
submit_again() {
    local limit
    limit=$(scontrol show job "$SLURM_JOB_ID" | sed -n 's/.*TimeLimit=\([^ ]*\).*/\1/p')
    sbatch --account="$SLURM_JOB_ACCOUNT" --partition="$SLURM_JOB_PARTITION" --nodes="$SLURM_JOB_NUM_NODES" \
        --ntasks-per-node="${SLURM_NTASKS_PER_NODE%%(*}" --time="$limit" \
        ${SLURM_ARRAY_TASK_ID:+--array="$SLURM_ARRAY_TASK_ID"} "${again[@]}"
}

# Modules, where there are any, and the virtual environment that `make setup` made.
environment() {
    local modules
    modules=$(sed -n 's/^modules: *"\{0,1\}\([^"#]*\).*/\1/p' "$machine") || { echo "no $machine in $PWD: submit from the checkout" >&2; exit 2; }
    if command -v module >/dev/null && [ -n "$modules" ]; then
        module --quiet purge
        # shellcheck disable=SC2086  # several modules, several words
        module load $modules || exit 2
    fi
    . .venv/bin/activate || { echo "no .venv in $PWD: run make setup first, and submit from there" >&2; exit 2; }
    # shellcheck disable=SC1091
    [ ! -f .venv/mpi.env ] || . .venv/mpi.env
}
