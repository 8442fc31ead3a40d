"""Cross-validation by blocks of years: each year is held out once, each fold a run of its own."""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from linear import MODEL, QUICK, SD, TRUTH, fatescal, write_problem, write_two_years
from linear_model import fluxes

from fatescal import config as settings
from fatescal.base.errors import BadInput
from fatescal.diagnostics.scores import over_folds
from fatescal.hpc.communicator import Communicator
from fatescal.observations.calendars import exists
from fatescal.observations.noise import ErrorModel
from fatescal.observations.observed_variable import ObservedVariable
from fatescal.observations.periods import held_out
from fatescal.observations.windows import grid_of
from fatescal.storage.records import Scorecard
from fatescal.workflow.problem import assemble

YEARS = ("2004-01-01", "2010-12-31")


@pytest.mark.parametrize("n_folds", [2, 3, 7])
def test_each_window_validates_in_one_fold_and_calibrates_in_the_others(n_folds):
    x = ObservedVariable("x", "1", ErrorModel(sd=1.0))
    later = ("2011-01-01", "2011-12-31")
    grids = [grid_of([x], "1D", YEARS, later, "noleap", (i + 1, n_folds)) for i in range(n_folds)]
    held = np.array([grid.period == "validation" for grid in grids])
    assert (held.sum(axis=0) == 1).all()
    for grid, mask in zip(grids, held, strict=True):
        assert len(grid) == 7 * 365
        assert not set(grid.start[mask].astype("datetime64[Y]")) & set(
            grid.start[~mask].astype("datetime64[Y]")
        )


@pytest.mark.parametrize("fold", [(0, 5), (6, 5), (1, 8), (1, 1)])
def test_folds_that_cannot_be_are_refused(fold):
    with pytest.raises(BadInput, match="block of years"):
        held_out(np.array(["2004-01-01"], "datetime64[s]"), YEARS, fold)


SITES = {  # calendar of the model, its first day, and the years of calibration
    "north": ("noleap", "2003-01-01", ["2003-01-01", "2004-12-31"]),
    "south": ("standard", "2004-01-01", ["2004-01-01", "2005-12-31"]),
}


def write_two_calendars(folder: Path) -> Path:
    """Write two years of the linear problem, without noise, at each of two sites; return the config's
    path.
    """
    content = yaml.safe_load(write_problem(folder).read_text())
    shared = {key: content["observations"][key] for key in ("time_column", "variables")}
    content |= {"observations": shared, "sites": {}}
    for site, (calendar, first, years) in SITES.items():
        text = MODEL.read_text().replace("N_DAYS = 90", "N_DAYS = 731").replace('"standard"', f'"{calendar}"')
        (folder / f"{site}.py").write_text(text.replace("days since 2004-01-01", f"days since {first}"))
        days = np.datetime64(first) + np.arange(732)
        days = days[exists(days, calendar)]
        made = fluxes(TRUTH, len(days))
        rows = [f"{d},{g!r},{e!r}" for d, g, e in zip(days, made["GPP"], made["ET"], strict=True)]
        (folder / f"{site}.csv").write_text("\n".join(["date,GPP,ET", *rows]) + "\n")
        content["sites"][site] = {
            "model": {"command": [sys.executable, "-SE", f"{site}.py"], "calendar": calendar},
            "observations": {"file": f"{site}.csv", "calibration": years},
        }
    path = folder / "sites.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def test_a_fold_of_sites_with_other_calendars_and_years(tmp_path):
    """Each day of each site is compared with the same day of its model, and of each site a year is held
    out.
    """
    config = settings.load(write_two_calendars(tmp_path)).folded(1, 2)
    problem = assemble(config, Communicator().alone())
    observed, predictions = problem.observed, []
    assert observed is not None
    for site in problem.members.sites:
        (tmp_path / site.site).mkdir()
        site.model.run(TRUTH, tmp_path / site.site)
        predictions.append(site.align(site.model.read(tmp_path / site.site)))
    np.testing.assert_allclose(np.concatenate(predictions), observed.y, rtol=1e-12)
    for name, held, n_days in (("north", 2003, {365}), ("south", 2004, {366, 365})):
        rows = np.array([label.startswith(name) for label in observed.variable.tolist()])
        year = observed.start.astype("datetime64[Y]").astype(int) + 1970
        assert (observed.period[rows] == np.where(year[rows] == held, "validation", "calibration")).all()
        assert {np.sum(year[observed.variable == f"{name}/GPP"] == y) for y in (held, held + 1)} == n_days


def test_scores_are_averaged_over_folds_key_by_key():
    def card(*values):
        one = np.array(["a", "b"])
        return Scorecard(
            one, np.full(2, "validation"), np.full(2, "prior"), np.full(2, "rmse"), np.array(values)
        )

    mean, sd = over_folds([card(1.0, 4.0), card(3.0, 4.0)])
    assert mean.value.tolist() == [2.0, 4.0]
    assert sd.tolist() == [2.0**0.5, 0.0]


def test_folds_without_a_score_in_common_are_refused():
    def card(score):
        variable, period, ensemble, name = (np.array([x]) for x in ("a", "validation", "prior", score))
        return Scorecard(variable, period, ensemble, name, np.ones(1))

    with pytest.raises(BadInput, match=r"no score in common\. Got rmse; bias\. Try: .*run\.scores"):
        over_folds([card("rmse"), card("bias")])


def test_a_fold_of_too_few_years_or_in_other_words_is_refused(tmp_path):
    config = write_problem(tmp_path)
    refused = fatescal(0, "check", "--fold", "1/2", config)
    assert refused.returncode == 2
    assert "fold 1/2 of 1 calibration years" in refused.stderr
    assert fatescal(0, "run", "--fold", "2", config).returncode == 2


def test_two_folds_are_run_and_reported(tmp_path):
    config = write_two_years(tmp_path, emulate=QUICK)
    for fold in ("1/2", "2/2"):
        done = fatescal(0, "run", "--fold", fold, config)
        assert done.returncode == 0, done.stderr
        told = fatescal(0, "report", tmp_path / "run")
        assert ("missing: fold-2-of-2" in told.stdout) == (fold == "1/2")
        assert told.returncode == (fold == "1/2")
    with open(tmp_path / "run" / "folds.csv", newline="") as file:
        scores = {(r["variable"], r["period"], r["ensemble"], r["score"]): r for r in csv.DictReader(file)}
    best = scores["GPP", "validation", "posterior", "rmse"]
    assert best["folds"] == "2"
    assert float(best["mean"]) == pytest.approx(SD["GPP"], rel=0.35)
