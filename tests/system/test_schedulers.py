"""One run under each scheduler, by its own commands and job scripts: Slurm, PBS (Slurm's qsub, qstat and
qdel), none.

Both are those of tests/slurm_cluster.sh. What OpenPBS answers otherwise is in tests/hpc/test_pbs.py.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import time
from abc import ABC, abstractmethod
from pathlib import Path

import pytest
from conftest import mpi_command, on_two_nodes
from linear import QUICK, fatescal, write_problem, write_two_years
from running import PATIENCE, Client, digests, wait_until

PRIOR: dict[str, dict] = {"run": {"stop_after": "prior"}}
pytestmark = [
    pytest.mark.slurm,
    pytest.mark.slow,
    pytest.mark.mpi,
    pytest.mark.timeout(PATIENCE),
    pytest.mark.skipif("FATESCAL_SLURM" not in os.environ, reason="starts daemons: make test-schedulers"),
]


class Batch(Client, ABC):
    """How a user starts fatescal, watches it and ends it: `folder` is the checkout."""

    resubmits = True

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, on_two_nodes(folder))

    @abstractmethod
    def submit(self, config: Path, n_ranks: int = 2, minutes: int = 60) -> str:
        """Start a job; return its name."""

    @abstractmethod
    def folds(self, config: Path) -> list[str]:
        """Start a job for each of two folds; return their names."""

    @abstractmethod
    def finished(self, job: str) -> int:
        """Return the exit code of a job at its end; of one that was killed any but 0 and 75."""

    @abstractmethod
    def log(self, job: str) -> str:
        """Return what a job has printed."""

    @abstractmethod
    def cancel(self, job: str) -> None:
        """End a job by force."""

    def next_job(self, job: str, config: Path) -> str:
        """Return the job that continues one that has ended with 75."""
        (number,) = re.findall(r"^(?:Submitted batch job )?(\d+)$", self.log(job), re.MULTILINE)
        return number


class BySlurm(Batch):
    """sbatch, scontrol, scancel."""

    def submit(self, config: Path, n_ranks: int = 2, minutes: int = 60) -> str:
        size = ("--nodes=1", f"--ntasks-per-node={n_ranks}", f"--time={minutes}")
        return self._sbatch(*size, "jobscripts/ces_fram.sh", config)

    def folds(self, config: Path) -> list[str]:
        size = ("--nodes=1", "--ntasks-per-node=1", "--time=60", "--array=1-2")
        array = self._sbatch(*size, "jobscripts/ces_folds.sh", config)
        return [f"{array}_1", f"{array}_2"]

    def finished(self, job: str) -> int:
        end = time.monotonic() + PATIENCE
        while (state := self._state(job))["JobState"] in ("PENDING", "CONFIGURING", "RUNNING", "COMPLETING"):
            assert time.monotonic() < end, state
            time.sleep(0.3)
        code, number = map(int, state["ExitCode"].split(":"))
        return code or number

    def log(self, job: str) -> str:
        state = self._state(job)  # this qsub joins the two for no `-j oe` in a script
        return "".join(path.read_text() for path in {Path(state["StdOut"]), Path(state["StdErr"])})

    def cancel(self, job: str) -> None:
        self("scancel", job)

    def next_job(self, job: str, config: Path) -> str:
        number = super().next_job(job, config)
        # to the next job of minutes the signal that the script asks for would come at once
        self("scontrol", "update", f"jobid={number}", "timelimit=60")
        return number

    def _sbatch(self, *arguments: object) -> str:
        # the script's signal, ten minutes before the end, would come to a job of minutes at once
        return self("sbatch", "--parsable", "--signal=B:USR1@1", "--account=nn1234k", *arguments).strip()

    def _state(self, job: str) -> dict[str, str]:
        return dict(re.findall(r"(\w+)=(\S*)", self("scontrol", "show", "job", job)))


class ByPBS(BySlurm):
    """qsub, qstat, qdel; the exit code, which this qstat does not tell, by scontrol."""

    def submit(self, config: Path, n_ranks: int = 2, minutes: int = 60) -> str:
        return self._qsub("ces_derecho.sh", config, n_ranks, minutes)

    def folds(self, config: Path) -> list[str]:
        array = self._qsub("ces_folds_pbs.sh", config, 1, 60, "-J", "1-2", FATESCAL_FOLDS=2)
        return [f"{array}_1", f"{array}_2"]

    def finished(self, job: str) -> int:
        if "_" not in job:  # of an array's tasks this qstat knows nothing
            wait_until(lambda: "job_state = C" in self("qstat", "-f", job), PATIENCE)
        return super().finished(job)

    def cancel(self, job: str) -> None:
        self("qdel", job)

    def next_job(self, job: str, config: Path) -> str:
        return Batch.next_job(self, job, config)

    def _qsub(
        self, script: str, config: Path, n_ranks: int, minutes: int, *options: str, **variables: object
    ) -> str:
        variables |= {"FATESCAL_ARGUMENTS": config}
        passed = ",".join(f"{name}={value}" for name, value in variables.items())
        size = f"select=1:ncpus={n_ranks}:mpiprocs={n_ranks},walltime={minutes // 60:02}:{minutes % 60:02}:00"
        return self("qsub", *options, "-l", size, "-v", passed, f"jobscripts/{script}").strip()


class ByHand(Batch):
    """mpirun in a terminal, and again after each end."""

    resubmits = False

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.programs: list[subprocess.Popen[bytes]] = []

    def submit(self, config: Path, n_ranks: int = 2, minutes: int = 60) -> str:
        words = ("run", "--time-limit", f"{54 * minutes} s", str(config))
        return self._start(mpi_command(n_ranks, "-m", "fatescal", *words))

    def folds(self, config: Path) -> list[str]:
        words = [("-m", "fatescal", "run", "--fold", f"{i}/2", str(config)) for i in (1, 2)]
        return [self._start(mpi_command(1, *each)) for each in words]

    def finished(self, job: str) -> int:
        return self.programs[int(job)].wait(PATIENCE)

    def log(self, job: str) -> str:
        return (self.folder / f"by-hand-{job}.log").read_text()

    def cancel(self, job: str) -> None:
        self.programs[int(job)].kill()

    def next_job(self, job: str, config: Path) -> str:
        return self.submit(config)

    def _start(self, command: list[str]) -> str:
        job = str(len(self.programs))
        with open(self.folder / f"by-hand-{job}.log", "wb") as log:
            self.programs.append(
                subprocess.Popen(command, env=self.environment, stdin=-3, stdout=log, stderr=log)
            )
        return job


@pytest.fixture(scope="module", params=[BySlurm, ByPBS, ByHand])
def batch(cluster: Path, request: pytest.FixtureRequest) -> Batch:
    """Each scheduler in turn."""
    if request.param is ByPBS and shutil.which("qsub") is None:
        pytest.skip("qsub is not installed: Debian has it in slurm-wlm-torque")
    return request.param(cluster)


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> dict[str, str]:
    """Digests of a whole run, without mpirun and without a break."""
    return _by_hand(tmp_path_factory.mktemp("whole"), emulate=QUICK)


@pytest.fixture(scope="module")
def prior(tmp_path_factory) -> dict[str, str]:
    """Digests of a run up to the prior ensemble, without mpirun and without a break."""
    return _by_hand(tmp_path_factory.mktemp("prior"), **PRIOR)


def _by_hand(folder: Path, **changes: dict) -> dict[str, str]:
    config = write_problem(folder, **changes)
    done = fatescal(0, config)
    assert done.returncode == 0, done.stderr
    return digests(folder / "run")


def ranks(config: Path) -> list[int]:
    """Return the processes of the ranks that work on a config, rank 0 first."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().split(b"\0")
        except OSError:
            continue
        if b"fatescal" in words and str(config).encode() in words and b"python" in words[0]:
            found.append(int(path.parent.name))
    return sorted(found)


def n_finished(config: Path) -> int:
    return len(list(config.parent.glob("run/members/evaluation-00/[0-9][0-9][0-9][0-9]/member.json")))


def test_a_whole_run_has_the_bits_of_one_by_hand(batch, whole, tmp_path):
    config = write_problem(tmp_path, emulate=QUICK)
    job = batch.submit(config, n_ranks=3)
    assert batch.finished(job) == 0, batch.log(job)
    assert "on 3 ranks" in batch.log(job)
    assert digests(tmp_path / "run") == whole


def test_a_run_stops_before_the_end_of_its_time_and_the_next_job_completes_it(batch, prior, tmp_path):
    """A job of four minutes whose members take longer in all; fatescal knows its end from the scheduler.

    Not shorter: on a busy machine the start alone takes two.
    """
    config = write_problem(tmp_path, "--sleep", "25", **PRIOR)
    first = batch.submit(config, minutes=4)
    assert batch.finished(first) == 75, batch.log(first)
    assert "start the same command again" in batch.log(first)
    done = n_finished(config)
    assert 0 < done < 20
    job, n_jobs = batch.next_job(first, config), 2
    while (code := batch.finished(job)) == 75:
        job, n_jobs = batch.next_job(job, config), n_jobs + 1
        assert n_jobs < 20
    assert code == 0, batch.log(job)
    assert "on 2 ranks" in batch.log(job)
    assert digests(tmp_path / "run") == prior


def test_folds_are_jobs_of_their_own_and_one_that_was_stopped_goes_on_alone(batch, tmp_path):
    config = write_two_years(tmp_path, "--sleep", "0.3", **PRIOR)
    first, second = batch.folds(config)
    members = tmp_path / "run" / "fold-1-of-2" / "members"
    wait_until(lambda: len(list(members.glob("*/[0-9]*/member.json"))) >= 3)
    for pid in ranks(config):
        if b"1/2" in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0"):
            os.kill(pid, signal.SIGUSR1)
    assert batch.finished(first) == 75, batch.log(first)
    assert batch.finished(second) == 0, batch.log(second)
    again = batch.next_job(first, config) if batch.resubmits else batch.folds(config)[0]
    again = f"{again}_1" if batch.resubmits and type(batch) is BySlurm else again
    assert batch.finished(again) == 0, batch.log(again)
    cards = (tmp_path / "run" / f"fold-{i}-of-2" / "scorecard.csv" for i in (1, 2))
    assert all(card.is_file() for card in cards)


@pytest.mark.parametrize("victim", ["worker", "rank 0", "job"])
def test_a_killed_run_goes_on_with_other_ranks_and_runs_nothing_twice(batch, prior, tmp_path, victim):
    config = write_problem(tmp_path, "--sleep", "0.3", **PRIOR)
    job = batch.submit(config, n_ranks=2)
    wait_until(lambda: n_finished(config) >= 4)
    if victim == "job":
        batch.cancel(job)
    else:
        os.kill(ranks(config)[victim == "worker"], signal.SIGKILL)
    assert batch.finished(job) not in (0, 75)
    wait_until(lambda: not ranks(config))
    kept = {
        p: p.stat().st_mtime_ns for p in config.parent.glob("run/members/*/[0-9][0-9][0-9][0-9]/member.json")
    }
    assert len(kept) >= 4
    again = batch.submit(config, n_ranks=3)
    assert batch.finished(again) == 0, batch.log(again)
    assert "on 3 ranks" in batch.log(again)
    assert all(path.stat().st_mtime_ns == time_ns for path, time_ns in kept.items())
    assert digests(tmp_path / "run") == prior
