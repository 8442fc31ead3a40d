#!/bin/bash
# Calibrate on Fram (Sigma2): sbatch jobscripts/ces_fram.sh [CONFIG]
# Site options can be given on the command line: sbatch --account=nn1234k --nodes=2 jobscripts/ces_fram.sh my.yaml
#SBATCH --job-name=fatescal
#SBATCH --account=nn0000k
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=32
#SBATCH --time=1-00:00:00
#SBATCH --signal=B:USR1@600
#SBATCH --output=fatescal-%j.log

set -u
cd "${SLURM_SUBMIT_DIR:?start me with sbatch}" || exit 2
config=("$@")

if command -v module >/dev/null; then
    module --quiet purge
    # shellcheck disable=SC2086  # several modules, several words
    module load ${FATESCAL_MODULES:-Python/3.11.5-GCCcore-13.2.0 OpenMPI/4.1.6-GCC-13.2.0} || exit 2
fi
. .venv/bin/activate || { echo "no .venv here: run make setup first" >&2; exit 2; }

mpirun -n "${SLURM_NTASKS:?}" python -m fatescal run "${config[@]}" &
program=$!
trap 'kill -USR1 "$program"' USR1 # ten minutes before the end: stop cleanly
while wait "$program"; code=$?; [ "$code" -gt 128 ] && kill -0 "$program" 2>/dev/null; do :; done

jobs=$((${FATESCAL_JOBS:-10} - 1)) # how many more jobs this run may take: a run that never advances must end
if [ "$code" -eq 75 ] && [ "$jobs" -gt 0 ]; then # go on in a new job ($0 is the spool's copy, hence the path)
    sbatch --account="$SLURM_JOB_ACCOUNT" --export="ALL,FATESCAL_JOBS=$jobs" jobscripts/ces_fram.sh "${config[@]}"
fi
exit "$code"
