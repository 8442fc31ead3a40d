"""The job scripts in a real Slurm: two nodes on one host, without accounting (tests/slurm_cluster.sh).

What every scheduler must do is tried under each of them in test_schedulers.py.

The wall time is long wherever no signal is wanted: the scripts ask for one ten minutes before its end.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import sys
import time
from pathlib import Path

import pytest
from conftest import on_two_nodes
from linear import fatescal, write_problem, write_two_years
from running import Client, alive, digests, wait_until

HERE = Path(__file__).parents[1]
ROOT = HERE.parent
FRAM = "jobscripts/ces_fram.sh"
SMALL = ("--nodes=1", "--ntasks-per-node=2", "--account=nn1234k")

pytestmark = [
    pytest.mark.slurm,
    pytest.mark.slow,
    pytest.mark.mpi,
    pytest.mark.skipif("FATESCAL_SLURM" not in os.environ, reason="starts daemons: make test-slurm does it"),
]


def text(path: Path) -> str:
    return path.read_text() if path.exists() else ""


class Cluster(Client):
    """A client of Slurm, who submits from `folder`."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, on_two_nodes(folder))

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
def slurm(cluster: Path) -> Cluster:
    return Cluster(cluster)


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory) -> dict[str, str]:
    """Digests of the run without Slurm."""
    config = write_problem(tmp_path_factory.mktemp("unbroken"))
    assert fatescal(2, config).returncode == 0
    return digests(config.parent / "run")


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


STEPS = """
import os, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from linear import evaluated
from fatescal import config as settings
srun = ["srun", "--exact", "--overlap", "--nodes=1", "--ntasks=1", "--nodelist={node}"]
inside = ["sh", "-c", 'echo "on $SLURMD_NODENAME, step $SLURM_STEP_ID" >where; echo $$ >pid; exec "$@"', "sh"]
hide = ("OMPI_", "PMIX_", "PMI_", "PRTE_", "ORTE_", "I_MPI_", "HYDRA_", "MPI_")
Path(sys.argv[2]).with_name(f"rank-{os.getpid()}").touch()
evaluated(Path(sys.argv[2]), settings.Machine(launcher=(*srun, *inside), hide=hide))
"""


def stepwise(slurm: Cluster, config: Path, *options: object) -> int:
    """Submit a job of a rank on each of two nodes, whose members are steps of Slurm; it lasts a minute
    longer.
    """
    script = config.parent / "steps.py"
    script.write_text(STEPS)
    run = f"mpirun -n 2 {sys.executable} -m mpi4py {script} {HERE} {config}; echo ended $? ; sleep 60"
    wanted = ("--nodes=2", "--ntasks-per-node=1", f"--output={config.parent / 'job.log'}", f"--wrap={run}")
    return slurm.submit(*wanted, *options)


def test_members_are_steps_of_slurm_on_the_node_of_their_rank(slurm, tmp_path):
    job = stepwise(slurm, write_problem(tmp_path))
    wait_until(lambda: "ended" in text(tmp_path / "job.log"), seconds=60)
    slurm("scancel", job)
    assert "ended 0" in text(tmp_path / "job.log"), text(tmp_path / "job.log")
    where = [path.read_text().split() for path in tmp_path.glob("run/members/evaluation-00/[0-9]*/where")]
    assert len(where) == 12
    assert {words[1] for words in where} == {"n1,", "n2,"}
    assert len({words[3] for words in where}) == 12


def test_the_step_of_a_killed_rank_ends_before_the_job_does(slurm, tmp_path):
    job = stepwise(slurm, write_problem(tmp_path, "--sleep", "100"))
    folder = tmp_path / "run" / "members" / "evaluation-00"
    wait_until(lambda: len(list(folder.glob("*/pid"))) == 2, seconds=60)
    members = [int(path.read_text()) for path in folder.glob("*/pid")]
    assert slurm("squeue", "--steps", "--noheader").count(" sh ") == 2
    os.kill(int(next(tmp_path.glob("rank-*")).name.split("-")[1]), signal.SIGKILL)
    wait_until(lambda: not any(alive(pid) for pid in members), seconds=60)
    assert slurm.job(job)["JobState"] == "RUNNING"
    slurm("scancel", job)


def test_two_tasks_on_two_nodes_try_out_the_machine(slurm, tmp_path):
    (tmp_path / "mine.yaml").write_text(f"scratch: {tmp_path}\n")
    check = f"mpirun -n 2 {sys.executable} -m fatescal check --machine {tmp_path}/mine.yaml"
    options = ("--nodes=2", "--ntasks-per-node=1", f"--output={tmp_path / 'job.log'}", f"--wrap={check}")
    job, said = slurm.finished(slurm.submit(*options)), text(tmp_path / "job.log")
    assert job["ExitCode"] == "0:0", said
    assert "n1: 1 ranks" in said
    assert "n2: 1 ranks" in said
    assert said.count(" ok: ") == 8


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


def test_a_job_that_brings_the_run_no_further_submits_no_other(slurm, tmp_path):
    """The first one begins the run; the default run, which goes first and alone, never ends."""
    config = write_problem(tmp_path, "--sleep", "100")
    members = tmp_path / "run" / "members"
    number, log = slurm.submit(*SMALL, "--time=60", FRAM, config), ""
    for _ in range(2):
        wait_until(
            lambda: len(list(members.glob("evaluation-00/0000.part-*/parameters.json"))) == 1, seconds=60
        )
        slurm("scancel", "--batch", "--signal=USR1", number)
        assert slurm.finished(number)["ExitCode"] == "75:0"
        log = text(slurm.folder / f"fatescal-{number}.log")
        for folder in members.glob("evaluation-00/*.part-*"):
            shutil.rmtree(folder)
        number = int((re.findall(r"Submitted batch job (\d+)", log) or [0])[0])
        if not number:
            break
    assert not number, log
    assert "no further job is submitted. Ask for more time" in log


def test_the_script_for_fram_completes_with_options_of_the_command_line(slurm, unbroken, tmp_path):
    config, log = write_problem(tmp_path), tmp_path / "job.log"
    job = slurm.finished(slurm.submit(*SMALL, "--time=60", f"--output={log}", FRAM, config))
    assert (job["JobState"], job["ExitCode"]) == ("COMPLETED", "0:0"), log.read_text()
    assert "on 2 ranks" in log.read_text()
    assert digests(tmp_path / "run") == unbroken


def test_a_cancelled_job_goes_on_when_submitted_again(slurm, tmp_path):
    config, log = write_problem(tmp_path, "--sleep", "0.3"), tmp_path / "job.log"
    first = slurm.submit(*SMALL, "--time=60", f"--output={log}", FRAM, config)
    members = tmp_path / "run" / "members" / "evaluation-00"
    wait_until(lambda: len(list(members.glob("[0-9]*/member.json"))) >= 4, seconds=60)
    slurm("scancel", first)
    assert slurm.finished(first)["JobState"] == "CANCELLED"
    kept = {path: path.stat().st_mtime_ns for path in members.glob("[0-9]*/member.json")}
    assert len(kept) >= 4
    job = slurm.finished(slurm.submit(*SMALL, "--time=60", f"--output={log}", FRAM, config))
    assert job["JobState"] == "COMPLETED", log.read_text()
    assert all(path.stat().st_mtime_ns == time_ns for path, time_ns in kept.items())


def test_an_array_runs_the_folds_and_a_stopped_task_goes_on_alone(slurm, tmp_path):
    config = write_two_years(tmp_path, "--sleep", "0.1")
    script = "jobscripts/ces_folds.sh"
    array = slurm.submit(*SMALL, "--array=1-2", "--time=60", script, config)
    members = tmp_path / "run" / "fold-1-of-2" / "members"
    wait_until(lambda: len(list(members.glob("*/[0-9]*/member.json"))) >= 4, seconds=60)
    slurm("scancel", "--batch", "--signal=USR1", f"{array}_1")  # as Slurm does before the wall time ends
    first, second = (slurm.finished(f"{array}_{i}") for i in (1, 2))
    log = text(slurm.folder / f"fatescal-{array}-1.log")
    assert first["ExitCode"] == "75:0", log
    assert second["JobState"] == "COMPLETED", text(slurm.folder / f"fatescal-{array}-2.log")
    again = re.search(r"Submitted batch job (\d+)", log)
    assert again, log
    job = slurm.finished(f"{again[1]}_1")
    assert (job["JobState"], job["ArrayTaskId"]) == ("COMPLETED", "1")
    done = fatescal(0, "report", tmp_path / "run")
    assert "2 of 2 folds are scored" in done.stdout, done.stderr
