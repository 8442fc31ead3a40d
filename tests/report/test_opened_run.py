"""A run in a notebook: the ten lines that must work, and that their numbers are those of the records."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from linear import exact_posterior, fatescal, write_problem

import fatescal as fc
from fatescal.base.errors import BadInput


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    done = fatescal(1, write_problem(folder, posterior={"members": 32}))
    assert "May I use this posterior?" in done.stdout, done.stderr
    return folder


@pytest.fixture(scope="module")
def run(site: Path):
    return fc.open(site / "run")


def test_the_answer_and_the_config_are_those_of_the_run(site: Path, run) -> None:
    assert run.answer.line == (site / "run" / "scorecard.txt").read_text().splitlines()[0]
    assert run.config["calibrate"]["members"] == 20
    assert run.answer.word in repr(run)


def test_the_posterior_is_a_table(site: Path, run) -> None:
    mean, sd = exact_posterior(site)
    table = run.posterior
    assert list(table.columns) == ["mean", "wave", "trend"]
    np.testing.assert_allclose(table.mean(), mean, atol=0.1 * sd.max())
    assert run.parameters.loc["wave", "posterior_sd"] == pytest.approx(table["wave"].std())
    assert run.parameters.loc["wave", "prior_mean"] == pytest.approx(1.0)


def test_predictions_and_observations_have_units_and_times(run) -> None:
    predicted, observed = run.predictions("posterior"), run.observations
    assert predicted["GPP"].attrs["units"] == observed["GPP"].attrs["units"] == "g C m-2 d-1"
    assert predicted["ET"].dims == ("chain", "draw", "time_ET")
    residual = predicted["GPP"].mean(("chain", "draw")) - observed["GPP"]  # aligned by their times
    calibration = observed["GPP_period"] == "calibration"
    rmse = float(np.sqrt((residual[calibration.values] ** 2).mean()))
    scores = run.scores.query("variable == 'GPP' and period == 'calibration' and ensemble == 'posterior'")
    assert rmse == pytest.approx(scores.set_index("score")["value"]["rmse"])
    assert set(scores.set_index("score")["unit"][["rmse", "r2"]]) == {"g C m-2 d-1", "1"}
    with pytest.raises(BadInput, match="did you mean 'posterior'"):
        run.predictions("postrior")


def test_the_emulator_gives_the_misfit_of_the_model(run) -> None:
    stage = next(name for name in run.results.history if name.startswith("evaluation-posterior"))
    evaluation = run.results.history[stage]
    theta = run.ensemble(stage)[["mean", "wave", "trend"]].to_numpy()
    phi, sd = run.emulator(theta[1:])
    calibration = run.results.observations.select(run.results.rows("calibration"))
    true = calibration.misfit(evaluation.predictions[1:, run.results.rows("calibration")])
    assert np.abs(phi - true).max() < 0.1 + 4 * sd.max()


def test_posterior_nc_has_the_groups_of_inference_data(site: Path, run) -> None:
    with xr.open_datatree(site / "run" / "posterior.nc") as tree:
        groups = set(tree.children)
        assert groups == {
            *("posterior", "sample_stats", "posterior_members", "posterior_predictive", "log_likelihood"),
            *("prior", "prior_predictive", "observed_data"),
        }  # fmt: skip
        assert tree["prior"]["wave"].attrs["units"] == "1"
        assert tree["sample_stats"]["lp"].dims == ("chain", "draw")
        members = tree["posterior_predictive"]["GPP"].sizes["draw"]
        assert members == tree["posterior_members"]["wave"].sizes["draw"] == 31
        observed = tree["observed_data"].to_dataset()
        y, sd = observed["GPP"].to_numpy(), observed["GPP_error"].to_numpy()
        g = tree["posterior_predictive"].to_dataset()["GPP"].to_numpy()
        density = -0.5 * ((y - g) / sd) ** 2 - np.log(sd * np.sqrt(2 * np.pi))
        np.testing.assert_allclose(tree["log_likelihood"].to_dataset()["GPP"].to_numpy(), density)
    assert set(run.to_datatree().children) == groups


def test_figures_and_comparison(site: Path, run) -> None:
    assert run.plot("fit-GPP").axes
    with pytest.raises(BadInput, match="there is no figure 'fit-XXX'"):
        run.plot("fit-XXX")
    with pytest.raises(ValueError, match=r"."):
        fc.compare([])
    side = fc.compare([site / "run"])
    assert side.shape == (len(run.scores), 1)


def test_a_config_is_loaded_with_changes_and_a_run_of_it_is_continued(site: Path, run) -> None:
    config = fc.load(site / "linear.yaml", {"calibrate.members": 31})
    assert config.calibrate.members == 31
    again = fc.calibrate(site / "linear.yaml")
    assert again.posterior.equals(run.posterior)


def test_what_is_no_run_is_told(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="is no run that can be opened"):
        fc.open(tmp_path)
