"""The shipped configs, run as a user runs them: the truth is found again, the real fluxes are fitted
better.
"""

from __future__ import annotations

import csv
import re
from pathlib import Path

import numpy as np
import pytest
import yaml
from conftest import mpi_command
from linear import run_program

from fatescal.__main__ import main

pytestmark = [pytest.mark.mpi, pytest.mark.slow]
CONFIG = Path(__file__).parents[2] / "config"


def posterior(run: Path) -> tuple[list[str], np.ndarray]:
    with open(run / "posterior.csv") as file:
        names, *rows = csv.reader(file)
    return names, np.array(rows, dtype=float)


def scores(run: Path) -> dict[tuple[str, ...], float]:
    with open(run / "scorecard.csv") as file:
        return {
            (row["variable"], row["period"], row["ensemble"], row["score"]): float(row["value"])
            for row in csv.DictReader(file)
        }


def test_the_demo_finds_its_truth_again(tmp_path):
    done = run_program(mpi_command(2, "-m", "fatescal"), tmp_path)
    assert done.returncode == 0, done.stderr
    run = tmp_path / "runs" / "hyytiala_twin"
    names, draws = posterior(run)
    mean, sd = draws.mean(axis=0), draws.std(axis=0)
    default = {"vcmax25top_needle": 62, "vcmax25top_broad": 58, "vcmax25top_cool": 78}
    truth = np.array([next((0.85 * v for k, v in default.items() if k in n), 0.8 * 8) for n in names])
    assert np.abs((mean - truth) / sd).max() < 3.3
    prior_sd = {"vcmax25top_needle": 6.83, "ballberry_needle": 1.305}
    for part, wide in prior_sd.items():
        column = next(i for i, name in enumerate(names) if part in name)
        assert sd[column] < 0.5 * wide
    assert "NOT" not in done.stdout  # validated, converged, deterministic
    assert "the model confirms the emulated posterior" in done.stdout


def test_the_real_job_beats_default_and_prior(tmp_path, data):
    place = f"run.directory={tmp_path / 'runs' / 'hyytiala_smear'}"
    command = mpi_command(2, "-m", "fatescal", str(CONFIG / "hyytiala_smear.yaml"), "--set", place)
    done = run_program(command, tmp_path, timeout=1500)
    headline = re.search(r"^May I use this posterior\? (.*)$", done.stdout, re.M)
    assert headline is not None, done.stderr
    assert (headline[1], done.returncode) in {
        ("Yes: confirmed by the model", 0),
        ("With care: confirmed by the model", 0),
        ("No: cannot tell", 1),
    }
    card = scores(tmp_path / "runs" / "hyytiala_smear")
    sd = {"GPP": 1.2, "ET": 0.5}

    def misfit(ensemble: str) -> float:
        return sum((card[v, "calibration", ensemble, "rmse"] / sd[v]) ** 2 for v in sd)

    assert misfit("posterior") < misfit("prior")
    assert misfit("posterior") < misfit("default")
    assert card["GPP", "validation", "posterior", "rmse"] < 1.05  # 0.99
    assert card["ET", "validation", "posterior", "rmse"] < 0.55  # 0.52
    assert card["GPP", "validation", "climatology", "rmse"] == pytest.approx(1.045, abs=5e-4)
    assert card["ET", "validation", "climatology", "rmse"] == pytest.approx(0.492, abs=5e-4)


def shipped() -> list[Path]:
    """Return the configs that need nothing but this software; test_clm_fates.py checks those that need a
    case.
    """
    configs = sorted(CONFIG.glob("*.yaml"))
    return [path for path in configs if yaml.safe_load(path.read_text())["model"].get("kind") != "clm_fates"]


@pytest.mark.parametrize("config", shipped(), ids=lambda path: path.stem)
def test_a_shipped_config_passes_check(config, data, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["check", str(config), "--set", f"run.directory={tmp_path / 'run'}"]) == 0
    assert yaml.safe_load(config.read_text())["run"]["name"] in capsys.readouterr().out
