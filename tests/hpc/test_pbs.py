"""Jobs as the commands of PBS describe them: recorded answers of OpenPBS, with JSON and without, and of
Torque.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from pathlib import Path

import pytest

from fatescal.base.errors import BadInput
from fatescal.hpc.schedulers.base import End, SchedulerSilent
from fatescal.hpc.schedulers.none import NoScheduler
from fatescal.hpc.schedulers.pbs import PBS
from fatescal.hpc.schedulers.registry import current, scheduler

STAMP = "%a %b %d %H:%M:%S %Y"


def answer(state: str, **attributes: object) -> dict[str, object]:
    return {
        "Job_Name": "run.hyy",
        "Job_Owner": "me@derecho1",
        "job_state": state,
        "queue": "main",
        "Resource_List": {"mpiprocs": 128, "ncpus": 128, "nodect": 1, "walltime": "12:00:00"},
        "Variable_List": {"PBS_O_HOME": "/home/me", "PBS_O_PATH": "/usr/bin:/bin"},
        **attributes,
    }


def as_json(attributes: dict[str, object]) -> str:
    jobs = {"7.desched1": attributes}
    return json.dumps(
        {"timestamp": 1764300000, "pbs_version": "2025.1", "pbs_server": "desched1", "Jobs": jobs}
    )


def as_plain(attributes: dict[str, object]) -> str:
    lines = ["Job Id: 7.desched1"]
    for key, value in attributes.items():
        if key == "Variable_List":
            lines.append(
                "    Variable_List = PBS_O_HOME=/home/me,PBS_O_LANG=en_US.UTF-8,\n\tPBS_O_PATH=/usr/bin:/bin"
            )
        elif isinstance(value, dict):
            lines += [f"    {key}.{name} = {part}" for name, part in value.items()]
        else:
            lines.append(f"    {key} = {value}")
    return "\n".join(lines) + "\n\n"


def queue(folder: Path, qstat: str, qselect: str = "", **environment: str) -> PBS:
    """Return PBS whose commands are these shell scripts."""
    for name, body in {"qstat": qstat, "qselect": qselect}.items():
        script = folder / name
        script.write_text(f"#!/bin/sh\n{body}\n")
        script.chmod(0o755)
    return PBS(os.environ | environment | {"PATH": f"{folder}:/usr/bin:/bin"})


def printing(folder: Path, text: str, form: str) -> str:
    """Return a qstat that prints an answer in the form that this server knows."""
    (folder / "answer").write_text(text)
    refused = {
        "json": "",
        "plain": 'case "$*" in *json*) echo "qstat: illegal -F value" >&2; exit 2;; esac\n',
        "torque": 'case "$*" in *-x*|*json*) echo "usage: qstat [-f] [job]" >&2; exit 2;; esac\n',
    }[form]
    return f"{refused}cat {folder}/answer"


JOBS = {
    "queued": (answer("Q", comment="Not Running: No available resources"), None, "QUEUED (Not Running"),
    "held": (answer("H"), None, "HELD"),
    "running": (answer("R", resources_used={"walltime": "01:00:00"}), None, "RUNNING"),
    "array": (answer("B", array="True"), None, "RUNNING"),
    "exiting": (answer("E"), None, "EXITING"),
    "done": (
        answer("F", Exit_status=0, resources_used={"walltime": "02:13:04"}),
        End.SUCCEEDED,
        "FINISHED (exit code 0, ran 02:13:04)",
    ),
    "failed": (answer("F", Exit_status=1, stime="x"), End.FAILED, "FINISHED (exit code 1"),
    "torque's completed": (answer("C", exit_status=0), End.SUCCEEDED, "FINISHED (exit code 0"),
    "wall time": (answer("F", Exit_status=-29), End.OUT_OF_TIME, "FINISHED (exit code -29"),
    "wall time by signal": (
        answer("F", Exit_status=271, resources_used={"walltime": "12:00:09"}),
        End.OUT_OF_TIME,
        "FINISHED (exit code 271, ran 12:00:09)",
    ),
    "deleted": (
        answer("F", Exit_status=271, resources_used={"walltime": "00:10:00"}),
        End.CANCELLED,
        "FINISHED (exit code 271",
    ),
    "deleted while it waited": (answer("F"), End.CANCELLED, "FINISHED"),
    "memory": (answer("F", Exit_status=-27), End.OUT_OF_MEMORY, "FINISHED"),
    "node failed": (answer("F", Exit_status=-3, stime="x"), End.MACHINE_FAILED, "FINISHED"),
}


@pytest.mark.parametrize("form", ["json", "plain", "torque"])
@pytest.mark.parametrize("name", JOBS)
def test_a_job_is_what_the_server_says(name, form, tmp_path):
    attributes, end, words = JOBS[name]
    text = as_json(attributes) if form == "json" else as_plain(attributes)
    job = queue(tmp_path, printing(tmp_path, text, form)).look("7")
    assert job is not None
    assert job.end is end
    assert str(job).startswith(f"job 7 {words}")


def test_json_that_cannot_be_read_is_asked_for_in_the_plain_form(tmp_path):
    (tmp_path / "plain").write_text(as_plain(answer("R")))
    body = f'case "$*" in *json*) printf \'{{"Jobs": {{"7": {{"A": "x"y"}}\';; *) cat {tmp_path}/plain;; esac'
    job = queue(tmp_path, body).look("7")
    assert job is not None
    assert job.state == "RUNNING"


def test_an_unknown_job_is_not_one_that_cannot_be_asked_for(tmp_path):
    assert queue(tmp_path, "echo 'qstat: Unknown Job Id 7.desched1' >&2; exit 153").look("7") is None
    gone = "echo 'qstat: 7.desched1 Job has finished, use -x or -H for its history' >&2; exit 35"
    assert queue(tmp_path, gone).look("7") is None
    down = "echo 'qstat: cannot connect to server desched1 (errno=111)' >&2; exit 111"
    with pytest.raises(SchedulerSilent, match="cannot connect"):
        queue(tmp_path, down).look("7")
    with pytest.raises(BadInput, match="qstat is not found"):
        PBS({"PATH": str(tmp_path / "empty")}).look("7")


def test_only_jobs_under_way_of_the_same_folder_are_found_by_name(tmp_path):
    here, elsewhere = {"PBS_O_WORKDIR": str(tmp_path)}, {"PBS_O_WORKDIR": "/home/me/other"}
    (tmp_path / "1").write_text(as_json(answer("R", Variable_List=here)))
    (tmp_path / "2").write_text(as_json(answer("F", Exit_status=0, Variable_List=here)))
    (tmp_path / "3").write_text(as_json(answer("Q", Variable_List=elsewhere)))
    pbs = queue(tmp_path, f'for last; do :; done; cat {tmp_path}/"$last"', "echo 1; echo 2; echo 3")
    assert pbs.in_folder("run.hyy", tmp_path) == ["1"]


LIST = """
desched1:
                                                            Req'd  Req'd   Elap
Job ID          Username Queue    Jobname    SessID NDS TSK Memory Time  S Time
--------------- -------- -------- ---------- ------ --- --- ------ ----- - -----
1.desched1      me       main     fc0123ab-1    --    1   1    --  01:00 Q   --
2.desched1      me       main     fc0123ab-*    --    1   1    --  01:00 R 00:00
3.desched1      me       main     fc0123ab-*    --    1   1    --  01:00 E 00:00
4[].desched1    me       main     folds         --    1   1    --  01:00 B   --
5.desched1      me       main     fc0123ab-*    --    1   1    --  01:00 C 00:00
"""


def test_jobs_of_a_name_are_found_without_qselect(tmp_path):
    """The list cuts names short: each job is asked for its own."""
    states = {"1": ("Q", "fc0123ab-1"), "2": ("R", "fc0123ab-11"), "3": ("E", "fc0123ab-12"),
              "4[]": ("B", "folds"), "5": ("C", "fc0123ab-11")}  # fmt: skip
    for number, (state, name) in states.items():
        (tmp_path / f"{number}.desched1").write_text(as_plain(answer(state, Job_Name=name)))
    (tmp_path / "list").write_text(LIST)
    body = f'[ "$1" != -u ] || exec cat {tmp_path}/list\nfor last; do :; done\n'
    body += f'case "$*" in *json*) echo usage >&2; exit 2;; esac; cat {tmp_path}/"$last"'
    pbs = queue(tmp_path, body)
    (tmp_path / "qselect").unlink()
    pbs.environment["PATH"] = f"{tmp_path}:{commands(tmp_path)}"
    assert pbs.named("fc0123ab-11") == ["2.desched1"]
    assert pbs.named("fc0123ab-2") == []
    (tmp_path / "list").unlink()
    with pytest.raises(SchedulerSilent, match="qstat"):
        pbs.named("fc0123ab-11")


def commands(folder: Path) -> Path:
    """Return a folder with `cat` alone: this machine may have a qselect."""
    (folder / "commands").mkdir()
    for name in ("cat", "sh"):
        (folder / "commands" / name).symlink_to(f"/bin/{name}")
    return folder / "commands"


@pytest.mark.parametrize("form", ["json", "plain"])
def test_the_time_left_counts_from_the_start_of_the_job(form, tmp_path):
    start = time.strftime(STAMP, time.localtime(time.time() - 3600))
    attributes = answer("R", stime=start, resources_used={"walltime": "00:50:00"})
    text = as_json(attributes) if form == "json" else as_plain(attributes)
    pbs = queue(tmp_path, printing(tmp_path, text, form), PBS_JOBID="7.desched1")
    limit = pbs.seconds_left()
    assert limit is not None
    left, whole = limit
    assert whole == 12 * 3600
    assert abs(left - 11 * 3600) < 60


def test_no_time_is_invented_where_the_server_is_silent_or_gives_none(tmp_path):
    down = "echo 'qstat: cannot connect to server' >&2; exit 111"
    assert queue(tmp_path, down, PBS_JOBID="7").seconds_left() is None
    endless = answer("R", Resource_List={"ncpus": 1})
    assert queue(tmp_path, printing(tmp_path, as_json(endless), "json"), PBS_JOBID="7").seconds_left() is None


def test_the_scheduler_is_known_by_the_variables_of_the_job(monkeypatch):
    for name in ("SLURM_JOB_ID", "PBS_JOBID"):
        monkeypatch.delenv(name, raising=False)
    assert isinstance(current(), NoScheduler)
    assert current().seconds_left() is None
    monkeypatch.setenv("PBS_JOBID", "7.desched1")
    assert current().kind == "pbs"
    with pytest.raises(BadInput, match=r"lsf is not known.*slurm, pbs, none"):
        scheduler("lsf")


JOB_SCRIPTS = Path(__file__).parents[2] / "jobscripts"
WALL_TIME = {"00:10:00": "570", "12:00:00": "42900", "36:00:08": "129308"}


def submit(
    folder: Path, exit_code: int, progress: bool, wall_time: str, told: bool = True
) -> tuple[int, str, str]:
    """Run the job script of Derecho with recorded commands; return exit code, the calls of qsub, what was
    run. The server says which nodes were asked for where it has `told`.
    """
    (folder / "jobscripts").mkdir(parents=True)
    for name in ("common.sh", "ces_derecho.sh"):
        (folder / "jobscripts" / name).write_text((JOB_SCRIPTS / name).read_text())
    (folder / "machine.yaml").write_text('modules: ""\n')
    (folder / "nodes").write_text("n1\nn1\nn2\nn2\n")
    (folder / "answer").write_text(as_plain(answer("R", Account_Name="UABC0001") | {"Resource_List": {
        **({"select": "2:ncpus=2:mpiprocs=2"} if told else {}), "walltime": wall_time}}))  # fmt: skip
    commands = {
        "python": f'case "$3" in status) {"date +%N" if progress else "echo nothing"};; esac',
        "mpiexec": f'printf "%s " "$@" > "{folder}/ran"; exit {exit_code}',
        "timeout": f'echo "$1 $2" > "{folder}/limit"; shift 2; exec "$@"',
        "qsub": f'echo "$@" >> "{folder}/submitted"',
        "qstat": f'cat "{folder}/answer"',
    }
    for name, body in commands.items():
        script = folder / "bin" / name
        script.parent.mkdir(exist_ok=True)
        script.write_text(f"#!/bin/sh\n{body}\n")
        script.chmod(0o755)
    (folder / ".venv/bin").mkdir(parents=True)
    (folder / ".venv/bin/activate").write_text("")
    variables = {
        "PATH": f"{folder}/bin:/usr/bin:/bin",
        "HOME": str(folder),
        "PBS_JOBID": "7.desched1",
        "PBS_O_WORKDIR": str(folder),
        "PBS_NODEFILE": str(folder / "nodes"),
        "PBS_O_QUEUE": "main",
        "PBS_JOBNAME": "fatescal",
        "FATESCAL_ARGUMENTS": "my.yaml",
        "FATESCAL_MACHINE": "machine.yaml",
    }
    done = subprocess.run(
        ["bash", "jobscripts/ces_derecho.sh"], cwd=folder, env=variables, capture_output=True, text=True
    )
    submitted = folder / "submitted"
    ran = (folder / "limit").read_text() + (folder / "ran").read_text()
    return done.returncode, submitted.read_text() if submitted.exists() else done.stderr, ran


@pytest.mark.parametrize("told", [True, False])
@pytest.mark.parametrize("wall_time", WALL_TIME)
def test_a_job_that_is_out_of_time_submits_the_next_one_as_it_was_submitted(tmp_path, wall_time, told):
    code, submitted, ran = submit(tmp_path, 75, True, wall_time, told)
    assert code == 75
    assert submitted.strip() == (
        f"-A UABC0001 -q main -l select=2:ncpus=2:mpiprocs=2,walltime={wall_time} -N fatescal "
        "-v FATESCAL_ARGUMENTS=my.yaml,FATESCAL_MACHINE=machine.yaml jobscripts/ces_derecho.sh"
    )
    limit, started = ran.splitlines()
    assert limit == f"--signal=USR1 {WALL_TIME[wall_time]}"
    assert started.strip() == "-n 4 python -m fatescal run my.yaml --machine machine.yaml"


@pytest.mark.parametrize(
    ("code", "progress", "words"), [(75, False, "Ask for more time"), (1, True, ""), (0, True, "")]
)
def test_no_job_follows_one_that_ended_or_made_no_progress(tmp_path, code, progress, words):
    returned, errors, _ = submit(tmp_path, code, progress, "12:00:00")
    assert returned == code
    assert words in errors
    assert not (tmp_path / "submitted").exists()
