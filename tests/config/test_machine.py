"""Machine files: where a run is kept, how members are launched and tried again; and what a job has time
for.
"""

from __future__ import annotations

import json
import stat
import time
from pathlib import Path

import numpy as np
import pytest
from linear import PRIOR, QUICK, fatescal, write_problem
from running import digests, require_scored

from fatescal import config as settings
from fatescal.base.errors import BadInput, ModelFailed, OutOfTime, Status
from fatescal.cli.run import wall_time_limit
from fatescal.diagnostics import failures
from fatescal.ensemble.wall_time import WallTimeGuard
from fatescal.hpc.launch import HIDDEN_PREFIXES, launch

MACHINES = Path(__file__).parents[2] / "machines"


@pytest.mark.parametrize("name", ["fram", "betzy", "local", "template"])
def test_the_machines_are_known_by_name(name, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    machine = settings.load_machine(name)
    assert machine.launcher == ()
    assert machine == settings.load_machine(str(MACHINES / f"{name}.yaml"))


def test_the_template_explains_every_key_and_shows_the_defaults():
    text = (MACHINES / "template.yaml").read_text()
    assert all(f"\n{key}:" in text or f"\n# {key}:" in text for key in settings.Machine.model_fields)
    template = settings.load_machine("template")
    assert template.hide == HIDDEN_PREFIXES
    assert template.model_copy(update={"hide": None}) == settings.Machine()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("retrys: 2", "did you mean 'retries'"),
        ("scratch: $NOT_SET_ANYWHERE/x", "NOT_SET_ANYWHERE is not set"),
        ("retries: -1", "retries"),
        ("launcher: [srun, --overlap]", "without SLURM_"),
        ("- a list", "is not a machine file"),
    ],
)
def test_mistakes_in_a_machine_file_are_told(tmp_path, text, words):
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(BadInput, match=r"mine\.yaml") as error:
        settings.load_machine(str(path))
    assert words in str(error.value)


def test_an_unknown_machine_ends_before_anything_is_run(tmp_path):
    config = write_problem(tmp_path)
    done = fatescal(1, "check", config, "--machine", "farm")
    assert done.returncode == 2
    assert "betzy, casper, derecho, fram, local, template" in done.stderr
    assert not (tmp_path / "run").exists()


def test_a_relative_run_directory_is_below_scratch(tmp_path):
    config = settings.load(write_problem(tmp_path))
    relative = config.model_copy(update={"run": config.run.model_copy(update={"directory": Path("runs/a")})})
    machine = settings.Machine(scratch=tmp_path / "scratch")
    assert relative.on(machine).run.directory == tmp_path / "scratch" / "runs" / "a"
    assert config.on(machine).run.directory == config.run.directory  # absolute
    assert relative.on(machine).folded(1, 2).run.directory.is_relative_to(tmp_path / "scratch")
    assert "machine" not in relative.on(machine).plain()


def test_members_go_through_the_launcher_to_the_same_result(tmp_path):
    for name in ("plain", "launched"):
        (tmp_path / name).mkdir()
    short: dict[str, dict] = {
        "calibrate": {"iterations": 0},
        "emulate": {"force": True, "rounds": 0, **QUICK},
    }
    plain = write_problem(tmp_path / "plain", **short)
    unlaunched = fatescal(0, plain)
    launched = write_problem(tmp_path / "launched", **short)
    wrapper = tmp_path / "wrapper.sh"
    wrapper.write_text(f'#!/bin/sh\necho "$1" >>{tmp_path}/nodes\nshift\nexec "$@"\n')
    wrapper.chmod(wrapper.stat().st_mode | stat.S_IXUSR)
    machine = tmp_path / "machine.yaml"
    machine.write_text(f"launcher: [{wrapper}, 'on={{node}}']\n")
    done = fatescal(0, launched, "--machine", machine)
    require_scored(unlaunched)
    require_scored(done)
    nodes = (tmp_path / "nodes").read_text().split()
    assert len(nodes) >= len(list((tmp_path / "launched" / "run" / "members").glob("*/[0-9]*")))
    assert len(set(nodes)) == 1
    assert nodes[0].startswith("on=")
    assert "{" not in nodes[0]
    assert digests(launched.parent / "run") == digests(plain.parent / "run")


def test_a_launcher_that_is_not_there_is_told_before_any_run(tmp_path):
    machine = tmp_path / "machine.yaml"
    machine.write_text("launcher: [no-such-launcher]\n")
    done = fatescal(1, "check", write_problem(tmp_path), "--machine", machine)
    assert done.returncode == 2
    assert "no-such-launcher is not found" in done.stderr


def test_the_launcher_takes_the_name_of_slurms_node(tmp_path, monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setenv("SLURMD_NODENAME", "c12-3")
    with pytest.raises(ModelFailed, match="c12-3"):
        launch(["it"], tmp_path, timeout=None, launcher=["sh", "-c", "echo {node}; exit 1"])


def test_no_member_is_started_that_cannot_finish():
    WallTimeGuard(lambda: 0.0).require_time()  # nothing is known yet
    WallTimeGuard(lambda: 31.0, [10.0, 30.0]).require_time()
    with pytest.raises(OutOfTime, match=r"takes 28 s, 27 s are left"):
        WallTimeGuard(lambda: 27.0, [10.0, 30.0]).require_time()


def test_a_run_that_stops_says_what_is_left_to_do(tmp_path):
    config = write_problem(tmp_path, "--sleep", "0.5")
    done = fatescal(2, config, "--time-limit", "6s")
    assert done.returncode == 75, done.stderr
    assert done.stderr.count("left to do: about") == 1  # by root alone
    assert "core-hours" in done.stderr


@pytest.mark.parametrize(("length", "before_end"), [(86400, 600), (1200, 120)])
def test_the_end_of_a_slurm_job_is_known(monkeypatch, length, before_end):
    now = int(time.time())
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setenv("SLURM_JOB_START_TIME", str(now))
    monkeypatch.setenv("SLURM_JOB_END_TIME", str(now + length))
    left = wall_time_limit()
    assert left is not None
    assert abs(left - (length - before_end)) < 5


def test_outside_slurm_no_end_is_known(monkeypatch):
    monkeypatch.delenv("SLURM_JOB_END_TIME", raising=False)
    assert wall_time_limit() is None


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_the_parameter_that_breaks_the_model_is_named(sign):
    theta = np.random.default_rng(3).normal(size=(64, 6))
    ok = sign * theta[:, 2] < 1.0
    names = [f"p{i}" for i in range(6)]
    (line,) = failures.where(theta, ok, names)
    n_failed = np.sum(~ok)
    assert line.startswith("p2 >=" if sign > 0 else "p2 <=")
    assert line.endswith(f": {n_failed} of the {n_failed} failed members, 0 of the {64 - n_failed} others")


def test_failures_by_chance_blame_no_parameter():
    rng = np.random.default_rng(5)
    named = [
        failures.where(rng.normal(size=(64, 6)), rng.random(64) > 0.2, list("abcdef")) for _ in range(60)
    ]
    assert sum(map(bool, named)) <= 8  # 5 % of 60, and three standard deviations more


def test_a_machine_decides_how_often_a_member_is_tried(tmp_path):
    mean, sd = PRIOR["mean"]
    config = write_problem(tmp_path, "--fail-above", str(mean + sd), run={"stop_after": "prior"})
    machine = tmp_path / "machine.yaml"
    machine.write_text("retries: 0\n")
    fatescal(1, config, "--machine", machine)
    folders = list((tmp_path / "run" / "members").rglob("member.json"))
    assert any(json.loads(path.read_text())["status"] == Status.MODEL_ERROR for path in folders)
    assert not any(".failed-" in str(path) for path in folders)
