#!/bin/sh
# What CTSM needs to be compiled with mpi-serial, as root on Debian 12 or 13: compilers, CIME's Perl and Python, netCDF for
# C and Fortran under one prefix (NETCDF_PATH=/opt/netcdf), ESMF without MPI (ESMFMKFILE=/opt/esmf/lib/esmf.mk).
# ESMF is compiled, which takes long; ESMF_SOURCE names a checkout or another repository, JOBS the compilers at once.
set -eu
export DEBIAN_FRONTEND=noninteractive
apt-get -q update
apt-get -q install -y --no-install-recommends gcc g++ gfortran make cmake git subversion python3 perl libxml-libxml-perl \
    libxml2-utils libnetcdf-dev libnetcdff-dev netcdf-bin liblapack-dev libblas-dev csh bc rsync ca-certificates

# Debian keeps headers and libraries apart; CIME wants one prefix.
mkdir -p /opt/netcdf/include /opt/netcdf/lib /opt/netcdf/bin
ln -sf "$(nf-config --includedir)"/*.mod "$(nf-config --includedir)"/netcdf.inc /opt/netcdf/include/
ln -sf /usr/include/netcdf*.h /opt/netcdf/include/
for library in netcdf netcdff; do
    ln -sf /usr/lib/*/lib$library.so* /opt/netcdf/lib/
done
ln -sf "$(command -v nc-config)" "$(command -v nf-config)" /opt/netcdf/bin/

if [ ! -f /opt/esmf/lib/esmf.mk ]; then
    source=${ESMF_SOURCE:-https://github.com/esmf-org/esmf}
    work=$(mktemp -d)
    git clone --quiet --depth 1 --branch "${ESMF_TAG:-v8.8.1}" "$source" "$work/esmf"
    export ESMF_DIR="$work/esmf" ESMF_COMPILER=gfortran ESMF_COMM=mpiuni ESMF_BOPT=O ESMF_PIO=OFF ESMF_LAPACK=system \
        ESMF_NETCDF=nc-config ESMF_NFCONFIG=nf-config ESMF_INSTALL_PREFIX=/opt/esmf ESMF_INSTALL_LIBDIR=/opt/esmf/lib \
        ESMF_INSTALL_MODDIR=/opt/esmf/mod ESMF_INSTALL_HEADERDIR=/opt/esmf/include ESMF_INSTALL_BINDIR=/opt/esmf/bin
    make -C "$ESMF_DIR" -j "${JOBS:-$(nproc)}" lib
    make -C "$ESMF_DIR" install
    rm -rf "$work"
fi
