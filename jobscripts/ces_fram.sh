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
cd "${SLURM_SUBMIT_DIR:?start me with sbatch}" || exit 2 # $0 is the spool's copy
. jobscripts/common.sh
machine=${FATESCAL_MACHINE:-machines/fram.yaml}
again=(jobscripts/ces_fram.sh "$@")
run_in_jobs "$@"
