"""A set-up that cannot work costs one run; a parameter without effect is named."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from linear import MODEL, PRIOR, fatescal, write_problem

from fatescal.__main__ import main
from fatescal.base.errors import Status
from fatescal.ensemble import effects

pytestmark = [pytest.mark.slow]
MEMBERS = 20


@pytest.fixture
def runs(tmp_path, monkeypatch) -> Callable[[], list[dict[str, float]]]:
    """Return the parameters of all models that have run since it was last asked."""
    log = tmp_path / "runs.log"
    monkeypatch.setenv("LINEAR_LOG", str(log))

    def seen() -> list[dict[str, float]]:
        lines = log.read_text().splitlines() if log.exists() else []
        log.unlink(missing_ok=True)
        return [json.loads(line) for line in lines]

    return seen


def problem(folder: Path, *options: str, **changes: Any) -> Path:
    """Write the linear problem, up to its first ensemble, with a model that counts its runs."""
    return write_problem(folder, "--count", *options, **{"run": {"stop_after": "prior"}, **changes})


def edited(path: Path, change: Callable[[dict], object]) -> Path:
    config = yaml.safe_load(path.read_text())
    change(config)
    path.write_text(yaml.safe_dump(config, sort_keys=False))
    return path


def script(folder: Path, text: str) -> Callable[[dict], object]:
    """Return a change of a config: after the model a line of shell runs in the member's folder."""
    (folder / "model.sh").write_text(f"{sys.executable} -SE {MODEL} --count || exit 1\n{text}\n")
    return lambda c: c["model"].update(command=["/bin/sh", "model.sh"])


def years(c: dict) -> None:
    c["observations"] |= {
        "calibration": ["2005-01-01", "2005-02-28"],
        "validation": ["2005-03-01", "2005-03-30"],
    }
    table = Path(c["run"]["directory"]).parent / "fluxes.csv"
    lines = [line for line in table.read_text().splitlines() if "2004-02-29" not in line]
    table.write_text("\n".join(lines).replace("2004-", "2005-"))


def add(*words: str) -> Callable[[Path], Callable[[dict], object]]:
    """Return what adds words to the model's command line."""
    return lambda folder: lambda c: c["model"]["command"].extend(words)


def gpp(**keys: str) -> Callable[[Path], Callable[[dict], object]]:
    """Return what changes keys of the variable GPP."""
    return lambda folder: lambda c: c["observations"]["variables"]["GPP"].update(keys)


def after(text: str) -> Callable[[Path], Callable[[dict], object]]:
    return lambda folder: script(folder, text)


FAULTS = {
    "a crash": (add("--fail-above", "0"), "exit code 1", "by hand"),
    "csv": (after("mv output.nc output.csv"), "no output.nc; it left member.log, output.csv", "model.output"),
    "text": (after("echo date,GPP >output.nc"), "it is text ('date,GPP' ...)", "model.output"),
    "truncated": (after("truncate -s 900 output.nc"), "the file is truncated", "model.output"),
    "a name": (gpp(model="NPP"), "has no NPP; it has GPP, ET", "a name that the output has"),
    "a unit": (gpp(compare_in="W m-2", unit="W m-2"), "can't be converted", "`units` in the output"),
    "other years": (lambda f: years, "windows lack records, first 2005-01-01", "the observations' periods"),
    "a time-out": (after("sleep 60"), "still running after 5 s", "longer model.timeout"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_set_up_that_cannot_work_costs_one_run(tmp_path, runs, capsys, fault):
    change, happened, hint = FAULTS[fault]
    limit = {"timeout": "5 s"} if fault == "a time-out" else {}
    config = edited(problem(tmp_path, model=limit), change(tmp_path))
    for _ in range(2):  # a second start tries again: the machine may have been mended
        assert main(["run", str(config)]) == 1
        said = capsys.readouterr().err
        assert "the default run failed, and no other was started" in said
        assert happened in said
        assert hint in said
        assert "Traceback" not in said
        assert len(runs()) == 1
    assert not (tmp_path / "run/stages/evaluation-00.h5").exists()
    failed = json.loads((tmp_path / "run/members/evaluation-00/0000/member.json").read_text())
    assert failed["status"] != Status.OK


def test_what_was_mended_goes_on_and_the_default_run_counts_as_member_0(tmp_path, runs, capsys):
    config = problem(tmp_path)
    (tmp_path / "broken").touch()
    edited(config, script(tmp_path, f"[ ! -e {tmp_path}/broken ]"))
    assert main(["run", str(config)]) == 1
    (tmp_path / "broken").unlink()
    runs()
    assert main(["run", str(config)]) == 0
    seen = runs()
    assert len(seen) == MEMBERS  # the default run once, no run for an effect that the ensemble shows
    assert seen[0] == {name: mean for name, (mean, _) in PRIOR.items()}
    assert len({json.dumps(p) for p in seen}) == MEMBERS
    assert main(["run", str(config)]) == 0
    assert not runs()


def test_the_default_run_that_fails_may_have_a_fallback(tmp_path, runs, capsys):
    sound = {"command": [sys.executable, "-SE", str(MODEL), "--count"]}
    config = problem(tmp_path, "--fail-above", "4.5", model={"fallback": sound})
    assert main(["run", str(config)]) == 0
    found = json.loads((tmp_path / "run/members/evaluation-00/0000/member.json").read_text())
    assert (found["by"], found["status"]) == ("fallback", Status.OK)


def test_with_a_synthetic_truth_its_default_run_goes_first(tmp_path, runs, capsys):
    def synthetic(c: dict) -> None:
        for key in ("file", "time_column"):
            c["observations"].pop(key)
        c["observations"]["synthetic"] = {"truth": {"mean": 5.6, "wave": 0.5, "trend": 0.7}}
        c["model"]["command"] += ["--fail-above", "4.5"]

    assert main(["run", str(edited(problem(tmp_path), synthetic))]) == 1
    assert "the default run failed" in capsys.readouterr().err
    assert len(runs()) == 1
    assert (tmp_path / "run/members/truth/0000").is_dir()


def test_of_several_sites_the_one_that_fails_is_named(tmp_path, runs, capsys):
    config = yaml.safe_load(problem(tmp_path).read_text())
    part = {key: config.pop(key) for key in ("model", "observations")}
    bad = {"model": {"command": [*part["model"]["command"], "--fail-above", "0"]}}
    path = tmp_path / "linear.yaml"
    path.write_text(yaml.safe_dump({**config, **part, "sites": {"Here": {}, "There": bad}}, sort_keys=False))
    assert main(["run", str(path)]) == 1
    assert "the default run at There failed" in capsys.readouterr().err
    assert len(runs()) == 2  # each site's own


@pytest.mark.mpi
def test_on_many_ranks_it_is_one_run_too(tmp_path, runs):
    done = fatescal(4, "run", problem(tmp_path, "--fail-above", "0"))
    assert done.returncode == 1
    assert done.stderr.count("the default run failed, and no other was started") == 1
    assert len(runs()) == 1


def ignored(c: dict) -> None:
    c["parameters"]["trennd"] = {"prior": {"kind": "log-normal", "median": 1, "scale": 0.3}, "default": 1}


def test_a_parameter_that_the_model_never_reads_is_named(tmp_path, runs, caplog, capsys):
    config = edited(problem(tmp_path), ignored)
    assert main(["run", str(config)]) == 0
    words = "trennd has no effect on the output, so its posterior is its prior"
    assert caplog.text.count(words) == 1
    assert words in capsys.readouterr().out  # with the result
    assert words in (tmp_path / "run/report/index.html").read_text()
    seen = runs()
    assert len(seen) == MEMBERS + 1
    moved = {**{name: mean for name, (mean, _) in PRIOR.items()}, "trennd": float(np.exp(0.3))}
    assert seen[-1] == pytest.approx(moved)
    assert main(["run", str(config)]) == 0
    assert not runs()


@pytest.mark.mpi
@pytest.mark.parametrize("machine", ["keep: all", "keep: predictions"])
def test_effects_are_found_on_any_rank_and_with_predictions_alone(tmp_path, runs, machine):
    (tmp_path / "machine.yaml").write_text(machine)
    config = edited(problem(tmp_path), ignored)
    done = fatescal(3, "run", "--machine", tmp_path / "machine.yaml", config)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("trennd has no effect on the output") == 1
    assert len(runs()) == MEMBERS + 1
    left = {p.name for p in next((tmp_path / "run/members/effects").glob("trennd-*")).iterdir()}
    assert left >= {"member.json", "predictions.npz"}
    assert ("output.nc" in left) == (machine == "keep: all")


def test_parameters_the_ensemble_cannot_tell_of_get_a_run_each():
    rng = np.random.default_rng(2)
    u = rng.normal(size=(30, 4))
    assert effects.unseen(u, np.zeros((30, 7))) == [0, 1, 2, 3]  # no output changes
    assert effects.unseen(u[:5], u[:5]) == [0, 1, 2, 3]  # as many members as coefficients
    assert effects.unseen(u, np.column_stack([u[:, 1], 1e9 * u[:, 3], np.full(30, 1e3)])) == [0, 2]
    heavy = np.exp(3 * u[:, [1]]) @ np.ones((1, 6))  # one member outweighs all others
    assert effects.unseen(u, heavy) == [0, 2, 3]


def test_a_parameter_without_effect_seldom_passes_for_one_that_has_it():
    """Whatever the output: 1 in 1000 by construction; at most 4 in 1000 are accepted here."""
    passed = 0
    for seed in range(1000):
        rng = np.random.default_rng(seed)
        u = rng.normal(size=(24, 3))
        output = (
            np.exp(u[:, [0]] + rng.standard_t(2, size=(24, 1))) @ rng.normal(size=(1, 10)) + u[:, [1]] ** 2
        )
        passed += 2 not in effects.unseen(u, output)
    assert passed <= 4


def test_the_default_run_is_tried_on_request_and_used_by_the_run(tmp_path, runs, capsys):
    config = problem(tmp_path)
    for n_runs in (1, 0):  # tried once
        assert main(["check", "--try", str(config)]) == 0
        said = capsys.readouterr().out
        assert "ok in " in said
        assert "GPP [g C m-2 d-1]: 4 to 6, mean " in said
        assert "ET [mm d-1]: " in said
        assert "; 90 records, 2004-01-01T12:00:00 to 2004-03-30T12:00:00, one every 24 h" in said
        assert re.search(r"in all +20 +20 +\S+ +\S+\n", said)
        assert (
            "and up to 3 more: one for each parameter whose effect the first ensemble does not show" in said
        )
        assert len(runs()) == n_runs
    assert main(["run", str(config)]) == 0
    assert len(runs()) == MEMBERS - 1
    capsys.readouterr()
    assert main(["check", "--try", str(config)]) == 0  # of a run under way: what is finished stays
    assert "ok in " in capsys.readouterr().out
    assert not runs()


def test_a_default_run_that_fails_on_trial_ends_with_its_reason(tmp_path, runs, capsys):
    config = problem(tmp_path, "--fail-above", "0")
    assert main(["check", str(config)]) == 0  # nobody can know
    assert main(["check", "--try", str(config)]) == 1
    assert (
        "the default run failed, and no other was started: model error: exit code 1"
        in capsys.readouterr().err
    )
    assert len(runs()) == 1


def test_a_model_that_changed_after_the_trial_is_run_again(tmp_path, runs, capsys):
    config = problem(tmp_path)
    assert main(["check", "--try", str(config)]) == 0
    edited(config, lambda c: c["model"]["command"].extend(["--fail-above", "99"]))
    runs()
    assert main(["run", str(config)]) == 0
    assert len(runs()) == MEMBERS


def test_a_trial_needs_a_config(capsys):
    assert main(["check", "--try", "--machine", "laptop"]) == 2
    assert "check --try needs a config" in capsys.readouterr().err
