"""What the prior ensemble tells before the costly rest: coverage, conflict, constrained directions, the
verdict.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from linear import QUICK, SD, fatescal, write_problem

from fatescal.diagnostics.prior_check import assess, failure, render, verdict
from fatescal.observations.noise import ErrorModel
from fatescal.observations.observed_variable import ObservedVariable
from fatescal.observations.windows import grid_of, synthesise

ERRORS = {"a": ErrorModel(sd=0.5), "b": ErrorModel(sd=1.0, ar1=0.6)}
NAMES = ("first", "second")


def linear_case(shift: float = 0.0, gain: float = 1.0):
    """Two variables of a hundred days: a sees the first parameter, b nothing; exact Fisher information
    known.
    """
    grid = grid_of(
        [ObservedVariable(name, "1", error) for name, error in ERRORS.items()],
        "1D", ("2004-01-01", "2004-04-10"), None, "noleap",
    )  # fmt: skip
    rng = np.random.default_rng(0)
    slopes = np.zeros((2, len(grid)))
    slopes[0, grid.variable == "a"] = gain * np.sin(np.arange(100))
    u = rng.standard_normal((60, 2))
    observed = synthesise(rng, grid, np.array([0.3, 0.2]) @ slopes + shift, ERRORS)
    return observed, u, u @ slopes, slopes


def test_information_is_that_of_the_linear_problem():
    observed, u, predictions, slopes = linear_case()
    white = observed.whiten(slopes)
    posterior = np.linalg.inv(np.eye(2) + white @ white.T)
    a, b, both = assess(observed, u, predictions)
    np.testing.assert_allclose(both.informed, 1 - np.diagonal(posterior), atol=1e-10)
    np.testing.assert_allclose(b.informed, 0, atol=1e-12)
    assert a.degrees_of_freedom == pytest.approx(np.trace(np.eye(2) - posterior), abs=1e-10)


def test_the_check_passes_and_names_a_mute_parameter_and_a_variable_without_any():
    observed, u, predictions, _ = linear_case()
    found = assess(observed, u, predictions)
    assert 0.8 < found[-1].coverage <= 1.0
    assert not any(e.conflict for e in found)
    assert verdict(found, NAMES) == (
        "passed, but the model's output for b is the same in all 60 members: it depends on no parameter; "
        "the data say next to nothing about second"
    )
    assert failure(found, NAMES) == ""
    assert render(found, NAMES).splitlines()[-1].startswith("prior check passed, but")


def test_data_that_the_prior_cannot_produce_are_a_conflict():
    observed, u, predictions, _ = linear_case(shift=9.0)
    found = assess(observed, u, predictions)
    assert [e.conflict for e in found] == [True, True, True]
    assert found[0].coverage < 0.1
    assert verdict(found, NAMES).startswith(
        "failed: a lies outside what the prior ensemble can produce in 100 of 100 windows; b: all members "
        "predict at most 0 times what was observed. Try: another unit"
    )


def test_an_outlier_is_three_sigma_from_the_prior_predictions_and_one_in_twenty_is_a_conflict():
    """|d - gbar| > 3 (s_g + sigma), the spread and the error added, not squared."""
    observed, u, predictions, _ = linear_case()
    mean, spread = predictions.mean(axis=0), predictions.std(axis=0, ddof=1)
    y = mean.copy()
    edge = 3 * (spread + observed.sd)
    y[:5] += 1.001 * edge[:5]  # of a hundred: not above the twentieth part
    y[5:20] -= 0.999 * edge[5:20]
    a = assess(replace(observed, y=y), u, predictions)[0]
    assert (a.outliers, a.conflict) == (5, False)
    y[5] = mean[5] - 1.001 * edge[5]
    a = assess(replace(observed, y=y), u, predictions)[0]
    assert (a.outliers, a.conflict) == (6, True)


def test_data_without_a_word_on_the_parameters_fail_the_check():
    observed, u, predictions, _ = linear_case(gain=1e-3)
    assert verdict(assess(observed, u, predictions), NAMES).startswith("failed: the data say next to nothing")


def test_check_plots_and_a_run_tells_the_evidence(tmp_path):
    config = write_problem(tmp_path, run={"stop_after": "prior"})
    said = fatescal(0, "check", config)
    assert said.returncode == 0, said.stderr
    for name in SD:
        assert (tmp_path / "run" / f"check_{name}.png").read_bytes().startswith(b"\x89PNG")
    done = fatescal(0, config)
    assert "prior check passed" in done.stderr
    assert "the data constrain about" in done.stderr
    assert 'id="evidence"' in (tmp_path / "run" / "report" / "index.html").read_text()


def test_a_conflict_in_a_few_windows_is_stated_and_stops_nothing():
    observed, u, predictions, _ = linear_case()
    y = observed.y.copy()
    y[:20] += 8.0
    found = assess(replace(observed, y=y), u, predictions)
    assert "; a lies outside what the prior ensemble can produce in 20 of 100 windows" in verdict(
        found, NAMES
    )
    assert (
        render(found, NAMES)
        .splitlines()[-2]
        .startswith("prior check: outside every prior prediction by more than 5")
    )
    assert "and 15 more" in render(found, NAMES)


@pytest.mark.parametrize("factor", [1 / 86400, 86400.0, 1000.0])
def test_another_unit_fails_the_check_whatever_error_is_estimated(factor):
    observed, u, predictions, _ = linear_case()
    observed, predictions = replace(observed, y=observed.y + 5.0), predictions + 5.0
    wide = observed.widened({"a": 1e6, "b": 1e6})
    assert failure(assess(wide, u, predictions, measured=observed), NAMES).startswith(
        "the data say next to nothing"
    )
    assert "times what was observed" in failure(
        assess(wide, u, predictions * factor, measured=observed), NAMES
    )


def test_a_curve_without_a_slope_tells_the_parameter_all_the_same():
    observed, u, _, slopes = linear_case()
    curved = 3 * (u**2 - (u**2).mean(axis=0)) @ slopes
    u, curved = np.r_[u, -u], np.r_[curved, curved]
    found = assess(observed, u, curved)
    assert (found[-1].informed < 0.1).all()
    assert failure(found, NAMES) == ""


def test_a_model_that_reads_no_parameter_is_refused_after_the_first_ensemble(tmp_path):
    config = write_problem(tmp_path, "--constant", calibrate={"force": True})
    done = fatescal(2, config)
    assert done.returncode == 1
    assert (
        "the prior check failed: the model's output for the observed variables is the same in all"
        in done.stderr
    )
    assert "see whether the model reads the parameters" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "run" / "stages" / "update-01.h5").exists()


def test_a_wrong_unit_stops_the_run_unless_it_is_forced(tmp_path):
    config = write_problem(tmp_path, emulate=QUICK)
    config.write_text(config.read_text().replace("unit: g C m-2 d-1", "unit: kg C m-2 s-1"))
    done = fatescal(0, config)
    assert done.returncode == 1
    assert "the prior check failed: GPP: all members predict at most" in done.stderr
    assert "another unit" in done.stderr
    assert "calibrate.force: true" in done.stderr
    assert not (tmp_path / "run" / "stages" / "update-01.h5").exists()
    config.write_text(config.read_text().replace("calibrate:\n", "calibrate:\n  force: true\n"))
    done = fatescal(0, config)
    assert "calibrate.force: the calibration goes on" in done.stderr
    assert "mean reduced chi-squared" in done.stderr
    assert "Traceback" not in done.stderr
