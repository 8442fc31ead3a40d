"""The verb `screen` on the linear problem: the effects are known exactly."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from linear import CALIBRATION_DAYS, PRIOR, fatescal, write_problem
from linear_model import fluxes
from running import digests

from fatescal.diagnostics import morris

STEP = 1.468988744340383  # in prior sd: from the middle of a quarter of a normal to that of the next but one


def effects_of(run: Path) -> dict[tuple[str, str], float]:
    with open(run / "screen" / "screen.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return {(row["output"], row["parameter"]): float(row["mean_absolute_effect"]) for row in rows}


@pytest.mark.mpi
def test_screen_finds_the_exact_effects_on_any_number_of_ranks(tmp_path: Path) -> None:
    folders = [tmp_path / "one", tmp_path / "two"]
    for n_ranks, folder in enumerate(folders, start=1):
        folder.mkdir()
        done = fatescal(n_ranks, "screen", "--paths", "3", write_problem(folder))
        assert done.returncode == 0, done.stderr
        assert "12 runs, 0 failed" in done.stdout
    one, two = (digests(folder / "run" / "screen") for folder in folders)
    assert one == two
    found = effects_of(folders[0] / "run")
    base = {name: mean for name, (mean, _) in PRIOR.items()}
    for name, (_, sd) in PRIOR.items():  # linear: an effect is the mean change over half of the normal prior
        moved = fluxes(base | {name: base[name] + sd})
        for output in ("GPP", "ET"):
            change = np.mean(np.array(moved[output]) - np.array(fluxes(base)[output]), where=_calibration())
            assert found[output, name] == pytest.approx(abs(change) * STEP, rel=1e-6, abs=1e-9)
    assert not (folders[0] / "run" / "stages").exists()  # a run of its own


def _calibration() -> np.ndarray:
    days = np.arange(len(fluxes(dict.fromkeys(PRIOR, 0.0))["GPP"]))
    return days < CALIBRATION_DAYS


def test_another_number_of_paths_is_told(tmp_path: Path) -> None:
    path = write_problem(tmp_path)
    assert fatescal(0, "screen", "--paths", "2", path).returncode == 0
    again = fatescal(0, "screen", "--paths", "3", path)
    assert again.returncode == 2
    assert "has a screening with 2 paths. Try: --paths 2" in again.stderr
    assert morris.usual_paths(3) == 10


def test_members_as_jobs_are_refused(tmp_path: Path) -> None:
    machine = tmp_path / "machine.yaml"
    machine.write_text("execution: jobs\njobs: {options: [--time=5]}\n")
    done = fatescal(0, "screen", write_problem(tmp_path), "--machine", machine)
    assert done.returncode == 2
    assert "screen runs members on its own ranks alone" in done.stderr
    assert not (tmp_path / "run" / "screen").exists()
