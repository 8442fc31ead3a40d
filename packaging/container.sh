#!/bin/sh
# Install the wheel of dist/ with Debian's Open MPI and its parallel HDF5: as root, in a Debian 12 or 13 that nothing
# else uses (containers; `make test-fresh` runs it too). The environment is /opt/fatescal/venv.
set -eu
here=$(cd "$(dirname "$0")/.." && pwd)
venv=/opt/fatescal/venv
constraints=$here/machines/constraints.txt
export DEBIAN_FRONTEND=noninteractive

apt-get -q update
apt-get -q install -y --no-install-recommends python3 python3-venv python3-dev gcc libc6-dev pkg-config \
    openmpi-bin libopenmpi-dev libhdf5-openmpi-dev git ca-certificates
python3 -m venv "$venv"
pip() { "$venv/bin/python" -m pip --disable-pip-version-check --no-input "$@"; }
pip install --upgrade pip
pip install -c "$constraints" numpy cython pkgconfig "setuptools>=77" wheel
MPICC=mpicc pip install -c "$constraints" --no-cache-dir --no-binary=mpi4py mpi4py
CC=mpicc HDF5_MPI=ON HDF5_DIR=$(dirname "$(dirname "$(ls /usr/lib/*/hdf5/openmpi/include/H5pubconf.h)")") \
    pip install -c "$constraints" --no-build-isolation --no-cache-dir --no-deps --no-binary=h5py h5py
pip install -c "$constraints" "$here"/dist/fatescal-*.whl
apt-get clean
