"""Scores against their definitions, closed forms and frequencies."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm

from fatescal.diagnostics import scores
from fatescal.observations.noise import ErrorModel
from fatescal.observations.windows import Variable, climatology, grid_of, synthesise

GPP = Variable("GPP", "g C m-2 d-1", ErrorModel(1.2))
ET = Variable("ET", "mm d-1", ErrorModel(0.5))


def by_definition(y, ensemble):
    """Fair CRPS, O(J^2)."""
    n = len(ensemble)
    pairs = np.abs(ensemble[:, None] - ensemble[None]).sum(axis=(0, 1)) / (2 * n * (n - 1))
    return float((np.abs(ensemble - y).mean(axis=0) - pairs).mean())


@given(st.integers(2, 20), st.integers(1, 10), st.integers(0, 2**32 - 1))
def test_crps_is_its_definition(n_members, n_observations, seed):
    rng = np.random.default_rng(seed)
    y, ensemble = rng.normal(size=n_observations), rng.normal(size=(n_members, n_observations)).round(1)
    assert scores.crps(y, ensemble) == pytest.approx(by_definition(y, ensemble), rel=1e-10, abs=1e-13)


@pytest.mark.parametrize(("n_members", "n_observations"), [(2, 200_000), (8, 100_000), (500, 2000)])
def test_crps_is_fair_to_small_ensembles(n_members, n_observations):
    """Its expectation is the closed form (Gneiting & Raftery 2007, equation 21)."""
    rng = np.random.default_rng(4)
    y = 0.7
    exact = y * (2 * norm.cdf(y) - 1) + 2 * norm.pdf(y) - 1 / np.sqrt(np.pi)
    ensemble = rng.normal(size=(n_members, n_observations))
    estimate = scores.crps(np.full(n_observations, y), ensemble)
    error = np.std([by_definition(np.array([y]), ensemble[:, [k]]) for k in range(1000)]) / np.sqrt(
        n_observations
    )
    assert abs(estimate - exact) < 3.3 * error
    assert 3.3 * error < 0.02 * exact


def test_crps_of_a_single_run_is_its_absolute_error():
    y, g = np.array([1.0, 2.0]), np.array([[0.0, 5.0]])
    assert scores.crps(y, g) == 2.0


def test_rmse_bias_and_r2():
    rng = np.random.default_rng(5)
    y = rng.normal(size=100)
    g = 2 * y + 3
    assert scores.bias(y, y + 3) == pytest.approx(-3)  # observed minus modelled
    assert scores.rmse(y, y + 3) == pytest.approx(3)
    assert scores.r2(y, g) == pytest.approx(1)
    noisy = y + rng.normal(size=100)
    assert scores.r2(y, noisy) == pytest.approx(np.corrcoef(y, noisy)[0, 1] ** 2)
    assert scores.rmse(y, noisy) ** 2 == pytest.approx(scores.bias(y, noisy) ** 2 + np.var(y - noisy))
    assert np.isnan(scores.r2(y, np.full(100, 0.1)))


@pytest.mark.parametrize("level", [0.5, 0.9, 0.95])
def test_coverage_counts_what_could_have_been_measured(level):
    """Truth and members from one distribution, noise on top: coverage is the level; else it isn't."""
    rng = np.random.default_rng(6)
    n, sd = 20_000, 2.0
    centre = rng.normal(size=n)
    truth, ensemble = centre + rng.normal(size=n), centre + rng.normal(size=(400, n))
    y = truth + sd * rng.normal(size=n)
    covered = scores.coverage(y, ensemble, np.full(n, sd), level)
    assert abs(covered - level) < 3.3 * np.sqrt(level * (1 - level) / n) + 0.003  # 400 members, not infinite
    assert scores.coverage(y, ensemble, np.full(n, 1e-6), level) < level - 0.1


def test_coverage_is_that_of_the_quantiles_of_the_mixture():
    rng = np.random.default_rng(7)
    members, sd = np.array([-3.0, 0.0, 4.0]), 0.5
    draws = rng.choice(members, 400_000) + sd * rng.normal(size=400_000)
    low, high = np.quantile(draws, [0.05, 0.95])
    y = np.array([low - 0.05, low + 0.05, high - 0.05, high + 0.05])
    inside = [scores.coverage(y[[k]], members[:, None], np.array([sd]), 0.9) for k in range(4)]
    assert inside == [0.0, 1.0, 1.0, 0.0]


@pytest.fixture
def card():
    grid = grid_of([GPP, ET], "1D", ("2004-01-01", "2005-12-31"), ("2006-01-01", "2006-12-31"), "noleap")
    truth = 3 + np.sin(np.arange(len(grid)) * 2 * np.pi / 365)
    rng = np.random.default_rng(8)
    observed = synthesise(rng, grid, truth, {"GPP": GPP.error, "ET": ET.error})
    gap = climatology(observed)
    gap[(observed.variable == "ET") & (observed.period == "validation")] = np.nan
    ensembles = {
        "default": truth + 1,
        "posterior": truth + 0.1 * rng.normal(size=(16, 1)),
        "climatology": gap,
    }
    return observed, ensembles, scores.score_table(observed, ensembles)


def test_scorecard_has_every_score_of_every_part(card):
    observed, ensembles, scorecard = card
    assert len(scorecard.value) == 2 * 2 * 3 * 5
    values = dict(
        zip(
            zip(scorecard.variable, scorecard.period, scorecard.ensemble, scorecard.score, strict=True),
            scorecard.value,
            strict=True,
        )
    )
    for variable, sd in (("GPP", 1.2), ("ET", 0.5)):
        for period, days in (("calibration", 730), ("validation", 365)):
            here = (observed.variable == variable) & (observed.period == period)
            assert here.sum() == days
            y, posterior = observed.y[here], ensembles["posterior"][:, here]
            assert values[variable, period, "posterior", "crps"] == pytest.approx(by_definition(y, posterior))
            assert values[variable, period, "posterior", "rmse"] == pytest.approx(
                np.sqrt(np.mean((y - posterior.mean(axis=0)) ** 2))
            )
            assert abs(values[variable, period, "default", "bias"] + 1) < 3.3 * sd / np.sqrt(days)
            assert abs(values[variable, period, "posterior", "coverage"] - 0.9) < 3.3 * np.sqrt(0.09 / days)
    assert np.isnan(values["ET", "validation", "climatology", "rmse"])
    assert np.isfinite(values["GPP", "validation", "climatology", "rmse"])


def test_rendered_scorecard_is_aligned(card):
    lines = scores.render(card[2]).splitlines()
    assert len(lines) == 4 * (1 + 3)
    assert len({len(line) for line in lines}) == 1
    assert lines[0].split() == ["GPP,", "calibration", "rmse", "bias", "r2", "crps", "coverage"]
    assert [line.split()[0] for line in lines[1:4]] == ["default", "posterior", "climatology"]
    assert lines[-1].split()[1:] == ["-"] * 5
    rmse = card[2].value[(card[2].score == "rmse") & (card[2].ensemble == "default")][0]
    assert lines[1].split()[1] == f"{rmse:.3f}"
