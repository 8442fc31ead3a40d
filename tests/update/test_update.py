"""The ensemble Kalman family: exact, invariance, statistical and contract tests (methods.md 6A, 6B, 6C)."""

from __future__ import annotations

import re
import tracemalloc
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
import pytest
from linear import fatescal, require_exact, write_problem
from pydantic import ValidationError
from scipy.stats import norm

from fatescal import config
from fatescal.base.errors import BadInput, RunFailed
from fatescal.base.types import Array
from fatescal.config.stage_options import OPTIONS as OPTIONS_OF_SCHEMES
from fatescal.storage.records import KalmanInfo, KalmanState, Observations
from fatescal.update.base import UpdateScheme
from fatescal.update.es_mda import ESMDA
from fatescal.update.ienks import IEnKS
from fatescal.update.ies import SubspaceIES
from fatescal.update.regression import StandardPrior
from fatescal.workflow import problem

Model = Callable[[Array], Array]

# methods.md 6A: a linear-Gaussian problem and its posterior, computed independently
A = np.array([[1, 0.5, 0], [0, 1, -1], [2, 0, 1], [1, 1, 1], [0, -0.5, 2]])
Y = np.array([1, -2, 0.5, 3, 0])
R = np.array([0.25, 0.5, 1, 0.5, 0.25])
MEAN = np.array([0.0, 1.0, -1.0])
B = np.array([[1, 0.3, 0], [0.3, 2, 0.1], [0, 0.1, 0.5]])
POSTERIOR_MEAN = [0.66954704, 0.53044356, 0.34105478]
POSTERIOR_COVARIANCE = [
    [0.14806162, -0.11647921, -0.04670439],
    [-0.11647921, 0.26414164, 0.06750886],
    [-0.04670439, 0.06750886, 0.06365792],
]


def observations(y: npt.ArrayLike, noise: npt.ArrayLike) -> Observations:
    y = np.asarray(y)
    return Observations(
        y=y,
        noise=np.asarray(noise),
        variable=np.full(len(y), "GPP"),
        unit=np.full(len(y), "1"),
        start=np.zeros(len(y), dtype="datetime64[s]"),
        end=np.ones(len(y), dtype="datetime64[s]"),
        period=np.full(len(y), "calibration"),
    )


OBS = observations(Y, np.sqrt(R))


def linear(u: Array) -> Array:
    return u @ A.T


def kalman(mean: Array, covariance: Array, obs: Observations = OBS, a: Array = A) -> tuple[Array, Array]:
    """Return the posterior mean and covariance of a linear-Gaussian problem by the textbook formula."""
    noise = np.diag(obs.noise**2)
    if obs.correlation:
        lag = np.abs(np.subtract.outer(np.arange(len(obs)), np.arange(len(obs))))
        noise = np.outer(obs.noise, obs.noise) * obs.correlation["rho"] ** lag
    gain = covariance @ a.T @ np.linalg.inv(a @ covariance @ a.T + noise)
    return mean + gain @ (obs.y - a @ mean), covariance - gain @ a @ covariance


@pytest.fixture
def prior() -> Array:
    """Eight members (8, 3) whose sample mean and covariance are MEAN and B exactly."""
    return exact_ensemble(8)


def exact_ensemble(n_members: int, seed: int = 0) -> Array:
    z = np.random.default_rng(seed).standard_normal((3, n_members))
    z -= z.mean(axis=1, keepdims=True)
    z = np.linalg.solve(np.linalg.cholesky(z @ z.T / (n_members - 1)), z)
    return (MEAN[:, None] + np.linalg.cholesky(B) @ z).T


def calibrate(
    scheme: UpdateScheme,
    u: Array,
    model: Model = linear,
    obs: Observations = OBS,
    *,
    seed: int = 1,
    dying: Callable[[int, Array], Array] | None = None,
) -> tuple[KalmanState, list[KalmanInfo], list[KalmanState]]:
    """Run the caller's loop; `dying(iteration, u)` is the mask of members that fail."""
    state, infos, states = scheme.start(u), [], []
    while not state.finished:
        predictions = model(state.u)
        if dying is not None:
            predictions[dying(state.iteration, state.u)] = np.nan
        states.append(state)
        state, info = scheme.step(np.random.default_rng([seed, state.iteration]), state, predictions, obs)
        infos.append(info)
    return state, infos, states


def assert_moments(u: Array, mean: npt.ArrayLike, covariance: npt.ArrayLike, atol: float) -> None:
    np.testing.assert_allclose(u.mean(axis=0), np.asarray(mean), atol=atol, rtol=0)
    np.testing.assert_allclose(np.cov(u.T), np.asarray(covariance), atol=atol, rtol=0)


# 6A exact -----------------------------------------------------------------------------------------

LEVENBERG = IEnKS(30, method="levenberg-marquardt", damping=0.01, tolerance=1e-14)
EXACT = [
    *[pytest.param(IEnKS(n), 1e-12, id=f"ienks-{n}") for n in (1, 2, 5)],
    *[pytest.param(IEnKS(n, "bundle"), 1e-10, id=f"bundle-{n}") for n in (1, 2, 5)],
    pytest.param(IEnKS(5, "bundle", tolerance=1e-30), 1e-10, id="bundle-5-unstopped"),
    pytest.param(LEVENBERG, 1e-12, id="levenberg-marquardt"),
    pytest.param(IEnKS(50, step_length=0.5, tolerance=1e-14), 1e-12, id="ienks-half-steps"),
    pytest.param(ESMDA([1], "square-root"), 1e-12, id="es"),
    pytest.param(ESMDA([4] * 4, "square-root"), 1e-12, id="es-mda-list"),
    pytest.param(ESMDA(4, "square-root"), 1e-12, id="es-mda-number"),
    pytest.param(ESMDA([28 / 3, 7, 4, 2], "square-root"), 1e-12, id="es-mda-decreasing"),
    pytest.param(ESMDA("adaptive", "square-root"), 1e-12, id="es-mda-adaptive"),
    pytest.param(ESMDA("adaptive", "square-root", max_iterations=2), 1e-12, id="es-mda-cut-short"),
]


def test_reference_posterior_is_the_documented_one() -> None:
    mean, covariance = kalman(MEAN, B)
    np.testing.assert_allclose(mean, POSTERIOR_MEAN, atol=1e-8)
    np.testing.assert_allclose(covariance, POSTERIOR_COVARIANCE, atol=1e-8)


@pytest.mark.parametrize(("scheme", "atol"), EXACT)
def test_linear_gaussian_posterior_is_exact(scheme: UpdateScheme, atol: float, prior: Array) -> None:
    state, _, _ = calibrate(scheme, prior)
    assert_moments(state.u, *kalman(MEAN, B), atol)


@pytest.mark.parametrize("scheme", [IEnKS(2), ESMDA(4, "square-root")])
def test_correlated_noise(scheme: UpdateScheme, prior: Array) -> None:
    obs = replace(OBS, correlation={"rho": np.full(5, 0.6), "position": np.arange(5.0)})
    state, _, _ = calibrate(scheme, prior, obs=obs)
    assert_moments(state.u, *kalman(MEAN, B, obs), 1e-12)


def test_controlled_steps(prior: Array) -> None:
    _, infos, states = calibrate(ESMDA("adaptive", "square-root"), prior)
    steps = [1 / info.alpha for info in infos]
    np.testing.assert_allclose(steps, [0.0499955, 0.0981673, 0.2121067, 0.5121310, 0.1275996], atol=5e-8)
    assert states[-1].pseudo_time < 1


def test_controlled_steps_reach_time_one_within_their_budget(
    prior: Array, caplog: pytest.LogCaptureFixture
) -> None:
    state, infos, _ = calibrate(ESMDA("adaptive", "square-root", max_iterations=3), prior)
    assert (state.iteration, state.pseudo_time) == (3, 1.0)
    assert sum(1 / info.alpha for info in infos) == pytest.approx(1, abs=1e-14)
    assert "last allowed" in caplog.text


def test_projection_is_the_number_of_steps_to_come(prior: Array) -> None:
    _, infos, _ = calibrate(ESMDA("adaptive", "square-root"), prior)
    assert [info.projected_iterations for info in infos] == [len(infos)] * len(infos)


@pytest.mark.parametrize("schedule", [3, [28 / 3, 7, 4, 2], [4, 2, 1], [1.0]])
def test_fixed_schedules_end_at_time_one_exactly(schedule: int | list[float], prior: Array) -> None:
    state, infos, _ = calibrate(ESMDA(schedule), prior)
    assert state.pseudo_time == 1.0
    assert sum(1 / info.alpha for info in infos) == pytest.approx(1, abs=1e-14)


def test_ies_half_steps_halve_the_distance(prior: Array) -> None:
    """With gamma = 1/2 on a linear model the weights are W_i = (1 - 2^-i) W*."""
    state, _, states = calibrate(SubspaceIES(12, first_step=0.5, last_step=0.5), prior)
    standard = StandardPrior.of(prior)
    coordinates = [standard.coordinates(s.u) for s in (*states, state)]
    weights = [standard.members @ (z - coordinates[0]).T / np.sqrt(7) for z in coordinates]
    full, _, _ = calibrate(SubspaceIES(1, first_step=1.0), prior)
    W = standard.members @ (standard.coordinates(full.u) - coordinates[0]).T / np.sqrt(7)
    assert np.abs(W).max() > 0.1
    for i, W_i in enumerate(weights):
        np.testing.assert_allclose(W_i, (1 - 0.5**i) * W, atol=1e-12, rtol=0)


def test_ies_solves_the_perturbed_problem_of_evensen(prior: Array) -> None:
    """W* = S'(SS' + I)^-1 (D - g(X)), D x D, with the perturbations the scheme's own seed gives."""
    state, _, _ = calibrate(SubspaceIES(1, first_step=1.0), prior)
    seed = int(state.memory["perturbation_seed"])
    xi = np.random.Generator(np.random.PCG64(seed)).standard_normal((8, 5))
    g = linear(prior) / OBS.noise
    S = (g - g.mean(axis=0)).T / np.sqrt(7)
    W = S.T @ np.linalg.solve(S @ S.T + np.eye(5), (Y / OBS.noise + xi - g).T)
    expected = prior + W.T @ (prior - prior.mean(axis=0)) / np.sqrt(7)
    np.testing.assert_allclose(state.u, expected, atol=1e-12, rtol=0)


# 6B, and the Gaussian limit of every perturbed scheme ---------------------------------------------


@pytest.mark.parametrize(
    "scheme", [ESMDA(4), ESMDA("adaptive"), SubspaceIES(2, first_step=1.0, last_step=1.0)], ids=repr
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
        (IEnKS(40, tolerance=1e-8), -0.0952, 0.6273),
        (IEnKS(40, "bundle", tolerance=1e-8), 0.0, 0.7071),
        (IEnKS(40, "bundle", "levenberg-marquardt", tolerance=1e-8), 0.0, 0.7071),
        (ESMDA(4, "square-root"), -0.0523, 0.5685),
        (ESMDA(16, "square-root"), -0.0903, 0.5907),
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
    state, _, _ = calibrate(ESMDA(schedule), quantiles(200_000), cubic, observations([-1.0], [1.0]))
    assert state.u.mean() == pytest.approx(mean, abs=0.005)
    assert state.u.std() == pytest.approx(sd, abs=0.005)


def test_nonlinear_limit_of_two_stochastic_steps() -> None:
    """Two steps feel the prior's far tails, which midpoint quantiles cut off: a million draws instead."""
    u = 1 + np.random.default_rng(0).standard_normal((1_000_000, 1))
    state, _, _ = calibrate(ESMDA(2), u, cubic, observations([-1.0], [1.0]))
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
        IEnKS(40, "bundle", "levenberg-marquardt", tolerance=1e-8), u, np.arctan, obs
    )
    full, _, _ = calibrate(IEnKS(40, "bundle", tolerance=1e-8), u, np.arctan, obs)
    assert min(info.step_length for info in infos) < 1
    assert damped.u.mean() == pytest.approx(best, abs=1e-3)
    assert abs(full.u.mean() - best) > 1
    assert damped.finished


def test_a_rejected_last_step_is_taken_back() -> None:
    """When the budget ends on a rejected trial, the answer is the ensemble accepted before it."""
    obs, u = observations([0.0], [0.1]), 6 + 2 * (quantiles(200) - 1)
    _, infos, states = calibrate(IEnKS(40, "bundle", "levenberg-marquardt"), u, np.arctan, obs)
    rejected = next(i for i, info in enumerate(infos) if info.step_length < 1)
    state, _, _ = calibrate(IEnKS(rejected + 1, "bundle", "levenberg-marquardt"), u, np.arctan, obs)
    assert state.u.mean() == pytest.approx(states[rejected - 1].u.mean(), abs=1e-10)
    assert abs(state.u.mean() - states[rejected].u.mean()) > 0.1


# Invariances --------------------------------------------------------------------------------------

DETERMINISTIC = [
    IEnKS(3),
    IEnKS(3, method="levenberg-marquardt"),
    ESMDA(3, "square-root"),
    ESMDA("adaptive", "square-root"),
]


def bent(u: Array) -> Array:
    """A nonlinear model of three parameters, D = 12 > J - 1 = 9."""
    linear_part = np.hstack([linear(u), linear(u[:, ::-1]), u[:, :2]])
    return linear_part + 0.1 * np.tanh(linear_part) ** 2


BENT = observations(np.linspace(-2, 3, 12), np.linspace(0.3, 1.2, 12))


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
    [*DETERMINISTIC, ESMDA(3), SubspaceIES(3), ESMDA(3, "square-root", 0.95), ESMDA(3, truncation=0.95)],
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
    state, _, _ = calibrate(ESMDA(1, "square-root", 0.98), z, np.copy, obs)
    mean, covariance = kalman(np.zeros(2), np.eye(2), obs, np.eye(2))
    assert_moments(state.u, [mean[0], 0], np.diag([covariance[0, 0], 1]), 1e-12)


# Contract: every scheme through the same checks ---------------------------------------------------

SCHEMES = [
    IEnKS(4, tolerance=1e-12),
    IEnKS(4, "bundle", tolerance=1e-12),
    IEnKS(6, method="levenberg-marquardt", tolerance=1e-12),
    ESMDA(3),
    ESMDA(3, "square-root"),
    ESMDA("adaptive"),
    ESMDA("adaptive", "square-root"),
    SubspaceIES(),
]
contract = pytest.mark.parametrize("scheme", SCHEMES, ids=repr)


@contract
def test_start_asks_for_the_prior(scheme: UpdateScheme, prior: Array) -> None:
    assert isinstance(scheme, UpdateScheme)
    state = scheme.start(prior)
    np.testing.assert_array_equal(state.u, prior)
    assert (state.iteration, state.pseudo_time, state.finished) == (0, 0.0, False)


@contract
def test_steps_are_pure_and_repeatable(scheme: UpdateScheme) -> None:
    u = exact_ensemble(12)
    state = scheme.start(u)
    for _ in range(2):
        predictions = bent(state.u)
        predictions[3] = np.nan
        inputs = {"u": state.u, "predictions": predictions, "y": BENT.y, **state.memory}
        before = {name: np.array(value) for name, value in inputs.items()}
        first, info = scheme.step(np.random.default_rng(7), state, predictions, BENT)
        again, _ = scheme.step(np.random.default_rng(7), state, predictions, BENT)
        for name, value in before.items():
            np.testing.assert_array_equal(inputs[name], value, err_msg=name)
        np.testing.assert_array_equal(first.u, again.u)
        assert info.misfit.shape == (len(predictions) - 1,)
        np.testing.assert_allclose(info.misfit, BENT.misfit(np.delete(predictions, 3, axis=0)), rtol=1e-10)
        assert info.spread.shape == (3,)
        assert info.n_failed == 1
        assert 0 < info.degrees_of_freedom < 12
        state = first


@contract
def test_a_state_is_all_a_resumed_run_needs(scheme: UpdateScheme) -> None:
    """What a checkpoint holds, arrays and three numbers, leads to the same bits."""
    whole, _, states = calibrate(scheme, exact_ensemble(12), bent, BENT)
    reloaded = KalmanState(
        u=states[1].u.copy(),
        iteration=states[1].iteration,
        pseudo_time=states[1].pseudo_time,
        memory={name: np.array(value) for name, value in states[1].memory.items()},
    )
    while not reloaded.finished:
        rng = np.random.default_rng([1, reloaded.iteration])
        reloaded, _ = scheme.step(rng, reloaded, bent(reloaded.u), BENT)
    np.testing.assert_array_equal(reloaded.u, whole.u)


@contract
def test_calibration_narrows_and_ends(scheme: UpdateScheme) -> None:
    u = exact_ensemble(40)
    state, infos, _ = calibrate(scheme, u, bent, BENT)
    assert state.finished
    assert state.pseudo_time == 1.0
    assert np.all(state.u.std(axis=0) < 0.8 * u.std(axis=0))
    assert BENT.misfit(bent(state.u)).mean() < 0.2 * infos[0].misfit.mean()
    np.testing.assert_allclose(infos[-1].spread, state.u.std(axis=0, ddof=1), rtol=1e-12)


@contract
def test_survivors_of_failures_find_the_posterior(scheme: UpdateScheme) -> None:
    """Members 2 and 5 die at first, one more at the next iteration; the posterior stays near the exact."""

    def dying(iteration: int, u: Array) -> Array:
        return np.isin(np.arange(len(u)), {0: [2, 5], 1: [7]}.get(iteration, []))

    u = exact_ensemble(400)
    state, infos, _ = calibrate(scheme, u, dying=dying)
    mean, covariance = kalman(MEAN, B)
    assert [info.n_failed for info in infos[:3]] == [2, 1, 0][: len(infos)]
    assert np.isfinite(state.u).all()
    assert np.all(np.abs(state.u.mean(axis=0) - mean) < 0.25 * np.sqrt(np.diag(covariance)))
    np.testing.assert_allclose(np.cov(state.u.T), covariance, atol=0.2 * covariance.max())


@contract
def test_too_few_survivors_end_the_run(scheme: UpdateScheme) -> None:
    state = scheme.start(exact_ensemble(12))
    predictions = bent(state.u)
    predictions[:7] = np.nan
    with pytest.raises(RunFailed, match=r"7 of 12 members failed.*at least 6 survivors.*got 5"):
        scheme.step(np.random.default_rng(0), state, predictions, BENT)


@contract
def test_too_small_an_ensemble_is_refused_before_any_run(scheme: UpdateScheme) -> None:
    with pytest.raises(BadInput, match="at least 5"):
        scheme.start(exact_ensemble(4))


@contract
def test_parameters_that_do_not_vary_are_refused(scheme: UpdateScheme) -> None:
    u = exact_ensemble(12)
    u[:, 1] = 0.1
    with pytest.raises(BadInput, match="Expected 3 independent parameters, got 2"):
        scheme.start(u)


@contract
def test_many_failures_are_reported(scheme: UpdateScheme, caplog: pytest.LogCaptureFixture) -> None:
    state = scheme.start(exact_ensemble(12))
    predictions = bent(state.u)
    predictions[:3] = np.nan
    scheme.step(np.random.default_rng(0), state, predictions, BENT)
    assert "3 of 12 members failed" in caplog.text


# Failures in detail -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scheme", "atol"),
    [
        (IEnKS(5, tolerance=1e-12), 1e-12),
        (IEnKS(5, "bundle", tolerance=1e-12), 1e-10),
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
    np.testing.assert_array_equal(np.flatnonzero(~state.memory["alive"]), [4])


def test_permanently_failing_region_is_left_to_replacements(caplog: pytest.LogCaptureFixture) -> None:
    """Every member beyond u_0 = 1.5 dies each time it is run; ES-MDA keeps its size and ends."""
    state, infos, states = calibrate(ESMDA(4), exact_ensemble(200), dying=lambda _, u: u[:, 0] > 1.5)
    assert all(len(s.u) == 200 for s in (*states, state))
    assert infos[0].n_failed > 0
    assert np.isfinite(state.u).all()
    assert abs(state.u.mean(axis=0) - kalman(MEAN, B)[0]).max() < 0.2


def test_replacements_follow_the_updated_gaussian() -> None:
    u = exact_ensemble(4000)
    lost = np.arange(4000) % 2 == 0
    state, _, _ = calibrate(
        ESMDA(1, "square-root", minimum_survivors=0.4), u, dying=lambda _, x: lost[: len(x)]
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
        lambda: IEnKS(0),
        lambda: IEnKS(form="squareroot"),  # type: ignore[arg-type]
        lambda: IEnKS(method="newton"),  # type: ignore[arg-type]
        lambda: IEnKS(step_length=0.0),
        lambda: IEnKS(tolerance=0.0),
        lambda: ESMDA(0),
        lambda: ESMDA([]),
        lambda: ESMDA([4, -2]),
        lambda: ESMDA("adaptiv"),  # type: ignore[arg-type]
        lambda: ESMDA(4, "sqrt"),  # type: ignore[arg-type]
        lambda: ESMDA(4, truncation=0.0),
        lambda: SubspaceIES(0),
        lambda: SubspaceIES(first_step=1.5),
    ],
)
def test_wrong_settings_are_refused(make: Callable[[], UpdateScheme]) -> None:
    with pytest.raises(BadInput):
        make()


# Memory -------------------------------------------------------------------------------------------


@contract
def test_memory_stays_below_three_times_the_predictions(scheme: UpdateScheme) -> None:
    """Beside the predictions: one whitened copy and a few blocks, at J = 200 and D = 30000."""
    rng = np.random.default_rng(0)
    n_members, n_observations = 200, 30_000
    state = scheme.start(rng.standard_normal((n_members, 6)))
    predictions = state.u @ rng.standard_normal((6, n_observations))
    obs = observations(np.zeros(n_observations), np.ones(n_observations))
    tracemalloc.start()
    scheme.step(rng, state, predictions, obs)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2 * predictions.nbytes


# The options of a config ---------------------------------------------------------------------------

# each option with a value other than its default, and the schemes' own fields that it sets
OPTIONS: list[tuple[dict[str, Any], UpdateScheme]] = [
    ({}, IEnKS(3)),
    ({"form": "bundle", "bundle_width": 0.01}, IEnKS(3, "bundle", bundle_width=0.01)),
    ({"step_length": 0.5, "tolerance": 1e-5}, IEnKS(3, step_length=0.5, tolerance=1e-5)),
    (
        {"method": "levenberg-marquardt", "damping": 0.1, "min_survivors": 0.7},
        IEnKS(3, method="levenberg-marquardt", damping=0.1, minimum_survivors=0.7),
    ),
    ({"scheme": "es-mda"}, ESMDA(3)),
    ({"scheme": "es-mda", "form": "square-root", "truncation": 0.9}, ESMDA(3, "square-root", 0.9)),
    (
        {"scheme": "es-mda", "iterations": "adaptive", "max_iterations": 2},
        ESMDA("adaptive", max_iterations=2),
    ),
    ({"scheme": "es-mda", "iterations": [4, 2]}, ESMDA([4, 2])),
    ({"scheme": "ies"}, SubspaceIES(3)),
    (
        {"scheme": "ies", "first_step": 1.0, "last_step": 0.5, "half_life": 3},
        SubspaceIES(3, first_step=1.0, last_step=0.5, half_life=3.0),
    ),
]


@pytest.mark.parametrize(("given", "expected"), OPTIONS, ids=str)
def test_a_config_makes_the_scheme_and_sets_its_options(
    given: dict[str, Any], expected: UpdateScheme
) -> None:
    chosen = config.Calibrate.model_validate({"members": 20, "iterations": 3, **given})
    assert problem.scheme(chosen, 3) == expected


def test_every_option_of_every_scheme_has_a_key_with_a_description() -> None:
    described = config.Calibrate.model_json_schema()["properties"]
    keys = {"schedule": "iterations", "minimum_survivors": "min_survivors"}
    for scheme in (IEnKS, ESMDA, SubspaceIES):
        for name in (keys.get(field.name, field.name) for field in fields(scheme)):
            assert described[name]["description"], name
    assert {key for given, _ in OPTIONS for key in given} >= set(OPTIONS_OF_SCHEMES)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"scheme": "ies", "truncation": 0.9}, "`truncation` is an option of scheme es-mda, not of ies"),
        ({"scheme": "es-mda", "method": "gauss-newton"}, "`method` is an option of scheme ienks"),
        ({"first_step": 0.5}, "`first_step` is an option of scheme ies, not of ienks"),
        ({"damping": 0.5}, "`damping` goes with `method: levenberg-marquardt`"),
        ({"bundle_width": 0.5}, "`bundle_width` goes with `form: bundle`"),
        ({"scheme": "es-mda", "max_iterations": 5}, "`max_iterations` goes with `iterations: adaptive`"),
        ({"scheme": "ies", "form": "bundle"}, "`form` is an option of scheme ienks and es-mda, not of ies"),
        ({"scheme": "ies", "iterations": "adaptive"}, "iterations of ies is a number, got adaptive"),
        ({"scheme": "ies", "iterations": [4.0, 2.0]}, "iterations of ies is a number"),
        ({"step_length": 1.5}, "less than or equal to 1"),
        ({"step_length": 0}, "greater than 0"),
        ({"step_length": True}, "should be a number, got true"),
        ({"tolerance": float("inf")}, "finite"),
    ],
)
def test_an_option_that_its_scheme_does_not_have_is_refused(given: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=re.escape(words)):
        config.Calibrate.model_validate({"members": 20, "iterations": 3, **given})


def test_a_line_search_compares_costs_with_the_same_errors() -> None:
    """Errors widened between two iterations lower the cost of every ensemble; a bad step is taken back all
    the same."""
    obs, u = observations([0.0], [0.1]), 6 + 2 * (quantiles(200) - 1)
    wider = observations([0.0], [1.0])
    scheme = IEnKS(40, "bundle", "levenberg-marquardt")
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
    scheme = IEnKS(40, "bundle", "levenberg-marquardt")
    state, _ = scheme.step(np.random.default_rng(0), scheme.start(u), np.arctan(u), obs)
    return float(state.u.mean())


@pytest.mark.mpi
@pytest.mark.slow
@pytest.mark.parametrize(
    "given",
    [
        {"scheme": "ies", "iterations": 3, "first_step": 1.0, "last_step": 1.0},
        {"scheme": "ienks", "iterations": 3, "method": "levenberg-marquardt", "damping": 0.01},
    ],
    ids=lambda given: given["scheme"],
)
def test_a_run_with_options_finds_the_exact_posterior(tmp_path: Path, given: dict[str, Any]) -> None:
    """On two ranks, from the config to the posterior; the memory of a scheme goes through its checkpoints."""
    done = fatescal(2, write_problem(tmp_path, calibrate=given))
    assert done.returncode == 0, done.stderr
    require_exact(tmp_path)
    with h5py.File(tmp_path / "run" / "stages" / "ensemble-01.h5") as file:
        assert {"u0", "alive"} <= set(file["memory"])
