"""Jobs as the commands of Slurm tell, recorded and from stand-ins; and the diary of a CIME case."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import pytest
import standin_slurm

from fatescal.base.errors import BadInput
from fatescal.cli import status
from fatescal.hpc.schedulers.base import SchedulerSilent
from fatescal.hpc.schedulers.slurm import Slurm
from fatescal.models.clm_fates import casestatus

UNKNOWN = "slurm_load_jobs error: Invalid job id specified"
CONTROLLED = """JobId=7 JobName=run.hyy
   UserId=me(1000) GroupId=me(1000) MCS_label=N/A
   Priority=4294901755 Nice=0 Account=nn1234k QOS=normal
   JobState={state} Reason={reason} Dependency=(null)
   Requeue=1 Restarts=0 BatchFlag=1 Reboot=0 ExitCode={code}
   RunTime=02:13:04 TimeLimit=1-00:00:00 TimeMin=N/A
   Command=/cluster/work/users/me/hyy/.case.run --resubmit
"""


def recorded(folder: Path, **answers: tuple[int, str, str]) -> Slurm:
    """Return a queue whose commands give recorded answers: exit code, output, errors."""
    for name, (code, output, errors) in answers.items():
        (folder / f"{name}.out").write_text(output)
        script = folder / name
        script.write_text(f"#!/bin/sh\ncat {folder / name}.out\necho '{errors}' >&2\nexit {code}\n")
        script.chmod(0o755)
    return Slurm(os.environ | {"PATH": f"{folder}:/usr/bin:/bin"})


NONE = (1, "", "Slurm accounting storage is disabled")
GONE = (1, "", UNKNOWN)
TOLD = {
    "waiting": ((0, "PENDING|Resources\n", ""), GONE, NONE, "PENDING (Resources)", True),
    "running": ((0, "RUNNING|None\n", ""), GONE, NONE, "RUNNING", True),
    "ending": ((0, "COMPLETING|None\n", ""), GONE, NONE, "COMPLETING", True),
    "requeued": ((0, "PENDING|BeginTime\n", ""), GONE, NONE, "PENDING (BeginTime)", True),
    "done": (
        (0, "", ""),
        (0, CONTROLLED.format(state="COMPLETED", reason="None", code="0:0"), ""),
        NONE,
        "COMPLETED (exit code 0:0, ran 02:13:04)",
        False,
    ),
    "node gone": (
        GONE,
        (0, CONTROLLED.format(state="NODE_FAIL", reason="NodeDown", code="0:0"), ""),
        NONE,
        "NODE_FAIL (NodeDown, exit code 0:0, ran 02:13:04)",
        False,
    ),
    "accounted": (
        GONE,
        GONE,
        (0, "CANCELLED by 1000|0:15|00:03:00\n", ""),
        "CANCELLED (exit code 0:15, ran 00:03:00)",
        False,
    ),
}


@pytest.mark.parametrize("name", TOLD)
def test_a_job_is_what_the_commands_tell(name, tmp_path):
    squeue, scontrol, sacct, words, under_way = TOLD[name]
    job = recorded(tmp_path, squeue=squeue, scontrol=scontrol, sacct=sacct).look("7")
    assert job is not None
    assert (str(job), job.under_way) == (f"job 7 {words}", under_way)


def test_a_job_nobody_knows_is_not_one_that_cannot_be_asked_for(tmp_path):
    assert recorded(tmp_path, squeue=GONE, scontrol=GONE, sacct=NONE).look("7") is None
    busy = (1, "", "slurm_load_jobs error: Socket timed out on send/recv operation")
    with pytest.raises(SchedulerSilent, match="Socket timed out"):
        recorded(tmp_path, squeue=busy, scontrol=GONE, sacct=NONE).look("7")
    with pytest.raises(BadInput, match="squeue is not found"):
        Slurm({"PATH": str(tmp_path / "empty")}).look("7")


def test_the_stand_in_s_jobs_wait_run_end_and_are_forgotten(tmp_path):
    script = tmp_path / "job.sh"
    script.write_text("#!/bin/sh\nexit ${1:-0}\n")
    script.chmod(0o755)
    environment = os.environ | standin_slurm.install(tmp_path) | {"STANDIN_SLURM_WAIT": "1.5"}
    queue = Slurm(environment)

    def submit(*arguments: str) -> str:
        command = [tmp_path / "bin/sbatch", "--job-name=run.hyy", str(script), *arguments]
        return subprocess.run(
            command, env=environment, capture_output=True, text=True, check=True
        ).stdout.split()[-1]

    def ended(number: str) -> str:
        for _ in range(100):
            job = queue.look(number)
            assert job is not None
            if not job.under_way:
                return job.state
            time.sleep(0.1)
        raise AssertionError(job)

    numbers = [submit(), submit("3"), submit()]
    assert str(queue.look(numbers[0])) == f"job {numbers[0]} PENDING (Priority)"
    assert queue.in_folder("run.hyy", Path.cwd()) == numbers
    assert queue.in_folder("run.other", Path.cwd()) == []
    assert queue.in_folder("run.hyy", tmp_path / "other") == []  # a stranger's of the same name
    subprocess.run([tmp_path / "bin/scancel", numbers[2]], env=environment, check=True)
    assert [ended(n) for n in numbers] == ["COMPLETED", "FAILED", "CANCELLED"]
    assert Slurm(environment | {"STANDIN_SLURM_FORGET": "0"}).look(numbers[0]) is None


RULE = " ---------------------------------------------------\n"


def diary(*lines: str) -> str:
    return "".join(f"2026-11-22 09:0{i}:00: {line}\n{RULE}" for i, line in enumerate(lines))


ENDS = {
    "success": (
        (
            "case.submit success 12 ",
            "case.run starting 12 ",
            "model execution starting 12 ",
            "model execution success 12 ",
            "case.run success 12 ",
        ),
        True,
    ),
    "crash": (
        (
            "case.run starting ",
            "model execution starting ",
            "model execution error \nERROR: Command failed",
            "case.run error \nERROR: RUN FAIL: Command 'cesm.exe' failed\n"
            "See log file for details: /run/cesm.log.1",
        ),
        False,
    ),
    "one instance did not finish": (
        (
            "model execution starting ",
            "model execution success ",
            "case.run error \nERROR: Model did not complete - see med_0002.log",
        ),
        False,
    ),
    "killed": (("case.run starting 12 ", "model execution starting 12 "), None),
    "requeued": (
        (
            "case.run starting 12 ",
            "model execution starting 12 ",
            "case.run starting 12 ",
            "model execution starting 12 ",
            "model execution success 12 ",
            "case.run success 12 ",
        ),
        True,
    ),
    "submitted": (("case.submit starting 12 ", "case.submit success 12 "), None),
}


@pytest.mark.parametrize("end", ENDS)
def test_the_diary_tells_how_a_run_ended(end, tmp_path):
    lines, succeeded = ENDS[end]
    (tmp_path / "CaseStatus").write_text(diary("case.run success 11 "))
    place = casestatus.length(tmp_path)
    assert casestatus.since(tmp_path, place) == []
    with open(tmp_path / "CaseStatus", "a") as file:
        file.write(diary(*lines))
    run = casestatus.since(tmp_path, place)
    assert casestatus.succeeded(run) is succeeded
    assert casestatus.submitted(run) == ("12" if any("12" in line for line in lines) else None)
    assert casestatus.seconds(run) == (0.0 if succeeded is None else 60.0)
    if succeeded is False:
        assert casestatus.error(run).startswith("ERROR: ")


def test_real_diaries_are_read(data):
    single = casestatus.entries((data / "ctsm/cime/CaseStatus").read_text())
    assert casestatus.succeeded(single) is True
    assert casestatus.seconds(single) == 8.0
    assert "not present or does not match case hyy" in casestatus.error(single)
    multi = casestatus.entries((data / "ctsm/cime/CaseStatus.multi").read_text())
    assert casestatus.error(multi) == "ERROR: For your changes to take effect, run:\n./case.setup --reset"
    assert casestatus.succeeded(multi) is None
    assert casestatus.succeeded(casestatus.entries("ERROR: RUN FAIL: Command ' cesm.exe' failed\n")) is None


def test_the_status_of_a_run_lives_with_markers_that_vanish(tmp_path):
    stage = tmp_path / "evaluation-00"
    done = '{"fingerprint": "f", "seconds": 1, "status": %d}'
    for name, content in {"0000": done % 0, "0001": done % 2, "0002": '{"stat'}.items():
        (stage / name).mkdir(parents=True)
        (stage / name / "member.json").write_text(content)  # the last is just being written
    (stage / "0003").mkdir()
    (stage / "0003" / "member.json").symlink_to(tmp_path / "gone")
    (stage / "jobs").mkdir()
    (stage / "jobs" / "submission.json").symlink_to(tmp_path / "gone")
    assert status._under_way(stage) == "2 members finished, 1 of them failed"
