#!/bin/bash
# Cross-validate, a job for each fold: sbatch --array=1-5 jobscripts/ces_folds.sh CONFIG; then: python -m fatescal report RUN
#SBATCH --job-name=fatescal-folds
#SBATCH --account=nn0000k
#SBATCH --array=1-5
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=32
#SBATCH --time=1-00:00:00
#SBATCH --signal=B:USR1@600
#SBATCH --output=fatescal-%A-%a.log

set -u
cd "${SLURM_SUBMIT_DIR:?start me with sbatch}" || exit 2 # $0 is the spool's copy
. jobscripts/common.sh
machine=${FATESCAL_MACHINE:-machines/fram.yaml}
export FATESCAL_FOLDS=${FATESCAL_FOLDS:-$SLURM_ARRAY_TASK_COUNT} # a task that goes on alone is still one of so many
again=(jobscripts/ces_folds.sh "$@")
run_in_jobs "$@" --fold "$SLURM_ARRAY_TASK_ID/$FATESCAL_FOLDS"
