#!/bin/bash
# Cross-validate under PBS, a job for each fold:
# qsub -A UABC0001 -J 1-5 -v FATESCAL_FOLDS=5,FATESCAL_ARGUMENTS=my.yaml jobscripts/ces_folds_pbs.sh
# When all are done: python -m fatescal report RUN
#PBS -N fatescal-folds
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
# A task goes on alone, as a job that is no array: PBS knows no array of one.
export FATESCAL_FOLDS=${FATESCAL_FOLDS:?qsub -J 1-5 -v FATESCAL_FOLDS=5}
export FATESCAL_FOLD=${FATESCAL_FOLD:-${PBS_ARRAY_INDEX:-${PBS_ARRAYID:?qsub -J 1-$FATESCAL_FOLDS}}}
again=(jobscripts/ces_folds_pbs.sh)
# shellcheck disable=SC2086  # several arguments, several words
run_in_jobs ${FATESCAL_ARGUMENTS:-} --fold "$FATESCAL_FOLD/$FATESCAL_FOLDS"
