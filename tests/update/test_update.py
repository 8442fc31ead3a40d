"""The ensemble Kalman family: exact, invariance and statistical tests of each scheme (methods.md 6A-6C)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from linear_gaussian import (
    BENT,
    MEAN,
    OBS,
    POSTERIOR_COVARIANCE,
    POSTERIOR_MEAN,
    B,
    Y,
    assert_moments,
    bent,
    calibrate,
    exact_ensemble,
    kalman,
    linear,
    observations,
)
from pydantic import ValidationError
from scipy.stats import norm

from fatescal.base.types import Array
from fatescal.storage.records import Observations
from fatescal.update.base import UpdateScheme
from fatescal.update.es_mda import ESMDA
from fatescal.update.ienks import IEnKS
from fatescal.update.ies import PerturbedState, SubspaceIES
from fatescal.update.regression import StandardPrior
from fatescal.update.survivors import SurvivorState


@pytest.fixture
def prior() -> Array:
    """Eight members (8, 3) whose sample mean and covariance are MEAN and B exactly."""
    return exact_ensemble(8)


# 6A exact -----------------------------------------------------------------------------------------

LEVENBERG = IEnKS(iterations=30, method="levenberg-marquardt", damping=0.01, tolerance=1e-14)
EXACT = [
    *[pytest.param(IEnKS(iterations=n), 1e-12, id=f"ienks-{n}") for n in (1, 2, 5)],
    *[pytest.param(IEnKS(iterations=n, form="bundle"), 1e-10, id=f"bundle-{n}") for n in (1, 2, 5)],
    pytest.param(IEnKS(iterations=5, form="bundle", tolerance=1e-30), 1e-10, id="bundle-5-unstopped"),
    pytest.param(LEVENBERG, 1e-12, id="levenberg-marquardt"),
    pytest.param(IEnKS(iterations=50, step_length=0.5, tolerance=1e-14), 1e-12, id="ienks-half-steps"),
    pytest.param(ESMDA(iterations=[1], form="square-root"), 1e-12, id="es"),
    pytest.param(ESMDA(iterations=[4] * 4, form="square-root"), 1e-12, id="es-mda-list"),
    pytest.param(ESMDA(iterations=4, form="square-root"), 1e-12, id="es-mda-number"),
    pytest.param(ESMDA(iterations=[28 / 3, 7, 4, 2], form="square-root"), 1e-12, id="es-mda-decreasing"),
    pytest.param(ESMDA(iterations="adaptive", form="square-root"), 1e-12, id="es-mda-adaptive"),
    pytest.param(
        ESMDA(iterations="adaptive", form="square-root", max_iterations=2), 1e-12, id="es-mda-cut-short"
    ),
]


def test_reference_posterior_is_the_documented_one() -> None:
    mean, covariance = kalman(MEAN, B)
    np.testing.assert_allclose(mean, POSTERIOR_MEAN, atol=1e-8)
    np.testing.assert_allclose(covariance, POSTERIOR_COVARIANCE, atol=1e-8)


@pytest.mark.parametrize(("scheme", "atol"), EXACT)
def test_linear_gaussian_posterior_is_exact(scheme: UpdateScheme, atol: float, prior: Array) -> None:
    state, _, _ = calibrate(scheme, prior)
    assert_moments(state.u, *kalman(MEAN, B), atol)


@pytest.mark.parametrize("scheme", [IEnKS(iterations=2), ESMDA(iterations=4, form="square-root")])
def test_correlated_noise(scheme: UpdateScheme, prior: Array) -> None:
    obs = replace(OBS, correlation={"rho": np.full(5, 0.6), "position": np.arange(5.0)})
    state, _, _ = calibrate(scheme, prior, obs=obs)
    assert_moments(state.u, *kalman(MEAN, B, obs), 1e-12)


def test_controlled_steps(prior: Array) -> None:
    _, infos, states = calibrate(ESMDA(iterations="adaptive", form="square-root"), prior)
    steps = [1 / info.alpha for info in infos]
    np.testing.assert_allclose(steps, [0.0499955, 0.0981673, 0.2121067, 0.5121310, 0.1275996], atol=5e-8)
    assert states[-1].pseudo_time < 1


def test_controlled_steps_reach_time_one_within_their_budget(
    prior: Array, caplog: pytest.LogCaptureFixture
) -> None:
    state, infos, _ = calibrate(ESMDA(iterations="adaptive", form="square-root", max_iterations=3), prior)
    assert (state.iteration, state.pseudo_time) == (3, 1.0)
    assert sum(1 / info.alpha for info in infos) == pytest.approx(1, abs=1e-14)
    assert "last allowed" in caplog.text


def test_projection_is_the_number_of_steps_to_come(prior: Array) -> None:
    _, infos, _ = calibrate(ESMDA(iterations="adaptive", form="square-root"), prior)
    assert [info.projected_iterations for info in infos] == [len(infos)] * len(infos)


@pytest.mark.parametrize("schedule", [3, [28 / 3, 7, 4, 2], [4, 2, 1], [1.0]])
def test_fixed_schedules_end_at_time_one_exactly(schedule: int | list[float], prior: Array) -> None:
    state, infos, _ = calibrate(ESMDA(iterations=schedule), prior)
    assert state.pseudo_time == 1.0
    assert sum(1 / info.alpha for info in infos) == pytest.approx(1, abs=1e-14)


def test_ies_half_steps_halve_the_distance(prior: Array) -> None:
    """With gamma = 1/2 on a linear model the weights are W_i = (1 - 2^-i) W*."""
    state, _, states = calibrate(SubspaceIES(iterations=12, first_step=0.5, last_step=0.5), prior)
    standard = StandardPrior.of(prior)
    coordinates = [standard.coordinates(s.u) for s in (*states, state)]
    weights = [standard.members @ (z - coordinates[0]).T / np.sqrt(7) for z in coordinates]
    full, _, _ = calibrate(SubspaceIES(iterations=1, first_step=1.0), prior)
    W = standard.members @ (standard.coordinates(full.u) - coordinates[0]).T / np.sqrt(7)
    assert np.abs(W).max() > 0.1
    for i, W_i in enumerate(weights):
        np.testing.assert_allclose(W_i, (1 - 0.5**i) * W, atol=1e-12, rtol=0)


def test_ies_solves_the_perturbed_problem_of_evensen(prior: Array) -> None:
    """W* = S'(SS' + I)^-1 (D - g(X)), D x D, with the perturbations the scheme's own seed gives."""
    state, _, _ = calibrate(SubspaceIES(iterations=1, first_step=1.0), prior)
    assert isinstance(state, PerturbedState)
    xi = np.random.Generator(np.random.PCG64(state.perturbation_seed)).standard_normal((8, 5))
    g = linear(prior) / OBS.noise
    S = (g - g.mean(axis=0)).T / np.sqrt(7)
    W = S.T @ np.linalg.solve(S @ S.T + np.eye(5), (Y / OBS.noise + xi - g).T)
    expected = prior + W.T @ (prior - prior.mean(axis=0)) / np.sqrt(7)
    np.testing.assert_allclose(state.u, expected, atol=1e-12, rtol=0)


# 6B, and the Gaussian limit of every perturbed scheme ---------------------------------------------


@pytest.mark.parametrize(
    "scheme",
    [
        ESMDA(iterations=4),
        ESMDA(iterations="adaptive"),
        SubspaceIES(iterations=2, first_step=1.0, last_step=1.0),
    ],
    ids=repr,
)
def test_perturbed_observations_sample_the_posterior(scheme: UpdateScheme) -> None:
    """20 seeds of 4000 members: the standard error of the seed mean is 4.5 times below sd/sqrt(J)."""
    n_members, mean_error, covariances = 4000, [], []
    mean, covariance = kalman(MEAN, B)
    for seed in range(20):
        rng = np.random.default_rng(seed)
        u = MEAN + rng.standard_normal((n_members, 3)) @ np.linalg.cholesky(B).T
        state, _, _ = calibrate(scheme, u, seed=100 + seed)
        mean_error.append(state.u.mean(axis=0) - mean)
        covariances.append(np.cov(state.u.T))
    allowed = 4 * np.sqrt(np.diag(covariance) / n_members)
    assert np.all(np.abs(np.mean(mean_error, axis=0)) < allowed)
    error = np.linalg.norm(np.mean(covariances, axis=0) - covariance) / np.linalg.norm(covariance)
    assert error < 0.03


# 6C nonlinear -------------------------------------------------------------------------------------


def cubic(u: Array) -> Array:
    return u * (1 + 0.2 * u**2)


def quantiles(n_members: int) -> Array:
    """N(1, 1) by its midpoint quantiles (J, 1), standardised: no sampling error, only missing tails."""
    z = norm.ppf((np.arange(n_members) + 0.5) / n_members)
    return 1 + (z / z.std(ddof=1))[:, None]


@pytest.mark.parametrize(
    ("scheme", "mean", "sd"),
    [
        (IEnKS(iterations=40, tolerance=1e-8), -0.0952, 0.6273),
        (IEnKS(iterations=40, form="bundle", tolerance=1e-8), 0.0, 0.7071),
        (IEnKS(iterations=40, form="bundle", method="levenberg-marquardt", tolerance=1e-8), 0.0, 0.7071),
        (ESMDA(iterations=4, form="square-root"), -0.0523, 0.5685),
        (ESMDA(iterations=16, form="square-root"), -0.0903, 0.5907),
    ],
    ids=repr,
)
def test_nonlinear_limits_of_deterministic_forms(scheme: UpdateScheme, mean: float, sd: float) -> None:
    """20000 quantiles stand for infinitely many members: the truncated tails move the moments by 2e-4."""
    state, _, _ = calibrate(scheme, quantiles(20_000), cubic, observations([-1.0], [1.0]))
    assert state.u.mean() == pytest.approx(mean, abs=5e-4)
    assert state.u.std() == pytest.approx(sd, abs=5e-4)


@pytest.mark.parametrize(
    ("schedule", "mean", "sd"),
    [(1, 0.095, 0.537), (4, -0.057, 0.564), ([28 / 3, 7, 4, 2], -0.087, 0.577)],
)
def test_nonlinear_limits_of_the_stochastic_form(schedule: int | list[float], mean: float, sd: float) -> None:
    """200000 quantiles, so that only the perturbations are random: sampling error below 0.0015."""
    state, _, _ = calibrate(
        ESMDA(iterations=schedule), quantiles(200_000), cubic, observations([-1.0], [1.0])
    )
    assert state.u.mean() == pytest.approx(mean, abs=0.005)
    assert state.u.std() == pytest.approx(sd, abs=0.005)


def test_nonlinear_limit_of_two_stochastic_steps() -> None:
    """Two steps feel the prior's far tails, which midpoint quantiles cut off: a million draws instead."""
    u = 1 + np.random.default_rng(0).standard_normal((1_000_000, 1))
    state, _, _ = calibrate(ESMDA(iterations=2), u, cubic, observations([-1.0], [1.0]))
    assert state.u.mean() == pytest.approx(-0.009, abs=0.005)
    assert state.u.std() == pytest.approx(0.544, abs=0.005)


def test_damping_saves_what_full_steps_overshoot() -> None:
    """atan: the full steps of Gauss-Newton jump to and fro over the MAP; halved ones find it."""
    obs = observations([0.0], [0.1])
    u = 6 + 2 * (quantiles(200) - 1)

    def cost(x: float) -> float:
        return 0.5 * (np.arctan(x) / 0.1) ** 2 + 0.5 * ((x - 6) / 2) ** 2

    grid = np.linspace(-10, 10, 200_001)
    best = float(grid[np.argmin([cost(x) for x in grid])])
    damped, infos, _ = calibrate(
        IEnKS(iterations=40, form="bundle", method="levenberg-marquardt", tolerance=1e-8), u, np.arctan, obs
    )
    full, _, _ = calibrate(IEnKS(iterations=40, form="bundle", tolerance=1e-8), u, np.arctan, obs)
    assert min(info.step_length for info in infos) < 1
    assert damped.u.mean() == pytest.approx(best, abs=1e-3)
    assert abs(full.u.mean() - best) > 1
    assert damped.finished


def test_a_rejected_last_step_is_taken_back() -> None:
    """When the budget ends on a rejected trial, the answer is the ensemble accepted before it."""
    obs, u = observations([0.0], [0.1]), 6 + 2 * (quantiles(200) - 1)
    _, infos, states = calibrate(
        IEnKS(iterations=40, form="bundle", method="levenberg-marquardt"), u, np.arctan, obs
    )
    rejected = next(i for i, info in enumerate(infos) if info.step_length < 1)
    state, _, _ = calibrate(
        IEnKS(iterations=rejected + 1, form="bundle", method="levenberg-marquardt"), u, np.arctan, obs
    )
    assert state.u.mean() == pytest.approx(states[rejected - 1].u.mean(), abs=1e-10)
    assert abs(state.u.mean() - states[rejected].u.mean()) > 0.1


# Invariances --------------------------------------------------------------------------------------

DETERMINISTIC = [
    IEnKS(iterations=3),
    IEnKS(iterations=3, method="levenberg-marquardt"),
    ESMDA(iterations=3, form="square-root"),
    ESMDA(iterations="adaptive", form="square-root"),
]


@pytest.mark.parametrize("scheme", DETERMINISTIC, ids=repr)
def test_order_of_observations_does_not_matter(scheme: UpdateScheme) -> None:
    order, u = np.random.default_rng(3).permutation(12), exact_ensemble(10)
    reference = calibrate(scheme, u, bent, BENT)[0].u
    permuted = calibrate(scheme, u, lambda x: bent(x)[:, order], BENT.select(order))[0].u
    np.testing.assert_allclose(permuted, reference, atol=1e-10, rtol=0)


@pytest.mark.parametrize("scheme", DETERMINISTIC, ids=repr)
def test_order_of_members_does_not_matter(scheme: UpdateScheme) -> None:
    order, u = np.random.default_rng(4).permutation(10), exact_ensemble(10)
    reference = calibrate(scheme, u, bent, BENT)[0].u
    permuted = calibrate(scheme, u[order], bent, BENT)[0].u
    np.testing.assert_allclose(permuted, reference[order], atol=1e-10, rtol=0)


@pytest.mark.parametrize(
    "scheme",
    [
        *DETERMINISTIC,
        ESMDA(iterations=3),
        SubspaceIES(iterations=3),
        ESMDA(iterations=3, form="square-root", truncation=0.95),
        ESMDA(iterations=3, truncation=0.95),
    ],
    ids=repr,
)
def test_units_of_a_variable_do_not_matter(scheme: UpdateScheme) -> None:
    """Half of the observations in kg instead of ug: an unwhitened truncation would lose one half."""
    factor, u = np.where(np.arange(12) < 6, 1e9, 1.0), exact_ensemble(10)
    reference = calibrate(scheme, u, bent, BENT)[0].u
    rescaled = observations(BENT.y * factor, BENT.noise * factor)
    converted = calibrate(scheme, u, lambda x: bent(x) * factor, rescaled)[0].u
    np.testing.assert_allclose(converted, reference, atol=1e-10, rtol=0)


def test_truncation_drops_the_weakest_mode() -> None:
    """Two parameters observed apart, squared singular values 100 : 1; 0.98 keeps the first only."""
    z = np.random.default_rng(5).standard_normal((30, 2))
    z = StandardPrior.of(z).members
    obs = observations([1.0, 1.0], [0.1, 1.0])
    state, _, _ = calibrate(ESMDA(iterations=1, form="square-root", truncation=0.98), z, np.copy, obs)
    mean, covariance = kalman(np.zeros(2), np.eye(2), obs, np.eye(2))
    assert_moments(state.u, [mean[0], 0], np.diag([covariance[0, 0], 1]), 1e-12)


# Failures in detail -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scheme", "atol"),
    [
        (IEnKS(iterations=5, tolerance=1e-12), 1e-12),
        (IEnKS(iterations=5, form="bundle", tolerance=1e-12), 1e-10),
        (LEVENBERG, 1e-12),
    ],
    ids=repr,
)
@pytest.mark.parametrize("when", [0, 1])
def test_ienks_after_a_loss_is_the_smoother_of_the_survivors(scheme: IEnKS, atol: float, when: int) -> None:
    """Whenever a member dies, the end is the exact posterior of the prior the other members span."""
    u = exact_ensemble(12)

    def dying(iteration: int, x: Array) -> Array:
        return (np.arange(len(x)) == 4) & (iteration == when)

    def tilted(x: Array) -> Array:  # nonlinear until the loss, so that nothing has converged by then
        return linear(x) + (0.3 * np.tanh(linear(x)) if len(x) == 12 else 0.0)

    state, _, _ = calibrate(scheme, u, tilted, dying=dying)
    left = np.delete(u, 4, axis=0)
    assert_moments(state.u, *kalman(left.mean(axis=0), np.cov(left.T)), atol)
    assert isinstance(state, SurvivorState)
    np.testing.assert_array_equal(np.flatnonzero(~state.alive), [4])


def test_permanently_failing_region_is_left_to_replacements(caplog: pytest.LogCaptureFixture) -> None:
    """Every member beyond u_0 = 1.5 dies each time it is run; ES-MDA keeps its size and ends."""
    state, infos, states = calibrate(
        ESMDA(iterations=4), exact_ensemble(200), dying=lambda _, u: u[:, 0] > 1.5
    )
    assert all(len(s.u) == 200 for s in (*states, state))
    assert infos[0].n_failed > 0
    assert np.isfinite(state.u).all()
    assert abs(state.u.mean(axis=0) - kalman(MEAN, B)[0]).max() < 0.2


def test_replacements_follow_the_updated_gaussian() -> None:
    u = exact_ensemble(4000)
    lost = np.arange(4000) % 2 == 0
    state, _, _ = calibrate(
        ESMDA(iterations=1, form="square-root", min_survivors=0.4), u, dying=lambda _, x: lost[: len(x)]
    )
    survivors, drawn = state.u[~lost], state.u[lost]
    sd = survivors.std(axis=0)
    assert np.all(np.abs(drawn.mean(axis=0) - survivors.mean(axis=0)) < 4 * sd / np.sqrt(2000))
    np.testing.assert_allclose(np.cov(drawn.T), np.cov(survivors.T), atol=0.1 * sd.max() ** 2)
    assert len(np.unique(drawn[:, 0])) == 2000


# Bad settings -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "make",
    [
        lambda: IEnKS(iterations=-1),
        lambda: IEnKS(form="squareroot"),  # type: ignore[arg-type]
        lambda: IEnKS(method="newton"),  # type: ignore[arg-type]
        lambda: IEnKS(step_length=0.0),
        lambda: IEnKS(tolerance=0.0),
        lambda: ESMDA(iterations=-1),
        lambda: ESMDA(iterations=[]),
        lambda: ESMDA(iterations=[4, -2]),
        lambda: ESMDA(iterations="adaptiv"),  # type: ignore[arg-type]
        lambda: ESMDA(iterations=4, form="sqrt"),  # type: ignore[arg-type]
        lambda: ESMDA(iterations=4, truncation=0.0),
        lambda: SubspaceIES(iterations=-1),
        lambda: SubspaceIES(first_step=1.5),
    ],
)
def test_wrong_settings_are_refused(make: Callable[[], UpdateScheme]) -> None:
    with pytest.raises(ValidationError):
        make()


def test_a_line_search_compares_costs_with_the_same_errors() -> None:
    """Errors widened between two iterations lower the cost of every ensemble; a bad step is taken back all
    the same."""
    obs, u = observations([0.0], [0.1]), 6 + 2 * (quantiles(200) - 1)
    wider = observations([0.0], [1.0])
    scheme = IEnKS(iterations=40, form="bundle", method="levenberg-marquardt")
    state = scheme.start(u)
    for errors in (obs, wider):
        state, info = scheme.step(np.random.default_rng(0), state, np.arctan(state.u), errors)
    at_first, at_second = (
        0.5 * float(np.arctan(x)) ** 2 + 0.5 * ((x - 6) / 2) ** 2 for x in (6.0, mean_trial(obs, u))
    )
    assert (info.step_length < 1) == (at_second > at_first)
    assert info.step_length == 0.5


def mean_trial(obs: Observations, u: Array) -> float:
    """Return where the first full step of a bundle leads."""
    scheme = IEnKS(iterations=40, form="bundle", method="levenberg-marquardt")
    state, _ = scheme.step(np.random.default_rng(0), scheme.start(u), np.arctan(u), obs)
    return float(state.u.mean())
