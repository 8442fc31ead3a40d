"""Members as instances of one CIME case: its namelists, its jobs, and what becomes of them; with stand-ins
for CIME and Slurm.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import standin_cime
import standin_slurm
import yaml
from clm_problem import NEEDLELEAF, VCMAX, write_config
from conftest import mpi_command, mpi_environment
from ctsm_case import FATES, Case
from linear import fatescal
from running import change, require_scored

from fatescal import config as settings
from fatescal.base.errors import BadInput, ModelFailed, OutOfTime, RunFailed, Status
from fatescal.hpc.schedulers.base import End, Job
from fatescal.models.clm_fates import casestatus, cdl, instance_files, parameter_file
from fatescal.models.clm_fates.instances import MultiInstance
from fatescal.models.clm_fates.jobs import log
from fatescal.models.clm_fates.submission import RunSegment, Submission
from fatescal.workflow import site_models
from fatescal.workflow.problem import checked_parts

COMPSETS = {
    "A": "2000_DATM%GSWP3v1_CLM60%FATES-SP_SICE_SOCN_SROF_SGLC_SWAV",
    "B": "2000_DATM%GSWP3v1_CLM51%FATES_SICE_SOCN_SROF_SGLC_SWAV",
}
NAME = f"{VCMAX}_{NEEDLELEAF}"


class Cluster:
    """A CIME case, built with an MPI library, on a machine with Slurm; both are stand-ins."""

    def __init__(self, folder: Path, data: Path, version: str, batch: str = "slurm") -> None:
        self.folder, self.version = folder, version
        self.environment = standin_slurm.install(folder / "slurm") | {
            "USER": "me",
            "STANDIN_LOG": str(folder / "log"),
        }
        machine = standin_cime.Machine(folder / "scratch", batch=batch)
        create = standin_cime.install(folder / "CTSM", version, data, {"fram": machine})
        self.case = folder / "cases" / "hyy"
        words = {"case": self.case, "compset": COMPSETS[version], "res": "CLM_USRDAT", "machine": "fram"}
        words |= {"compiler": "gnu", "mpilib": "openmpi", "driver": "nuopc"}
        self._run(
            str(create),
            *(str(w) for k, v in words.items() for w in (f"--{k}", v)),
            "--run-unsupported",
            cwd=folder,
        )
        self("xmlchange", "PTS_LON=24.295,PTS_LAT=61.8474,CALENDAR=NO_LEAP")
        self("xmlchange", "DATM_YR_START=2004,DATM_YR_END=2010,DATM_YR_ALIGN=2004")
        self("case.setup", *(["--disable-git"] if version == "A" else []))
        with (self.case / "user_nl_clm").open("a") as file:
            file.write(
                f"hist_fincl2='FATES_GPP'\nhist_nhtfrq=0,-24\nfates_paramfile='{self._parameters(data)}'\n"
            )
        self("case.build")

    def _parameters(self, data: Path) -> Path:
        source = data / "fates" / FATES[self.version]
        target = self.folder / f"parameters{'.json' if self.version == 'A' else '.nc'}"
        if self.version == "A":
            target.write_bytes(source.read_bytes())
        else:
            cdl.convert(source, target)
        return target

    def __call__(self, tool: str, *arguments: str) -> str:
        return self._run(f"./{tool}", *arguments, cwd=self.case)

    def _run(self, *command: str, cwd: Path) -> str:
        environment = os.environ | self.environment
        done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, env=environment)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def config(self, **changes: Any) -> Path:
        """Write the config of a short calibration of this case."""
        path = write_config(
            self.folder,
            Case(Path("unused"), Path("unused"), self.version),
            **{
                "model": {"end": "2005-01-31", "spinup": {"years": 0}},
                "observations": {"calibration": ["2005-01-01", "2005-01-31"]},
                "calibrate": {"members": 5, "iterations": 1},
                "sample": {"max_steps": 2000, "rhat": 1.5, "ess": 20},
                "posterior": {"members": 3},
                **changes,
            },
        )
        content = yaml.safe_load(path.read_text())
        for key in ("run_directory", "executable", "timeout"):
            del content["model"][key]
        content["model"] |= {"case": str(self.case), "execution": "multi-instance"}
        path.write_text(yaml.safe_dump(content, sort_keys=False))
        return path

    def cancel(self, number: str) -> None:
        self._run("scancel", number, cwd=self.folder)

    def model(self, monkeypatch, stop: Callable[[], bool] = lambda: False, **changes: Any) -> MultiInstance:
        for name, value in self.environment.items():
            monkeypatch.setenv(name, value)
        chosen = site_models.located(settings.load(self.config(**changes)))
        model = site_models.model(chosen.by_site[""], stop)
        assert isinstance(model, MultiInstance)
        return model

    @property
    def jobs(self) -> list[dict]:
        return [json.loads(p.read_text()) for p in sorted((self.folder / "slurm" / "jobs").glob("*.json"))]


@pytest.fixture
def cluster_a(data, tmp_path) -> Cluster:
    return Cluster(tmp_path, data, "A")


def test_a_job_runs_a_batch_and_each_member_finds_its_own(cluster_a, monkeypatch):
    cluster = cluster_a
    model = cluster.model(monkeypatch)
    model.check()
    stage = cluster.folder / "calibration" / "members" / "evaluation-00"
    batch = {f"{j:04d}": {NAME: 50.0 + j} for j in range(3)}
    model.run_together(batch, stage, {})
    assert [job["name"] for job in cluster.jobs] == ["run.hyy"]
    means = []
    for name, theta in batch.items():
        folder = stage / f"{name}.part-x"
        folder.mkdir()
        seconds = model.collect(name, theta, stage, folder)
        assert seconds == casestatus.seconds(casestatus.since(cluster.case, 0))  # of the job, whole ones
        output = model.read(folder)
        assert output.sizes["time"] == 31
        means.append(float(output["FATES_GPP"].mean()))
        assert "SUCCESSFUL TERMINATION OF CESM" in (folder / "drv.log").read_text()
    assert means == sorted(means)
    assert len(set(means)) == 3
    alone = stage / "alone"
    alone.mkdir()
    model.single.run(batch["0001"], alone)  # the same as the executable by itself
    np.testing.assert_array_equal(
        model.read(alone)["FATES_GPP"], model.read(stage / "0001.part-x")["FATES_GPP"]
    )

    segment = RunSegment(model.single.first, model.single.end)
    fewer = [model.jobs._inputs({NAME: 60.0 + j}, stage / "jobs" / f"next-{j}", segment) for j in range(2)]
    model.jobs._prepare(fewer, segment)
    assert sorted(path.name for path in cluster.case.glob("user_nl_clm*")) == [
        "user_nl_clm", "user_nl_clm_0001", "user_nl_clm_0002",
    ]  # fmt: skip
    assert cluster("xmlquery", "--value", "NINST") == "2"
    assert not list(model.jobs.run_directory.glob("hyy.clm2*"))


def test_an_instance_s_namelist_is_the_case_s_with_its_own_keys(cluster_a, monkeypatch):
    model = cluster_a.model(
        monkeypatch, model={"end": "2005-01-31", "spinup": {"years": 0}, "namelist": {"use_bedrock": False}}
    )
    jobs = cluster_a.folder / "jobs"
    jobs.mkdir()
    own = model.jobs._inputs({NAME: 55.0}, jobs / "0007", RunSegment(model.single.first, model.single.end))
    plain = (cluster_a.case / "user_nl_clm").read_text()
    lines = instance_files.land_namelist(plain, own).splitlines()
    assert [line for line in lines if line.startswith("hist_")] == [
        "hist_empty_htapes = .true.",
        "hist_fincl1 = 'FATES_GPP','QFLX_EVAP_TOT'",
        "hist_nhtfrq = -24",
        "hist_mfilt = 32",
    ]
    assert "use_bedrock = .false." in lines
    assert f"fates_paramfile = '{jobs}/0007/fates_paramfile.json'" in lines
    assert "use_fates_sp = .true." in lines


@pytest.mark.slow
def test_all_members_start_from_one_spin_up_that_is_a_job_of_its_own(cluster_a, monkeypatch):
    model = cluster_a.model(
        monkeypatch, model={"end": "2005-01-31", "spinup": {"years": 1, "reuse": "default"}}
    )
    members = cluster_a.folder / "calibration" / "members"
    batch, default = {f"{j:04d}": {NAME: 50.0 + j} for j in range(2)}, {NAME: 61.0}
    model.run_together(batch, members / "evaluation-00", default)
    model.run_together({"0001": {NAME: 55.0}}, members / "evaluation-01", default)
    assert [job["state"] for job in cluster_a.jobs] == ["COMPLETED"] * 3
    spun_up = members / "preparation" / "spin-up" / "jobs" / "0000"
    state = spun_up / "fatescal.clm2.r.2005-01-01-00000.nc"
    runs = [line.split()[1:5] for line in (cluster_a.folder / "log").read_text().splitlines()]
    assert runs == 2 * [["20040101", "365", "ndays", "cold"]] + 4 * [["20050101", "31", "ndays", str(state)]]
    told = fatescal(0, "status", cluster_a.folder / "calibration").stdout
    assert "prepared: spin-up\n" in told
    assert parameter_file.read(spun_up / "fates_paramfile.json").defaults[NAME] == 61.0
    assert not list(model.jobs.run_directory.glob("hyy.clm2*"))
    assert [status for status, _ in fates(members / "evaluation-00").values()] == [Status.OK] * 2

    monkeypatch.setenv("STANDIN_CRASH", f"{VCMAX} {NEEDLELEAF} 65.5 66.5")  # other defaults: another spin-up
    other = {"0001": {NAME: 57.0}}, members / "evaluation-02", {NAME: 66.0}
    with pytest.raises(BadInput, match=r"other parameters .* reset .*/calibration --from preparation"):
        model.run_together(*other)
    assert state.is_file()
    assert fatescal(0, "reset", "--from", "preparation", cluster_a.folder / "calibration").returncode == 0
    with pytest.raises(RunFailed, match="the spin-up failed, and so would every member: failed"):
        model.run_together(*other)


def fates(stage: Path) -> dict[str, tuple[Status, str]]:
    """Return status and reason of the members of a stage whose fate is decided."""
    found = {path.parent.name: json.loads(path.read_text()) for path in stage.glob("jobs/*/result.json")}
    return {name: (Status(r["status"]), r["reason"]) for name, r in sorted(found.items())}


@pytest.mark.slow
def test_a_dying_member_takes_all_with_it_and_is_left_out_of_the_next_job(cluster_a, monkeypatch):
    model = cluster_a.model(monkeypatch)
    monkeypatch.setenv("STANDIN_CRASH", f"{VCMAX} {NEEDLELEAF} 50.5 51.5")
    stage = cluster_a.folder / "evaluation-00"
    batch = {f"{j:04d}": {NAME: 50.0 + j} for j in range(3)} | {"0003": {NAME: -1.0}}
    model.run_together(batch, stage, {})
    found = fates(stage)
    assert {name: status for name, (status, _) in found.items()} == {
        "0000": Status.OK, "0001": Status.MODEL_ERROR, "0002": Status.OK, "0003": Status.MODEL_ERROR,
    }  # fmt: skip
    assert found["0001"][1].startswith(
        "failed, and ended the job of all: the model stopped itself in src/CTSM/src/biogeophys/Bal"
    )
    assert "is not possible" in found["0003"][1]
    states = [job["state"] for job in cluster_a.jobs]
    assert states in (["FAILED", "COMPLETED"], ["FAILED"])  # a quick machine: the others had finished
    (stage / "0001.part-x").mkdir()
    with pytest.raises(ModelFailed, match="BalanceCheckMod"):
        model.collect("0001", batch["0001"], stage, stage / "0001.part-x")
    with pytest.raises(RunFailed, match="is gone"):
        model.collect("0001", {NAME: 77.0}, stage, stage / "0001.part-x")


@pytest.mark.slow
def test_a_hanging_member_is_known_by_the_others_that_finished(cluster_a, monkeypatch):
    model = cluster_a.model(monkeypatch)
    monkeypatch.setenv("STANDIN_HANG", f"{VCMAX} {NEEDLELEAF} 50.5 51.5")
    stage = cluster_a.folder / "evaluation-00"

    def limit() -> None:
        while (
            sum(
                "SUCCESSFUL" in log.read_text()
                for log in model.jobs.run_directory.glob(".instance*/drv.log*")
            )
            < 2
        ):
            time.sleep(0.1)
        time.sleep(1)
        standin_slurm.end("1000", "TIMEOUT")

    threading.Thread(target=limit, daemon=True).start()
    model.run_together({f"{j:04d}": {NAME: 50.0 + j} for j in range(3)}, stage, {})
    found = fates(stage)
    assert [status for status, _ in found.values()] == [Status.OK, Status.TIME_OUT, Status.OK]
    assert "it came to 2005-01-1" in found["0001"][1]


def test_a_job_without_an_end_is_too_short_or_failed_by_the_machine(cluster_a, monkeypatch):
    model = cluster_a.model(monkeypatch)
    stage = cluster_a.folder / "evaluation-00"
    batch = {f"{j:04d}": {NAME: 50.0 + j} for j in range(2)}
    for end, words in (
        (End.OUT_OF_TIME, r"no member had finished.*JOB_WALLCLOCK_TIME"),
        (End.OUT_OF_MEMORY, "fewer inst"),
    ):
        ended = Job("1", end.name, end=end)
        monkeypatch.setattr(model.jobs.queue.__class__, "wait", lambda self, n, tell, job=ended: job)
        monkeypatch.setenv("STANDIN_SLURM_WAIT", "60")
        with pytest.raises(RunFailed, match=words):
            model.run_together(batch, stage, {})
        subprocess.run(["scancel", str(999 + len(cluster_a.jobs))], check=True)
    monkeypatch.setattr(
        model.jobs.queue.__class__,
        "wait",
        lambda self, n, tell: (cluster_a.cancel(n), Job(n, "NODE_FAIL", end=End.MACHINE_FAILED))[1],
    )
    with pytest.raises(RunFailed, match="NODE_FAIL failed, and no member is the cause: it logged nothing"):
        model.run_together(batch, stage, {})
    assert len(cluster_a.jobs) == 4  # the last submitted once more, as the machine file's `retries` says


def test_a_job_is_found_again_and_a_cancelled_one_ends_the_run(cluster_a, monkeypatch):
    batch = {f"{j:04d}": {NAME: 50.0 + j} for j in range(2)}
    stage = cluster_a.folder / "evaluation-00"
    monkeypatch.setenv("STANDIN_SLURM_WAIT", "60")
    model = cluster_a.model(monkeypatch, stop=lambda: bool(cluster_a.jobs))
    with pytest.raises(OutOfTime, match=r"job 1000 PENDING \(Priority\) goes on"):
        model.run_together(batch, stage, {})

    other = cluster_a.model(monkeypatch)
    with pytest.raises(RunFailed, match=r"job 1000 PENDING .* runs members with other parameters"):
        other.run_together({name: {NAME: 70.0} for name in batch}, stage, {})
    with pytest.raises(BadInput, match=r"cases/hyy has job 1000 in the queue, which would .* scancel 1000"):
        other.run_together(batch, stage.with_name("evaluation-01"), {})

    (note,) = stage.glob("jobs/submission.json")  # as if killed while case.submit was at it
    note.write_text(json.dumps(json.loads(note.read_text()) | {"number": None}))
    said: list[str] = []
    monkeypatch.setattr(log, "info", lambda words, *rest: said.append(words % rest))
    threading.Timer(1.0, cluster_a.cancel, ["1000"]).start()
    with pytest.raises(RunFailed, match=r"job 1000 CANCELLED.*Start again"):
        cluster_a.model(monkeypatch).run_together(batch, stage, {})
    assert said[0] == "evaluation-00: job 1000 was submitted before: it is not submitted again"

    monkeypatch.setenv("STANDIN_SLURM_WAIT", "0")
    cluster_a.model(monkeypatch).run_together(batch, stage, {})
    assert [job["state"] for job in cluster_a.jobs] == ["CANCELLED", "COMPLETED"]
    assert [status for status, _ in fates(stage).values()] == [Status.OK] * 2


def test_a_case_that_cannot_run_instances_is_refused(cluster_a, monkeypatch):
    def problem(**changes: Any) -> str:
        with pytest.raises(BadInput) as caught:
            checked_parts(site_models.located(settings.load(cluster_a.config(**changes))))
        return str(caught.value)

    cluster_a.model(monkeypatch).check()
    years = ["2005-01-01", "2006-01-31"]
    assert "lie outside the model's period" in problem(observations={"calibration": years})
    with (cluster_a.case / "user_nl_clm").open("a") as file:
        file.write("use_bedrock = .false.\n")
    assert "have changed since this run began" in problem()
    shutil.rmtree(cluster_a.folder / "calibration" / "case")
    (absent,) = (cluster_a.folder / "CTSM" / ".." / "inputdata").resolve().rglob("megan21.nc")
    absent.unlink()  # which no namelist of the land model or the streams names
    model = cluster_a.model(monkeypatch)
    model.check()
    told = model.describe(10, 0, 2)
    assert told[-1] == f"input data    case.submit will fetch these, or fail: {absent} (ctsm: megan)"
    content = (cluster_a.folder / "calibration" / "case" / "lnd_in").read_text()
    gone = content.replace("urbantv_hyy.nc", "none.nc").replace("snicar_drdt", "none")
    (cluster_a.folder / "calibration" / "case" / "lnd_in").write_text(gone)
    said = problem()
    assert "2 input files are missing: " in said
    assert "none_bst_fit_60_c070416.nc (" in said
    assert "none.nc (" in said
    (cluster_a.folder / "calibration" / "case" / "lnd_in").write_text(content)
    cluster_a("xmlchange", "--force", "MPILIB=mpi-serial")
    assert "is built with mpi-serial" in problem()
    with pytest.raises(BadInput, match=r"knows `spinup: \{reuse: default\}` and `none`"):
        settings.load(cluster_a.config(model={"spinup": {"years": 1, "reuse": "member"}}))


def test_a_case_left_with_several_instances_is_brought_back_unless_its_job_is_queued(cluster_a, monkeypatch):
    cluster_a("xmlchange", "NINST=4")
    cluster_a("case.setup", "--reset")
    cluster_a("case.build")
    assert len(list(cluster_a.case.glob("user_nl_clm_000*"))) == 4
    monkeypatch.setenv("STANDIN_SLURM_WAIT", "60")
    cluster_a("case.submit")
    with pytest.raises(BadInput, match=r"has job 1000 in the queue"):
        cluster_a.model(monkeypatch)
    assert cluster_a("xmlquery", "--value", "NINST") == "4"
    cluster_a.cancel("1000")
    cluster_a.model(monkeypatch).check()
    assert cluster_a("xmlquery", "--value", "NINST") == "1"
    assert not list(cluster_a.case.glob("user_nl_clm_000*"))
    assert (cluster_a.folder / "calibration" / "case" / "lnd_in").is_file()


def test_a_stranger_s_job_of_the_same_name_is_neither_adopted_nor_waited_for(cluster_a, monkeypatch):
    monkeypatch.setenv("STANDIN_SLURM_WAIT", "60")
    model = cluster_a.model(monkeypatch)
    stranger = cluster_a.folder / "other" / "hyy"
    stranger.mkdir(parents=True)
    (stranger / "job.sh").write_text("#!/bin/sh\n")
    cluster_a._run("sbatch", "--job-name=run.hyy", "job.sh", cwd=stranger)
    assert model.jobs._in_queue() == []
    model.jobs._require_free()
    unnumbered = Submission(["0000"], ["mark"], casestatus.length(cluster_a.case))
    assert model.jobs._numbered(unnumbered).number is None
    cluster_a._run("sbatch", "--job-name=run.hyy", ".case.run", cwd=cluster_a.case)
    assert model.jobs._numbered(unnumbered).number == "1001"
    cluster_a.cancel("1000")
    cluster_a.cancel("1001")


def test_files_that_cime_misses_at_submission_are_named(cluster_a, monkeypatch):
    model = cluster_a.model(monkeypatch)
    (absent,) = (cluster_a.folder / "inputdata").rglob("megan21.nc")
    absent.unlink()
    with pytest.raises(RunFailed, match=r"Could not find all inputdata.*Missing: .*megan21\.nc"):
        model.run_together({"0000": {NAME: 50.0}}, cluster_a.folder / "evaluation-00", {})


@pytest.mark.mpi
@pytest.mark.slow
def test_a_calibration_killed_while_it_waits_submits_no_job_twice(data, tmp_path):
    cluster = Cluster(tmp_path, data, "B")
    config = cluster.config()
    change(config, "calibrate.force", True)  # four members do not show that the data tell anything
    environment = mpi_environment() | cluster.environment | {"STANDIN_SLURM_WAIT": "2"}
    # mpirun puts its own folder, perhaps of a real Slurm, before it
    path = f"PATH={cluster.environment['PATH']}"
    mpirun, python = mpi_command(2)[:3], mpi_command(2)[3]
    command = [*mpirun, "env", path, python, "-m", "fatescal", str(config)]
    with subprocess.Popen(
        command, env=environment, cwd=tmp_path, stdout=-3, stderr=-3, start_new_session=True
    ) as first:
        note = tmp_path / "calibration/members/truth/jobs/submission.json"
        while not (note.is_file() and json.loads(note.read_text())["number"]):
            assert first.poll() is None
            time.sleep(0.1)
        os.killpg(first.pid, signal.SIGKILL)
    told = fatescal(0, "status", tmp_path / "calibration").stdout
    assert (
        "truth                        under way: 0 members finished, 0 of them failed; job 1000 was submitted"
        in told
    )
    environment["STANDIN_SLURM_WAIT"] = "0"
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    require_scored(done)
    assert "truth: job 1000 was submitted before: it is not submitted again" in done.stderr
    stages = ["truth", "evaluation-00", "evaluation-01", "evaluation-posterior-00"]
    assert [job["state"] for job in cluster.jobs] == ["COMPLETED"] * len(stages)
    run = tmp_path / "calibration"
    for stage, n in zip(stages, (2, 5, 5, 3), strict=True):
        with h5py.File(run / "stages" / f"{stage}.h5") as file:
            assert file["status"][:].tolist() == [Status.OK] * n
    member = run / "members/evaluation-01/0002"
    theta = json.loads((member / "member.json").read_text())["parameters"]
    last = json.loads((run / "members/evaluation-posterior-00/0001/member.json").read_text())
    assert last["seconds"] == casestatus.seconds(casestatus.since(cluster.case, 0))  # of the last job
    assert parameter_file.read(member / "fates_paramfile.nc").defaults[NAME] == theta[NAME]
    assert len((tmp_path / "log").read_text().splitlines()) == 2 + 5 + 5 + 3  # no instance ran twice
