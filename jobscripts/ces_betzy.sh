#!/bin/bash
# Calibrate on Betzy (Sigma2), whose smallest job is four nodes of 128 cores: sbatch jobscripts/ces_betzy.sh [CONFIG]
# Site options can be given on the command line: sbatch --account=nn1234k --nodes=2 jobscripts/ces_betzy.sh my.yaml
#SBATCH --job-name=fatescal
#SBATCH --account=nn0000k
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=128
#SBATCH --time=1-00:00:00
#SBATCH --signal=B:USR1@600
#SBATCH --output=fatescal-%j.log

set -u
cd "${SLURM_SUBMIT_DIR:?start me with sbatch}" || exit 2 # $0 is the spool's copy
. jobscripts/common.sh
machine=${FATESCAL_MACHINE:-machines/betzy.yaml}
again=(jobscripts/ces_betzy.sh "$@")
run_in_jobs "$@"
