"""Scores against their definitions, closed forms and frequencies."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from fatescal.diagnostics import scores
from fatescal.observations.noise import ErrorModel
from fatescal.observations.observed_variable import ObservedVariable
from fatescal.observations.windows import climatology, grid_of, synthesise

GPP = ObservedVariable("GPP", "g C m-2 d-1", ErrorModel(sd=1.2))
ET = ObservedVariable("ET", "mm d-1", ErrorModel(sd=0.5))


def distance(m, s):
    """E|X| of X ~ N(m, s^2), by the formula of the folded normal distribution."""
    return s * np.sqrt(2 / np.pi) * np.exp(-(m**2) / (2 * s**2)) + m * (1 - 2 * norm.cdf(-m / s))


def by_definition(y, ensemble, sd):
    """Fair CRPS of members with observation error, O(J^2)."""
    pairs = distance(ensemble[:, None] - ensemble[None], np.sqrt(2) * sd)[~np.eye(len(ensemble), dtype=bool)]
    return float((distance(y - ensemble, sd).mean(axis=0) - 0.5 * pairs.mean(axis=0)).mean())


@settings(deadline=None)  # the first example imports scipy
@given(st.integers(2, 20), st.integers(1, 10), st.integers(0, 2**32 - 1))
def test_crps_is_its_definition(n_members, n_observations, seed):
    rng = np.random.default_rng(seed)
    y, ensemble = rng.normal(size=n_observations), rng.normal(size=(n_members, n_observations)).round(1)
    sd = rng.uniform(0.01, 2, n_observations)
    assert scores.CRPS().value(y, ensemble, sd) == pytest.approx(
        by_definition(y, ensemble, sd), rel=1e-10, abs=1e-13
    )


def normal_crps(y, sd):
    """Closed form for N(0, sd^2) (Gneiting & Raftery 2007, equation 21)."""
    z = y / sd
    return sd * (z * (2 * norm.cdf(z) - 1) + 2 * norm.pdf(z) - 1 / np.sqrt(np.pi))


@pytest.mark.parametrize(("n_members", "n_observations"), [(2, 100_000), (8, 50_000), (300, 300)])
def test_crps_is_that_of_the_predictive_distribution_at_any_size(n_members, n_observations):
    """Members N(0, 1) with error sd 0.8: its expectation is the closed form of N(0, 1 + 0.64)."""
    rng = np.random.default_rng(4)
    y, sd = 0.7, 0.8
    ensemble = rng.normal(size=(n_members, n_observations))
    single = [scores.CRPS().value(np.array([y]), ensemble[:, [k]], np.array([sd])) for k in range(200)]
    estimate = scores.CRPS().value(np.full(n_observations, y), ensemble, np.full(n_observations, sd))
    assert abs(estimate - normal_crps(y, np.hypot(1, sd))) < 3.5 * np.std(single) / np.sqrt(n_observations)


def test_crps_prefers_the_predictive_distribution_that_is_right():
    """Observations N(truth, 1): a posterior of sd 0.1 about the truth beats a prior of sd 1.5, as coverage
    says.
    """
    rng = np.random.default_rng(5)
    y, sd = rng.normal(size=5000), np.ones(5000)
    posterior, prior = 0.1 * rng.normal(size=(64, 1)), 1.5 * rng.normal(size=(64, 1))
    good, bad = (scores.CRPS().value(y, np.broadcast_to(g, (64, 5000)), sd) for g in (posterior, prior))
    assert good < 0.95 * bad
    assert good == pytest.approx(1 / np.sqrt(np.pi), rel=0.03)  # of N(0, 1) against itself


def test_crps_of_a_single_run_is_that_of_its_error():
    y, g, sd = np.array([1.0, 2.0]), np.array([[0.0, 5.0]]), np.array([1.0, 0.5])
    assert scores.CRPS().value(y, g, sd) == pytest.approx((normal_crps(1.0, 1.0) + normal_crps(3.0, 0.5)) / 2)
    assert scores.CRPS().value(y, g, 1e-9 * sd) == pytest.approx(2.0)  # its absolute error


def test_rmse_bias_and_r2():
    rng = np.random.default_rng(5)
    y = rng.normal(size=100)

    def of(score, g):
        return score().value(y, g[None], np.ones(100))

    assert of(scores.Bias, y + 3) == pytest.approx(3)  # modelled minus observed
    assert of(scores.RMSE, y + 3) == pytest.approx(3)
    assert of(scores.R2, 2 * y + 3) == pytest.approx(1)
    noisy = y + rng.normal(size=100)
    assert of(scores.R2, noisy) == pytest.approx(np.corrcoef(y, noisy)[0, 1] ** 2)
    assert of(scores.RMSE, noisy) ** 2 == pytest.approx(of(scores.Bias, noisy) ** 2 + np.var(y - noisy))
    assert np.isnan(of(scores.R2, np.full(100, 0.1)))


@pytest.mark.parametrize("score", scores.SCORES.values(), ids=lambda s: s.kind)
def test_every_score_is_best_for_what_is_right(score):
    """Contract of the family: a perfect prediction has the least penalty, and the score explains itself."""
    rng = np.random.default_rng(9)
    truth, sd = rng.normal(size=4000), np.full(4000, 0.5)
    y = truth + sd * rng.normal(size=4000)
    right, wrong = (score().value(y, g[None], sd) for g in (truth, 1 + 2 * rng.normal(size=4000)))
    assert score().penalty(score.best) == 0 < score().penalty(wrong)
    assert score().penalty(right) < score().penalty(wrong)
    assert score.title
    assert score.description
    assert score.unit in ("", "1")


@pytest.mark.parametrize("level", [0.5, 0.9, 0.95])
def test_coverage_counts_what_could_have_been_measured(level):
    """Truth and members from one distribution, noise on top: coverage is the level; else it isn't."""
    rng = np.random.default_rng(6)
    n, sd = 20_000, 2.0
    centre = rng.normal(size=n)
    truth, ensemble = centre + rng.normal(size=n), centre + rng.normal(size=(400, n))
    y = truth + sd * rng.normal(size=n)
    covered = scores.Coverage(level).value(y, ensemble, np.full(n, sd))
    assert abs(covered - level) < 3.3 * np.sqrt(level * (1 - level) / n) + 0.003  # 400 members, not infinite
    assert scores.Coverage(level).value(y, ensemble, np.full(n, 1e-6)) < level - 0.1


def test_coverage_is_that_of_the_quantiles_of_the_mixture():
    rng = np.random.default_rng(7)
    members, sd = np.array([-3.0, 0.0, 4.0]), 0.5
    draws = rng.choice(members, 400_000) + sd * rng.normal(size=400_000)
    low, high = np.quantile(draws, [0.05, 0.95])
    y = np.array([low - 0.05, low + 0.05, high - 0.05, high + 0.05])
    inside = [scores.Coverage(0.9).value(y[[k]], members[:, None], np.array([sd])) for k in range(4)]
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
            assert values[variable, period, "posterior", "crps"] == pytest.approx(
                by_definition(y, np.broadcast_to(posterior, (16, len(y))), np.full(len(y), sd))
            )
            assert values[variable, period, "posterior", "rmse"] == pytest.approx(
                np.sqrt(np.mean((y - posterior.mean(axis=0)) ** 2))
            )
            assert abs(values[variable, period, "default", "bias"] - 1) < 3.3 * sd / np.sqrt(days)
            assert abs(values[variable, period, "posterior", "coverage"] - 0.9) < 3.3 * np.sqrt(0.09 / days)
    assert np.isnan(values["ET", "validation", "climatology", "rmse"])
    assert np.isfinite(values["GPP", "validation", "climatology", "rmse"])


def test_rendered_scorecard_is_aligned(card):
    lines = scores.render(card[2], {}).splitlines()
    assert len(lines) == 4 * (1 + 3)
    assert len({len(line) for line in lines}) == 1
    assert lines[0].split() == ["GPP,", "calibration", "rmse", "bias", "r2", "crps", "coverage"]
    assert [line.split()[0] for line in lines[1:4]] == ["default", "posterior", "climatology"]
    assert lines[-1].split()[1:] == ["-"] * 5
    rmse = card[2].value[(card[2].score == "rmse") & (card[2].ensemble == "default")][0]
    assert lines[1].split()[1] == f"{rmse:.3f}"
