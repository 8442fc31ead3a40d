"""The error model: its parts, their correlation in time, and the discrepancy that a best fit tells."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from linear import QUICK, SD, fatescal, write_problem

from fatescal.base.errors import BadInput
from fatescal.observations.noise import ErrorModel, QuantileRule, discrepancies
from fatescal.observations.observed_variable import ObservedVariable
from fatescal.observations.windows import build, grid_of, synthesise
from fatescal.storage.records import Observations

JANUARY = ("2004-01-01", "2004-01-31")


def half_hours(n_days: int, **columns) -> pd.DataFrame:
    return pd.DataFrame(columns, index=pd.date_range("2004-01-01", periods=48 * n_days, freq="30min"))


def covariance(observations: Observations) -> np.ndarray:
    """The whole matrix (D, D) of the errors."""
    rho, position = observations.correlation["rho"], observations.correlation["position"]
    same = observations.variable[:, None] == observations.variable
    lag = np.abs(position[:, None] - position)
    return np.where(same, rho[:, None] ** lag, 0.0) * np.outer(observations.noise, observations.noise)


def test_a_single_sd_is_the_noise_to_the_last_bit():
    sd = 1.2 + np.random.default_rng(0).random(1000)
    for value in sd.tolist():
        assert (ErrorModel(sd=value).noise(np.full(3, 7.0), np.array([1, 5, 48])) == value).all()


def test_random_errors_average_out_and_the_others_stay():
    value = np.sin(np.arange(48 * 31))
    value[: 24 + 48] = np.nan  # a day without, a half day
    error = ErrorModel(random=2.0, systematic=0.1, relative=0.05, discrepancy=0.2)
    made, _ = build(
        half_hours(31, x=value), [ObservedVariable("x", "mm d-1", error, "x")], "1D", JANUARY, None, "noleap"
    )
    n = np.array([24] + [48] * 29)
    expected = np.sqrt(4.0 / n + 0.01 + (0.05 * made.y) ** 2 + 0.04)
    np.testing.assert_allclose(made.noise, expected, rtol=1e-14)


def test_the_quantile_rule_of_the_reference_study_on_a_series_of_known_quantile():
    """Half-hourly values 0..100 % of 20 in one year, of 30 in the other: mean 99 % quantile 24.75."""
    index = pd.date_range("2004-01-01", "2006-01-01", freq="30min", inclusive="left")
    years, order = index.year.to_numpy(), np.random.default_rng(1)
    flux = np.empty(len(index))
    for year, top in ((2004, 20.0), (2005, 30.0)):
        flux[years == year] = order.permutation(np.linspace(0.0, top, np.sum(years == year)))
    gpp = ObservedVariable("GPP", "umol CO2 m-2 s-1", ErrorModel(random=QuantileRule()), "GPP")
    made, _ = build(
        pd.DataFrame({"GPP": flux}, index=index), [gpp], "1D", ("2004-01-01", "2005-12-31"), None, "noleap"
    )
    np.testing.assert_allclose(made.noise, 0.15 * 24.75 / np.sqrt(48), rtol=1e-12)


def test_a_stray_year_does_not_move_the_quantile():
    years = np.repeat([2003, 2004], [20, 1000])
    values = np.r_[np.zeros(20), np.linspace(0, 10, 1000)]
    assert QuantileRule().random(values, years) == pytest.approx(0.15 * 9.9)


def ar1_observations(seed: int, n: int = 40) -> Observations:
    """Two variables, one of them correlated, with gaps and in any order."""
    rng = np.random.default_rng(seed)
    variables = [
        ObservedVariable("a", "1", ErrorModel(sd=0.7, ar1=float(rng.uniform(0.05, 0.95)))),
        ObservedVariable("b", "1", ErrorModel(sd=2.0)),
    ]
    grid = grid_of(variables, rng.choice(["1D", "MS"]), ("2004-01-01", "2007-12-31"), None, "noleap")
    full = synthesise(rng, grid, rng.normal(size=len(grid)), {v.name: v.error for v in variables})
    return full.select(rng.permutation(len(full))[:n])


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 2**32 - 1))
def test_ar1_whitening_is_that_of_the_dense_covariance_over_any_gaps(seed):
    observations = ar1_observations(seed)
    x = np.random.default_rng(seed).normal(size=(3, len(observations)))
    matrix = covariance(observations)
    phi = 0.5 * np.einsum("ij,ij->i", x, np.linalg.solve(matrix, x.T).T)
    np.testing.assert_allclose(observations.misfit(observations.y - x), phi, rtol=1e-9)
    np.testing.assert_allclose(observations.whiten(observations.colour(x)), x, rtol=1e-9, atol=1e-9)
    z = observations.colour(np.eye(len(observations)))
    np.testing.assert_allclose(z.T @ z, matrix, atol=1e-9)


def test_ar1_of_20_years_needs_no_matrix_and_has_the_correlation_that_is_claimed():
    grid = grid_of(
        [ObservedVariable("a", "1", ErrorModel(sd=1.0, ar1=0.5))],
        "1D",
        ("2000-01-01", "2019-12-31"),
        None,
        "noleap",
    )
    made = synthesise(np.random.default_rng(0), grid, np.zeros(len(grid)), {"a": ErrorModel(sd=1.0, ar1=0.5)})
    assert made.noise.shape == (7300,)
    lag1 = np.corrcoef(made.y[1:], made.y[:-1])[0, 1]
    assert lag1 == pytest.approx(0.5, abs=0.03)
    assert np.corrcoef(made.whiten(made.y)[1:], made.whiten(made.y)[:-1])[0, 1] == pytest.approx(0, abs=0.03)


@pytest.mark.parametrize("rho", [None, 0.6])
def test_the_estimated_discrepancy_brings_the_best_run_to_a_reduced_chi2_of_one(rho):
    rng = np.random.default_rng(4)
    errors = {"a": ErrorModel(sd=0.3, ar1=rho, discrepancy="estimate"), "b": ErrorModel(sd=2.0)}
    variables = [ObservedVariable(name, "1", error) for name, error in errors.items()]
    grid = grid_of(variables, "1D", ("2004-01-01", "2007-12-31"), None, "noleap")
    truth = np.zeros(len(grid))
    made = synthesise(
        rng, grid.widened({}), truth, errors | {"a": errors["a"].model_copy(update={"discrepancy": 0.9})}
    )
    measured = replace(made, noise=np.where(made.variable == "a", 0.3, 2.0))
    runs = np.stack([truth + shift for shift in (2.0, 0.0, -1.0)])
    best, found = discrepancies(measured, runs, ["a"])
    assert best == 1
    assert found["a"] == pytest.approx(0.9, rel=0.06)
    widened, mine = measured.widened(found), measured.variable == "a"
    assert 2 * widened.select(mine).misfit(runs[1:2, mine])[0] / mine.sum() == pytest.approx(1.0, rel=1e-9)
    assert (widened.noise[~mine] == 2.0).all()


def test_no_discrepancy_where_the_measurement_error_explains_the_misfit():
    errors = {"a": ErrorModel(sd=1.0, discrepancy="estimate")}
    grid = grid_of([ObservedVariable("a", "1", errors["a"])], "1D", JANUARY, None, "noleap")
    made = synthesise(np.random.default_rng(1), grid, np.zeros(31), errors)
    assert discrepancies(made, 0.5 * made.y[None], ["a"]) == (0, {"a": 0.0})


def test_an_error_that_vanishes_with_the_flux_is_refused():
    data = half_hours(31, x=np.zeros(48 * 31))
    with pytest.raises(BadInput, match="systematic part"):
        build(
            data, [ObservedVariable("x", "1", ErrorModel(relative=0.1), "x")], "1D", JANUARY, None, "noleap"
        )


def test_a_run_estimates_the_discrepancy_and_says_so(tmp_path):
    """The errors told are a third of the real ones: the estimate restores them, in every stage after it."""
    config = write_problem(
        tmp_path,
        emulate=QUICK,
        observations={
            "variables": {
                name: {"model": name, "unit": unit, "error": {"sd": SD[name] / 3, "discrepancy": "estimate"}}
                for name, unit in (("GPP", "g C m-2 d-1"), ("ET", "mm d-1"))
            }
        },
    )
    done = fatescal(0, config)
    assert done.returncode == 0, done.stderr
    assert "discrepancy estimated: GPP" in done.stderr
    assert "GPP: model discrepancy" in done.stdout
    import h5py

    with h5py.File(tmp_path / "run" / "stages" / "observations-03.h5") as file:
        noise, variable = file["noise"][()], file["variable"][()].astype(str)
    for name, sd in SD.items():
        assert noise[variable == name] == pytest.approx(sd, rel=0.25)
    again = fatescal(0, config)
    assert again.returncode == 0
    assert "discrepancy estimated" not in again.stderr
