#!/usr/bin/env bash
# A real Slurm of two nodes on this host, for tests: slurm_cluster.sh start|stop FOLDER. Needs root and the packages
# slurm-wlm and munge, but no systemd and no accounting. Clients find it by SLURM_CONF=FOLDER/slurm.conf.
# With slurm-wlm-torque it is a PBS too: what qsub puts in the queues `main` and `casper` finds in its environment what
# PBS gives a job, and nothing of Slurm.
set -euo pipefail
folder=$2

start() {
    mkdir -p "$folder"/state "$folder"/n1 "$folder"/n2
    if ! munge -n </dev/null 2>/dev/null | unmunge >/dev/null 2>&1; then
        [ -f /etc/munge/munge.key ] || mungekey --create
        mkdir -p /run/munge /var/log/munge /var/lib/munge
        chown -R munge: /run/munge /var/log/munge /var/lib/munge /etc/munge
        chmod 755 /run/munge
        runuser -u munge -- munged
    fi
    cat >"$folder/slurm.conf" <<CONF
ClusterName=fatescal
SlurmctldHost=$(hostname)(127.0.0.1)
SlurmctldPort=26817
SlurmUser=root
AuthType=auth/munge
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/%n
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/%n.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
ReturnToService=2
KillWait=5
NodeName=n1 NodeHostname=$(hostname) NodeAddr=127.0.0.1 Port=26818 CPUs=4 RealMemory=262144 State=UNKNOWN
NodeName=n2 NodeHostname=$(hostname) NodeAddr=127.0.0.1 Port=26819 CPUs=4 RealMemory=262144 State=UNKNOWN
PartitionName=normal Nodes=n1,n2 Default=YES MaxTime=INFINITE State=UP
PartitionName=main Nodes=n1,n2 MaxTime=INFINITE State=UP
PartitionName=casper Nodes=n1,n2 MaxTime=INFINITE State=UP
PlugStackConfig=$folder/plugstack.conf
TaskProlog=$folder/prolog.sh
CONF
    pbs_jobs
    export SLURM_CONF=$folder/slurm.conf
    slurmctld -i -f "$SLURM_CONF"
    slurmd -N n1 -f "$SLURM_CONF"
    slurmd -N n2 -f "$SLURM_CONF"
    for _ in $(seq 500); do
        [ "$(sinfo --noheader --states=idle --format=%D 2>/dev/null)" = 2 ] && return
        sleep 0.2
    done
    sinfo >&2
    tail -n 5 "$folder"/*.log >&2
    exit 1
}

# Variables of the other scheduler are taken away. qsub -v passes nothing of the submitter on, as PBS does: what the
# tests need (many ranks on few cores, the package under test) is the cluster's own.
pbs_jobs() {
    echo "optional spank_pbs.so" >"$folder/plugstack.conf"
    cat >"$folder/prolog.sh" <<'PROLOG'
#!/bin/sh
other=SLURM
[ "$SLURM_JOB_PARTITION" != normal ] || other=PBS
env | sed -n "s/^\\(${other}[A-Z]*_[A-Z_]*\\)=.*/unset \\1/p"
if [ $other = SLURM ]; then
    echo "export PBS_NODEFILE=$(generate_pbs_nodefile)"
    [ -z "${SLURM_ARRAY_TASK_ID:-}" ] || echo "export PBS_ARRAY_INDEX=$SLURM_ARRAY_TASK_ID"
    sed 's/^/export /' "${0%/*}/variables"
fi
PROLOG
    chmod +x "$folder/prolog.sh"
    env | grep -E '^(PATH|PYTHONPATH|OMPI|PRTE|OMP_NUM|OPENBLAS)[A-Z_a-z]*=' >"$folder/variables"
    echo "SLURM_CONF=$folder/slurm.conf" >>"$folder/variables"
}

stop() {
    for pid in "$folder"/*.pid; do kill "$(cat "$pid")" 2>/dev/null || true; done
}

"$1"
