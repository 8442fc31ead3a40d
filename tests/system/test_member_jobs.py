"""Members as jobs of their own (`execution: jobs`), by sbatch and by qsub of tests/slurm_cluster.sh."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from conftest import mpi_command, on_two_nodes
from linear import MODEL, fatescal, write_problem
from running import PATIENCE, digests, wait_until

PRIOR: dict[str, dict] = {"run": {"stop_after": "prior"}, "calibrate": {"members": 12}}
pytestmark = [
    pytest.mark.slurm,
    pytest.mark.slow,
    pytest.mark.timeout(PATIENCE),
    pytest.mark.skipif("FATESCAL_SLURM" not in os.environ, reason="starts daemons: make test-schedulers"),
]
OPTIONS = {
    "slurm": ["--ntasks=1", "--time=10"],
    "pbs": ["-q", "main", "-l", "select=1:ncpus=1:mpiprocs=1,walltime=00:10:00"],
}
QUEUE = {"slurm": ["squeue", "--noheader", "--format=%i"], "pbs": ["qstat"]}
CANCEL = {"slurm": "scancel", "pbs": "qdel"}


class Submitter:
    """A user who starts fatescal on a login node, with members as jobs of a scheduler."""

    def __init__(self, kind: str, cluster: Path, folder: Path) -> None:
        self.kind, self.folder = kind, folder
        self.environment = on_two_nodes(cluster) | {"LINEAR_LOG": str(folder / "runs.log")}

    def machine(self, **jobs: object) -> Path:
        path = self.folder / "machine.yaml"
        section = {"scheduler": self.kind, "options": OPTIONS[self.kind], "members": 4, **jobs}
        path.write_text(yaml.safe_dump({"execution": "jobs", "jobs": section}))
        return path

    def start(self, config: Path, machine: Path, n_ranks: int = 0) -> subprocess.Popen[str]:
        words = ["-m", "fatescal", "run", "--machine", str(machine), str(config)]
        command = mpi_command(n_ranks, *words) if n_ranks else [sys.executable, *words]
        return subprocess.Popen(
            command, cwd=self.folder, env=self.environment, text=True, stdin=-3, stdout=-3, stderr=-1
        )

    def run(self, config: Path, machine: Path, n_ranks: int = 0) -> tuple[int, str]:
        program = self.start(config, machine, n_ranks)
        _, said = program.communicate(timeout=PATIENCE)
        return program.returncode, said

    def command(self, *words: str) -> str:
        return subprocess.run(words, env=self.environment, capture_output=True, text=True).stdout

    def noted(self, stage: str) -> list[str]:
        """Return the numbers of the jobs under way of a stage."""
        notes = (self.folder / "run" / "members" / stage / "jobs").glob("[0-9][0-9][0-9][0-9].json")
        return [number for note in notes if (number := json.loads(note.read_text())["number"])]

    def submitted(self, stage: str) -> int:
        return len(list((self.folder / "run" / "members" / stage / "jobs").glob("*.sh")))


@pytest.fixture(params=OPTIONS)
def user(request: pytest.FixtureRequest, cluster: Path, tmp_path: Path) -> Submitter:
    """A user of each scheduler."""
    if request.param == "pbs" and shutil.which("qsub") is None:
        pytest.skip("qsub is not installed: Debian has it in slurm-wlm-torque")
    return Submitter(request.param, cluster, tmp_path)


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory) -> tuple[dict[str, str], set[Path], int]:
    """Digests of the run whose members ran on ranks, the files that they left, the number of model runs."""
    config = write_problem(tmp_path_factory.mktemp("ranks"), "--count", **PRIOR)
    log = config.parent / "runs.log"
    assert fatescal(0, config, LINEAR_LOG=str(log)).returncode == 0
    run = config.parent / "run"
    return digests(run), left(run), len(log.read_text().splitlines())


def left(run: Path) -> set[Path]:
    """Return the files of all members, but for what is about jobs."""
    files = {path.relative_to(run) for path in run.glob("members/**/*") if path.is_file()}
    return {path for path in files if "jobs" not in path.parts}


def n_runs(user: Submitter) -> int:
    return len((user.folder / "runs.log").read_text().splitlines())


@pytest.mark.mpi
def test_folders_and_bits_are_those_of_members_on_ranks(user, unbroken, tmp_path):
    """Four members in a job, two ranks that wait; the default run is a job of its own, before all others."""
    code, said = user.run(write_problem(tmp_path, "--count", **PRIOR), user.machine(), n_ranks=2)
    assert code == 0, said
    assert digests(tmp_path / "run") == unbroken[0]
    assert left(tmp_path / "run") == unbroken[1]
    assert n_runs(user) == unbroken[2]
    assert (user.submitted("preparation"), user.submitted("evaluation-00")) == (1, 3)
    again, said = user.run(tmp_path / "linear.yaml", user.machine())
    assert again == 0, said
    assert n_runs(user) == unbroken[2]


def test_a_killed_fatescal_finds_its_jobs_again_and_submits_none_twice(user, unbroken, tmp_path):
    config, machine = write_problem(tmp_path, "--count", "--sleep", "2", **PRIOR), user.machine()
    program = user.start(config, machine)
    wait_until(lambda: len(user.noted("evaluation-00")) == 3)
    program.send_signal(signal.SIGKILL)
    program.communicate()
    code, said = user.run(config, machine)
    assert code == 0, said
    assert "not submitted again" in said
    assert (user.submitted("preparation"), user.submitted("evaluation-00")) == (1, 3)
    assert n_runs(user) == unbroken[2]
    assert digests(tmp_path / "run") == unbroken[0]


def test_a_job_that_was_lost_is_submitted_again_and_keeps_what_it_had_finished(user, unbroken, tmp_path):
    config = write_problem(tmp_path, "--count", "--sleep", "2", **PRIOR)
    program = user.start(config, user.machine(members=12))
    done = tmp_path / "run" / "members" / "evaluation-00"
    wait_until(lambda: (done / "0002" / "member.json").exists())
    (number,) = user.noted("evaluation-00")
    user.command(CANCEL[user.kind], number)
    _, said = program.communicate(timeout=PATIENCE)
    assert program.returncode == 0, said
    assert "without a result" in said
    assert n_runs(user) <= unbroken[2] + 1  # the one that was under way
    assert digests(tmp_path / "run") == unbroken[0]


def test_jobs_that_cannot_start_end_the_run_and_leave_nothing_in_the_queue(user, tmp_path):
    """Twice, as `retries: 1` says; what the job printed is in the message."""
    machine = user.machine(start=["sh", "-c", "echo no licence today; exit 3"])
    code, said = user.run(write_problem(tmp_path, **PRIOR), machine)
    assert code == 1
    assert "without a result" in said
    assert "no licence today" in said
    assert "Traceback" not in said
    assert user.submitted("preparation") == 2
    assert not re.findall(r"fc[0-9a-f]{6}-", user.command("squeue", "--noheader", "--format=%j"))


def test_after_a_default_run_that_fails_no_other_job_is_submitted(user, tmp_path):
    code, said = user.run(write_problem(tmp_path, "--fail-above", "-1000", **PRIOR), user.machine())
    assert code == 1
    assert "the default run failed, and no other was started" in said
    assert "ERROR: the mean is too large for this model" in said
    assert (user.submitted("preparation"), user.submitted("evaluation-00")) == (1, 0)


PROGRAM = r"""
#include <math.h>
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#define DAYS 90
/* The linear model: each rank computes its share of the days; the first gathers, and writes fluxes.txt. */
static double named(const char *text, const char *name) {
    char key[32];
    snprintf(key, sizeof key, "\"%s\":", name);
    return atof(strstr(text, key) + strlen(key));
}
int main(int argc, char **argv) {
    int rank, size;
    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    char text[4096] = "", node[64] = "", *nodes = malloc(64 * size);
    FILE *file = fopen("parameters.json", "r");
    if (!file || !fread(text, 1, sizeof text - 1, file)) MPI_Abort(MPI_COMM_WORLD, 3);
    double mean = named(text, "mean"), wave = named(text, "wave"), trend = named(text, "trend");
    double own[2 * DAYS] = {0}, all[2 * DAYS];
    for (int t = rank; t < DAYS; t += size) {
        double x = 2 * M_PI * t / 60;
        own[t] = mean + wave * sin(x) + trend * t / 60;
        own[DAYS + t] = 1.0 + 0.5 * mean - trend * cos(x);
    }
    MPI_Reduce(own, all, 2 * DAYS, MPI_DOUBLE, MPI_SUM, 0, MPI_COMM_WORLD);
    if (getenv("SLURMD_NODENAME")) snprintf(node, sizeof node, "%s", getenv("SLURMD_NODENAME"));
    MPI_Gather(node, 64, MPI_CHAR, nodes, 64, MPI_CHAR, 0, MPI_COMM_WORLD);
    if (rank == 0) {
        FILE *out = fopen("fluxes.txt", "w");
        for (int t = 0; t < 2 * DAYS; t++) fprintf(out, "%.17g\n", all[t]);
        fclose(out);
        out = fopen("nodes", "w");
        for (int r = 0; r < size; r++) fprintf(out, "%s\n", nodes + 64 * r);
        fclose(out);
        if (system(argv[1])) MPI_Abort(MPI_COMM_WORLD, 4);
    }
    MPI_Finalize();
    return 0;
}
"""
WRITER = """
import sys
sys.path.insert(0, {tests!r})
from linear_model import N_DAYS, classic_netcdf
values = [float(line) for line in open("fluxes.txt")]
axis = {{"units": "days since 2004-01-01 12:00:00", "calendar": "standard"}}
units = {{"GPP": "g C m-2 d-1", "ET": "mm d-1"}}
fluxes = {{"GPP": values[:N_DAYS], "ET": values[N_DAYS:]}}
content = {{key: ({{"units": units[key]}}, series) for key, series in fluxes.items()}}
data = classic_netcdf({{"time": (axis, [float(t) for t in range(N_DAYS)]), **content}})
open("output.nc", "wb").write(data)
"""


@pytest.mark.mpi
def test_a_member_is_an_mpi_program_over_two_nodes(cluster, unbroken, tmp_path):
    """Compiled here; each member is a job of two nodes, in which the launcher starts a rank on each."""
    if shutil.which("mpicc") is None:
        pytest.skip("there is no mpicc")
    (tmp_path / "model.c").write_text(PROGRAM)
    (tmp_path / "write.py").write_text(WRITER.format(tests=str(MODEL.parent)))
    compiled = ["mpicc", "-o", str(tmp_path / "model"), str(tmp_path / "model.c"), "-lm"]
    subprocess.run(compiled, check=True)
    command = [str(tmp_path / "model"), f"{sys.executable} -SE {tmp_path / 'write.py'}"]
    config = write_problem(tmp_path, model={"command": command, "timeout": "900 s"}, **PRIOR)
    machine = tmp_path / "machine.yaml"
    mpirun = mpi_command(2)[:3]
    machine.write_text(
        yaml.safe_dump(
            {
                "execution": "jobs",
                "jobs": {"options": ["--nodes=2", "--ntasks-per-node=1", "--time=10"], "at_once": 4},
                "launcher": [*mpirun, "--map-by", "node"],
                "hide": ["OMPI_COMM", "PMIX_", "PMI_", "PRTE_", "ORTE_"],
            }
        )
    )
    code, said = Submitter("slurm", cluster, tmp_path).run(config, machine)
    assert code == 0, said
    members = sorted((tmp_path / "run" / "members" / "evaluation-00").glob("[0-9][0-9][0-9][0-9]"))
    assert len(members) == 12
    for member in members:
        assert (member / "nodes").read_text().split() == ["n1", "n2"]
    assert digests(tmp_path / "run")["ensemble-00"] == unbroken[0]["ensemble-00"]
