#!/bin/bash
# Calibrate on a workstation or server with Slurm: sbatch jobscripts/ces_local.sh [CONFIG]
# Site options can be given on the command line: sbatch --ntasks-per-node=4 jobscripts/ces_local.sh my.yaml
#SBATCH --job-name=fatescal
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=8
#SBATCH --time=7-00:00:00
#SBATCH --signal=B:USR1@600
#SBATCH --output=fatescal-%j.log

set -u
cd "${SLURM_SUBMIT_DIR:?start me with sbatch}" || exit 2 # $0 is the spool's copy
. jobscripts/common.sh
machine=${FATESCAL_MACHINE:-machines/local.yaml}
again=(jobscripts/ces_local.sh "$@")
run_in_jobs "$@"
