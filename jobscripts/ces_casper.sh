#!/bin/bash
# Calibrate on Casper (NCAR): qsub -A UABC0001 -v FATESCAL_ARGUMENTS=my.yaml jobscripts/ces_casper.sh
# Options on the command line go before those here: qsub -l select=1:ncpus=16:mpiprocs=16:mem=32GB -l walltime=06:00:00 ...
#PBS -N fatescal
#PBS -A UABC0000
#PBS -q casper
#PBS -l select=1:ncpus=32:mpiprocs=32:mem=64GB
#PBS -l walltime=12:00:00
#PBS -j oe

set -u
cd "${PBS_O_WORKDIR:?start me with qsub}" || exit 2
. jobscripts/common.sh
machine=${FATESCAL_MACHINE:-machines/casper.yaml}
MPIRUN=${MPIRUN:-mpirun}
again=(jobscripts/ces_casper.sh)
# shellcheck disable=SC2086  # several arguments, several words
run_in_jobs ${FATESCAL_ARGUMENTS:-}
