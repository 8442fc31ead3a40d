"""Jobs of members in a small queue of this machine, whose jobs end as a test wants: lost, out of time,
forgotten.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest
from clm_problem import write_config
from ctsm_case import write_case
from linear import write_problem
from running import change, digests

from fatescal import config as settings
from fatescal.__main__ import main
from fatescal.base.errors import OutOfTime, Status
from fatescal.ensemble import member_jobs
from fatescal.ensemble.job_notes import read_note
from fatescal.ensemble.member_jobs import MemberJobs
from fatescal.hpc.schedulers import base
from fatescal.hpc.schedulers.base import End, Job, Scheduler, SchedulerSilent


class Here(Scheduler):
    """A queue of this machine: each job is a process of its own."""

    kind = "here"

    def __init__(self, ends: dict[int, End] | None = None) -> None:
        super().__init__(os.environ | {"PBS_JOBID": ""})
        self.jobs: dict[str, subprocess.Popen[bytes]] = {}
        self.names: dict[str, list[str]] = {}
        self.hidden = 0  # how often a look for a name finds nothing yet
        self.ends = ends or {}  # of the n-th job, which is killed at once

    @property
    def job(self) -> str | None:
        return None

    def look(self, number: str) -> Job | None:
        process = self.jobs.get(number)
        if process is None or process.poll() is None:
            return None if process is None else Job(number, "RUNNING")
        end = self.ends.get(int(number), End.SUCCEEDED if process.returncode == 0 else End.FAILED)
        return Job(number, end.name, end=end)

    def named(self, name: str) -> list[str]:
        if self.hidden:
            self.hidden -= 1
            return []
        return self.names.get(name, [])

    def in_folder(self, name: str, folder: Path) -> list[str]:
        return []

    def submit(self, script: Path, name: str, output: Path, options: Sequence[str]) -> str:
        number = str(len(self.jobs) + 1)
        with open(output, "wb") as log:
            self.jobs[number] = subprocess.Popen(
                [str(script)], cwd=script.parent, stdout=log, stderr=log, start_new_session=True
            )
        self.names[name] = [number]
        if int(number) in self.ends:
            os.killpg(self.jobs[number].pid, signal.SIGKILL)
        return number

    def cancel(self, number: str) -> None:
        os.killpg(self.jobs[number].pid, signal.SIGKILL)


class Prior:
    """The prior ensemble of the linear problem, four members as jobs."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, **jobs: object) -> None:
        self.config = write_problem(folder, run={"stop_after": "prior"}, calibrate={"members": 8})
        self.run = folder / "run"
        self.machine = folder / "machine.yaml"
        self.machine.write_text(json.dumps({"execution": "jobs", "jobs": {"members": 3, **jobs}}))
        self.queue = Here()
        monkeypatch.setattr(MemberJobs, "queue", property(lambda _: self.queue))
        monkeypatch.setattr(member_jobs, "LATE", 0.5)
        monkeypatch.chdir(folder)

    def __call__(self) -> int:
        return main(["run", "--machine", str(self.machine), str(self.config)])

    def submitted(self, stage: str = "evaluation-00") -> int:
        return len(list(self.run.glob(f"members/{stage}/jobs/*.sh")))

    def status(self) -> dict[str, int]:
        markers = self.run.glob("members/evaluation-00/[0-9][0-9][0-9][0-9]/member.json")
        return {path.parent.name: json.loads(path.read_text())["status"] for path in markers}


def test_lost_jobs_are_submitted_again_run_by_run(tmp_path, monkeypatch, capsys):
    prior = Prior(tmp_path, monkeypatch)
    prior.queue.ends = {2: End.MACHINE_FAILED}
    assert prior() == 0
    assert prior.status() == {f"{j:04d}": 0 for j in range(8)}
    # 3 + 3 + 1 members, the first three of which are lost and then go alone
    assert (prior.submitted("preparation"), prior.submitted()) == (1, 3 + 3)


def test_a_machine_that_loses_one_job_after_another_ends_the_run_and_cancels_the_others(
    tmp_path, monkeypatch, capsys
):
    prior = Prior(tmp_path, monkeypatch, members=1)
    change(prior.config, "model.command", [*read_command(prior.config), "--sleep", "30"])
    prior.queue.ends = {1: End.MACHINE_FAILED, 2: End.MACHINE_FAILED}
    assert prior() == 1
    assert "MACHINE_FAILED ended without a result, the 2. job of 0000" in capsys.readouterr().err
    assert len(prior.queue.jobs) == 2


def read_command(config: Path) -> list[str]:
    options = settings.load(config).by_site[""].model
    return list(options.command)  # type: ignore[attr-defined]


def test_a_member_that_costs_each_of_its_jobs_is_given_up_alone(tmp_path, monkeypatch, capsys):
    """Jobs 2 and 3 are the first of members 1 and 2, and 9 and 10 their second."""
    prior = Prior(tmp_path, monkeypatch, members=1)
    prior.queue.ends = dict.fromkeys((2, 9), End.OUT_OF_TIME) | dict.fromkeys((3, 10), End.OUT_OF_MEMORY)
    assert prior() == 0
    failed = {"0001": int(Status.TIME_OUT), "0002": int(Status.MODEL_ERROR)}
    assert prior.status() == {f"{j:04d}": 0 for j in range(8)} | failed
    for name, end in (("0001", End.OUT_OF_TIME), ("0002", End.OUT_OF_MEMORY)):
        marker = json.loads((prior.run / f"members/evaluation-00/{name}/member.json").read_text())
        assert end.value in marker["reason"]
    assert prior() == 0  # what was decided stays
    assert prior.submitted() == 7 + 2


def test_a_job_whose_config_was_edited_meanwhile_runs_nothing(tmp_path, monkeypatch, capsys):
    prior = Prior(tmp_path, monkeypatch)
    submit = Here.submit

    def edit_first(self: Here, *arguments: object) -> str:
        if self.jobs:
            change(prior.config, "model.output", "other.nc")
        return submit(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(Here, "submit", edit_first)
    assert prior() == 1
    assert "evaluation-00/0001: the config, or a file that it names, has changed" in capsys.readouterr().err
    assert prior.status() == {"0000": 0}


def test_a_note_of_another_job_is_left_alone(tmp_path, monkeypatch, caplog):
    prior = Prior(tmp_path, monkeypatch)
    monkeypatch.setattr(Here, "submit", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    assert prior() == 130  # killed while it submitted: the note has no number
    (note,) = prior.run.glob("members/preparation/jobs/0001.json")
    assert read_note(note).number is None
    note.write_text(json.dumps(json.loads(note.read_text()) | {"number": "17.server"}))
    monkeypatch.setenv("PBS_JOBID", "18.server")
    assert main(["members", str(note)]) == 0
    assert "is not the note of job 18.server" in caplog.text
    assert not note.with_suffix(".result.json").exists()
    monkeypatch.setenv("PBS_JOBID", "17.server")
    assert main(["members", str(note)]) == 0
    assert json.loads(note.with_suffix(".result.json").read_text())["error"] == ""


@pytest.mark.parametrize("silence", [KeyboardInterrupt, SchedulerSilent])
def test_a_job_whose_number_was_never_heard_is_found_by_its_name(silence, tmp_path, monkeypatch, capsys):
    """It is in the queue, which does not show it at once, when the program ends; or the server is silent."""
    prior, submit = Prior(tmp_path, monkeypatch, members=8), Here.submit
    monkeypatch.setattr(base, "PAUSE", (0.2, 0.2))

    def unheard(self: Here, *arguments: object) -> str:
        number = submit(self, *arguments)  # type: ignore[arg-type]
        if number == "2":
            self.hidden = 2
            raise silence
        return number

    monkeypatch.setattr(Here, "submit", unheard)
    if silence is KeyboardInterrupt:
        assert prior() == 130
    assert prior() == 0
    assert [prior.submitted(stage) for stage in ("preparation", "evaluation-00", "effects")] == [1, 1, 1]
    assert len(prior.queue.jobs) == 3


def test_out_of_time_leaves_jobs_to_the_next_start(tmp_path, monkeypatch, capsys):
    prior = Prior(tmp_path, monkeypatch)
    change(prior.config, "model.command", [*read_command(prior.config), "--sleep", "1"])
    original = Here.sleep

    def out_of_time(self: Here, seconds: float, meanwhile: str) -> None:
        if len(self.jobs) > 2:
            raise OutOfTime(meanwhile)
        original(self, seconds, meanwhile)

    monkeypatch.setattr(Here, "sleep", out_of_time)
    assert prior() == 75
    assert "the jobs of members go on" in capsys.readouterr().err
    monkeypatch.setattr(Here, "sleep", original)
    assert prior() == 0
    assert (prior.submitted("preparation"), prior.submitted()) == (1, 3)


def test_clm_fates_has_its_spin_up_effect_runs_and_members_as_jobs(data, tmp_path, monkeypatch, capsys):
    """The stand-in executable, once with members on this rank and once as jobs: the same bits."""
    month = {"start": "2005-06-01", "end": "2005-06-30", "spinup": {"years": 1}}
    case = write_case(tmp_path / "case", data, "A")
    runs = []
    for name in ("ranks", "jobs"):
        prior = Prior(tmp_path, monkeypatch)
        (tmp_path / name).mkdir()
        prior.config = write_config(
            tmp_path / name, case, model=month, calibrate={"members": 5}, run={"stop_after": "prior"},
            observations={"calibration": ["2005-06-01", "2005-06-30"]},
        )  # fmt: skip
        if name == "ranks":
            prior.machine.write_text("{}")
        assert prior() == 0
        runs.append(tmp_path / name / "calibration")
    assert digests(runs[0]) == digests(runs[1])
    made = {p.parent.relative_to(runs[0] / "members") for p in runs[0].glob("members/**/member.json")}
    assert made == {p.parent.relative_to(runs[1] / "members") for p in runs[1].glob("members/**/member.json")}
    assert Path("preparation/spin-up") in made
    by_stage = {p.name for p in (runs[1] / "members").iterdir() if (p / "jobs").is_dir()}
    assert by_stage == {"preparation", "truth", "evaluation-00"}


def test_without_a_scheduler_it_is_said_before_anything_runs(tmp_path, monkeypatch, capsys):
    config = write_problem(tmp_path)
    machine = tmp_path / "machine.yaml"
    machine.write_text("execution: jobs\n")
    monkeypatch.setenv("PATH", "/nowhere")
    assert main(["check", "--machine", str(machine), str(config)]) == 2
    assert "no scheduler takes jobs here" in capsys.readouterr().err
