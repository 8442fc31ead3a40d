#!/bin/bash
# Calibrate on Derecho (NCAR): qsub -A UABC0001 -v FATESCAL_ARGUMENTS=my.yaml jobscripts/ces_derecho.sh
# Options on the command line go before those here: qsub -l select=2:ncpus=128:mpiprocs=128 -l walltime=06:00:00 ...
#PBS -N fatescal
#PBS -A UABC0000
#PBS -q main
#PBS -l select=4:ncpus=128:mpiprocs=128
#PBS -l walltime=12:00:00
#PBS -j oe

set -u
cd "${PBS_O_WORKDIR:?start me with qsub}" || exit 2
. jobscripts/common.sh
machine=${FATESCAL_MACHINE:-machines/derecho.yaml}
MPIRUN=${MPIRUN:-mpiexec} # of cray-pals
again=(jobscripts/ces_derecho.sh)
# shellcheck disable=SC2086  # several arguments, several words
run_in_jobs ${FATESCAL_ARGUMENTS:-}
