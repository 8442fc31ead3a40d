"""The job scripts in a real Slurm: two nodes on one host, without accounting (tests/slurm_cluster.sh).

The wall time is long wherever no signal is wanted: the scripts ask for one ten minutes before its end.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import mpi_environment
from linear import fatescal, write_problem
from test_end_to_end import digests

ROOT = Path(__file__).parent.parent
FRAM = "jobscripts/ces_fram.sh"
SMALL = ("--nodes=1", "--ntasks-per-node=2", "--account=nn1234k")

pytestmark = [
    pytest.mark.slurm,
    pytest.mark.slow,
    pytest.mark.mpi,
    pytest.mark.skipif("FATESCAL_SLURM" not in os.environ, reason="starts daemons: make test-slurm does it"),
    pytest.mark.skipif(shutil.which("slurmctld") is None, reason="Slurm is not installed"),
]


class Cluster:
    """A client of the Slurm whose configuration is `conf`, who submits from `folder`."""

    def __init__(self, conf: Path, folder: Path) -> None:
        self.folder = folder
        self.environment = mpi_environment() | {
            "SLURM_CONF": str(conf),
            "OMPI_MCA_btl": "tcp,self",  # shared memory confuses two nodes of one name
        }

    def __call__(self, *command: object) -> str:
        done = subprocess.run(
            [str(word) for word in command],
            env=self.environment,
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def submit(self, *arguments: object) -> int:
        return int(self("sbatch", "--parsable", *arguments))

    def job(self, number: int | str) -> dict[str, str]:
        return dict(re.findall(r"(\w+)=(\S*)", self("scontrol", "show", "job", number)))

    def finished(self, number: int | str, seconds: float = 180) -> dict[str, str]:
        """Return what scontrol says of a job at its end."""
        end = time.monotonic() + seconds
        while (job := self.job(number))["JobState"] in ("PENDING", "CONFIGURING", "RUNNING", "COMPLETING"):
            assert time.monotonic() < end, job
            time.sleep(0.3)
        return job


@pytest.fixture(scope="module")
def slurm(tmp_path_factory) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("slurm")
    folder.chmod(0o755)
    for name in ("jobscripts", "machines", ".venv"):
        (folder / name).symlink_to(ROOT / name)
    cluster = ROOT / "tests" / "slurm_cluster.sh"
    started = subprocess.run([cluster, "start", folder], capture_output=True, text=True, timeout=60)
    if started.returncode != 0:
        pytest.skip(f"Slurm does not start on this machine: {started.stderr}")
    try:
        yield Cluster(folder / "slurm.conf", folder)
    finally:
        subprocess.run([cluster, "stop", folder], check=True, timeout=60)


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory) -> dict[str, str]:
    """Digests of the run without Slurm."""
    config = write_problem(tmp_path_factory.mktemp("unbroken"))
    assert fatescal(2, config).returncode == 0
    return digests(config.parent / "run")


def test_the_script_for_fram_completes_with_options_of_the_command_line(slurm, unbroken, tmp_path):
    config, log = write_problem(tmp_path), tmp_path / "job.log"
    job = slurm.finished(slurm.submit(*SMALL, "--time=60", f"--output={log}", FRAM, config))
    assert (job["JobState"], job["ExitCode"]) == ("COMPLETED", "0:0"), log.read_text()
    assert "on 2 ranks" in log.read_text()
    assert digests(tmp_path / "run") == unbroken


def test_ranks_of_two_nodes_share_the_members(slurm, unbroken, tmp_path):
    config, log = write_problem(tmp_path), tmp_path / "job.log"
    options = ("--nodes=2", "--ntasks-per-node=1", "--time=60", f"--output={log}")
    placed = slurm.submit(
        *options, "--wrap=mpirun -n 2 sh -c 'echo $SLURMD_NODENAME'", f"--output={tmp_path / 'nodes.log'}"
    )
    slurm.finished(placed)
    assert sorted((tmp_path / "nodes.log").read_text().split()) == ["n1", "n2"]
    job = slurm.finished(slurm.submit(*options, FRAM, config))
    assert (job["JobState"], job["ExitCode"]) == ("COMPLETED", "0:0"), log.read_text()
    assert "on 2 ranks" in log.read_text()
    assert digests(tmp_path / "run") == unbroken


def test_a_cancelled_job_goes_on_when_submitted_again(slurm, tmp_path):
    config, log = write_problem(tmp_path, "--sleep", "0.3"), tmp_path / "job.log"
    first = slurm.submit(*SMALL, "--time=60", f"--output={log}", FRAM, config)
    members = tmp_path / "run" / "members" / "evaluation-00"
    end = time.monotonic() + 60
    while len(list(members.glob("[0-9]*/member.json"))) < 4:
        assert time.monotonic() < end, log.read_text()
        time.sleep(0.1)
    slurm("scancel", first)
    assert slurm.finished(first)["JobState"] == "CANCELLED"
    kept = {path: path.stat().st_mtime_ns for path in members.glob("[0-9]*/member.json")}
    assert len(kept) >= 4
    job = slurm.finished(slurm.submit(*SMALL, "--time=60", f"--output={log}", FRAM, config))
    assert job["JobState"] == "COMPLETED", log.read_text()
    assert all(path.stat().st_mtime_ns == time_ns for path, time_ns in kept.items())


def test_at_the_end_of_its_time_a_job_submits_the_next_one_until_all_is_done(slurm, tmp_path):
    """Slurm looks at the clock twice a minute: a job of two minutes is signalled after 30 to 60 s."""
    config = write_problem(tmp_path, "--sleep", "1.2")
    number = slurm.submit(*SMALL, "--time=2", "--signal=B:USR1@75", FRAM, config)
    jobs = []
    while True:
        jobs.append(slurm.finished(number))
        log = (slurm.folder / f"fatescal-{number}.log").read_text()
        if jobs[-1]["ExitCode"] != "75:0":
            break
        next_one = re.search(r"Submitted batch job (\d+)", log)
        assert next_one, log
        number = int(next_one[1])
        slurm(
            "scontrol", "update", f"jobid={number}", "timelimit=60"
        )  # a script's own 600 s would come at once
    assert jobs[-1]["JobState"] == "COMPLETED", log
    assert len(jobs) > 1
    assert {(job["NumTasks"], job["Account"], job["Partition"]) for job in jobs} == {
        ("2", "nn1234k", "normal")
    }
    assert (tmp_path / "run" / "posterior.csv").exists()
