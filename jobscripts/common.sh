# shellcheck shell=bash disable=SC2154
# Shared by the job scripts, which source it: not for submission.

# run_in_jobs ARGUMENTS...: `fatescal run ARGUMENTS` on all tasks of this job, on the machine `machine`. When the wall
# time ends first, the script and arguments of the array `again` are submitted in turn, unless this job made no progress.
run_in_jobs() {
    local before program code
    environment
    set -- "$@" --machine "$machine"
    before=$(python -m fatescal status "$@" 2>&1)
    $(signal_before_the_end) "${MPIRUN:-mpirun}" -n "$(n_tasks)" python -m fatescal run "$@" &
    program=$!
    trap 'kill -USR1 "$program"' USR1 # before the wall time ends: stop cleanly
    while wait "$program"; code=$?; [ "$code" -gt 128 ] && kill -0 "$program" 2>/dev/null; do :; done
    [ "$code" -ne 124 ] || code=75 # `timeout` has sent the signal, and does not say how the program ended
    if [ "$code" -eq 75 ]; then
        if [ "$(python -m fatescal status "$@" 2>&1)" = "$before" ]; then
            echo "fatescal: no member and no stage was finished, so no further job is submitted. Ask for more time." >&2
        else
            submit_again
        fi
    fi
    exit "$code"
}

# What was given to sbatch or qsub on the command line is not in the script. A task of an array goes on alone.
submit_again() {
    if [ -n "${SLURM_JOB_ID:-}" ]; then
        local limit
        limit=$(scontrol show job "$SLURM_JOB_ID" | sed -n 's/.*TimeLimit=\([^ ]*\).*/\1/p')
        sbatch --account="$SLURM_JOB_ACCOUNT" --partition="$SLURM_JOB_PARTITION" --nodes="$SLURM_JOB_NUM_NODES" \
            --ntasks-per-node="${SLURM_NTASKS_PER_NODE%%(*}" --time="$limit" \
            ${SLURM_ARRAY_TASK_ID:+--array="$SLURM_ARRAY_TASK_ID"} "${again[@]}"
    else
        local account variables name
        account=$(of_job Account_Name)
        for name in FATESCAL_ARGUMENTS FATESCAL_MACHINE FATESCAL_FOLDS FATESCAL_FOLD; do
            [ -z "${!name:-}" ] || variables=${variables:+$variables,}$name=${!name}
        done
        qsub ${account:+-A "$account"} -q "${PBS_O_QUEUE:-$(of_job queue)}" \
            -l "$(nodes_of_job),walltime=$(of_job Resource_List.walltime)" -N "$PBS_JOBNAME" \
            ${variables:+-v "$variables"} "${again[0]}"
    fi
}

# The nodes of this job as qsub takes them: those asked for, or where the server does not say those it has.
nodes_of_job() {
    local select n_nodes n_each
    select=$(of_job Resource_List.select)
    n_nodes=$(sort -u "${PBS_NODEFILE:?}" | grep -c .)
    n_each=$(($(n_tasks) / n_nodes))
    echo "select=${select:-$n_nodes:ncpus=$n_each:mpiprocs=$n_each}"
}

# of_job ATTRIBUTE: what PBS knows of this job; long values go on in lines that begin with a tab, and so do all of some.
of_job() {
    qstat -f "$PBS_JOBID" | sed -E -e ':a' -e 'N' -e '$!ba' -e 's/\n\t([A-Za-z_.]+ = )/\n\1/g' -e 's/\n\t//g' |
        sed -n "s/^ *$1 = //p"
}

# The number of MPI ranks: Slurm's tasks, or a line each in PBS's list of nodes.
n_tasks() {
    if [ -n "${SLURM_JOB_ID:-}" ]; then echo "${SLURM_NTASKS:?}"; else grep -c . "${PBS_NODEFILE:?}"; fi
}

# PBS gives no early signal. fatescal asks it for the wall time; where it gets no answer, this signal ends the run: five
# minutes, or a twentieth, before the end.
signal_before_the_end() {
    [ -z "${SLURM_JOB_ID:-}" ] || return 0
    local hours minutes seconds whole
    IFS=: read -r hours minutes seconds <<<"$(of_job Resource_List.walltime)"
    [ -n "${seconds:-}" ] || return 0
    whole=$((10#$hours * 3600 + 10#$minutes * 60 + 10#$seconds))
    echo "timeout --signal=USR1 $((whole - (whole < 6000 ? whole / 20 : 300)))"
}

# Modules, where there are any, and the virtual environment that `make setup` made; without one, the environment from
# which the job was submitted.
environment() {
    local modules
    modules=$(sed -n 's/^modules: *"\{0,1\}\([^"#]*\).*/\1/p' "$machine") || { echo "no $machine in $PWD: submit from the checkout, or do fatescal files --copy . here" >&2; exit 2; }
    if command -v module >/dev/null && [ -n "$modules" ]; then
        module --quiet purge
        # shellcheck disable=SC2086  # several modules, several words
        module load $modules || exit 2
    fi
    if [ -f .venv/bin/activate ]; then
        . .venv/bin/activate
    elif ! python -c 'import fatescal' 2>/dev/null; then
        echo "no .venv in $PWD, and no fatescal for $(command -v python || echo python): run make setup, or activate where" \
            "fatescal is installed, and submit from there" >&2
        exit 2
    fi
    # shellcheck disable=SC1091
    [ ! -f .venv/mpi.env ] || . .venv/mpi.env
}
