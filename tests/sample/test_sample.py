"""The tempered sampler: invariance, known answers of methods.md 6D, purity, thinning."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from fatescal.base.errors import BadInput, RunFailed
from fatescal.diagnostics.convergence import diagnose, mixing
from fatescal.sample.ladder import barrier, retune
from fatescal.sample.local_move import TARGET_ACCEPTANCE, adapt, initial_scale, move
from fatescal.sample.log_evidence import evidence
from fatescal.sample.reference import WIDER, Reference, reference_step
from fatescal.sample.tempered_run import (
    PRIOR_EVERY,
    advance,
    end_states,
    refer,
    relevel,
    stack,
    start,
    tune,
    warm_up,
)
from fatescal.sample.tempering import arrivals, step, swap
from fatescal.sample.thinning import representative
from fatescal.storage.chain_records import ChainBlock, TemperedState


def narrow(u):
    """log N(0; u, I/99): the Gaussian of 6D."""
    d = u.shape[1]
    return -99 / 2 * np.einsum("mp,mp->m", u, u) + d / 2 * np.log(99 / (2 * np.pi))


def two_modes(u):
    """1/3 N(x; (-4, -4), I/4) + 2/3 N(x; (4, 4), I/4) with x = 5 u: the bimodal likelihood of 6D."""
    x = 5 * u
    minus, plus = (-2 * ((x - c) ** 2).sum(axis=1) for c in (-4.0, 4.0))
    return np.logaddexp(minus + np.log(1 / 3), plus + np.log(2 / 3)) - np.log(np.pi / 2)


def sampled(block, log_likelihood, n_steps, seed):
    """All runs continued from the end of `block`."""
    return stack(
        [
            advance(np.random.default_rng([seed, r]), state, log_likelihood, n_steps)
            for r, state in enumerate(end_states(block))
        ]
    )


# --- one step ------------------------------------------------------------------------------------


def exact_draws(rng, log_likelihood, beta, n):
    """Return (T, n, 1) exact draws of each level of a one-parameter problem, by quadrature."""
    grid = np.linspace(-6, 6, 20001)
    draws = []
    for b in beta:
        log_density = -0.5 * grid**2 + b * log_likelihood(grid[:, None])
        cdf = np.cumsum(np.exp(log_density - log_density.max()))
        draws.append(np.interp(rng.random(n), cdf / cdf[-1], grid))
    return np.array(draws)[:, :, None]


def departure(advance_one, log_likelihood, n_steps=6):
    """Smallest p-value of a KS test at any level that exact draws are still exact after some steps."""
    from scipy.stats import ks_2samp

    rng = np.random.default_rng(11)
    beta = np.array([0.0, 0.1, 0.4, 1.0])
    u = exact_draws(rng, log_likelihood, beta, 4000)
    state = replace(
        start(rng, log_likelihood, beta, 1, 4000),
        u=u,
        log_likelihood=log_likelihood(u.reshape(-1, 1)).reshape(4, -1),
        scale=np.array([1.0, 1.5, 1.0, 0.7])[:, None, None],
    )
    for _ in range(n_steps):
        state = advance_one(rng, state)
    fresh = exact_draws(rng, log_likelihood, beta, 40000)
    return min(ks_2samp(a[:, 0], b[:, 0]).pvalue for a, b in zip(state.u, fresh, strict=True))


def skewed_pair(u):
    """Two unequal wells, not symmetric about the prior mean."""
    return -4 * (u[:, 0] ** 2 - 1) ** 2 + 0.7 * u[:, 0]


def test_step_leaves_every_level_invariant():
    assert departure(lambda rng, state: step(rng, state, skewed_pair)[0], skewed_pair) > 1e-3


def test_invariance_test_sees_a_swap_of_the_wrong_sign():
    def wrong(rng, state):
        moved = move(rng, state.u, state.log_likelihood, state.beta, state.scale, skewed_pair)
        source, _ = swap(rng, -moved.log_likelihood, state.beta, state.steps % 2)
        column = np.arange(source.shape[1])
        return replace(
            state,
            u=moved.u[source, column],
            log_likelihood=moved.log_likelihood[source, column],
            steps=state.steps + 1,
        )

    assert departure(wrong, skewed_pair) < 1e-6


def test_swap_probability():
    fit, beta = np.array([[-3.0], [-1.0], [-2.5]]), np.array([0.0, 0.3, 1.0])
    many = swap(np.random.default_rng(1), np.repeat(fit, 100_000, axis=1), beta, 0)
    expected = [np.exp(0.3 * (-3.0 - -1.0)), 1.0]  # the second pair fits better where it is hotter
    assert_allclose(1 - many.rejection[:, 0], expected)
    assert_allclose(np.mean(many.source[0] == 1), expected[0], atol=0.005)
    assert_array_equal(many.source[2], 2)  # odd pairs wait for odd steps
    odd = swap(np.random.default_rng(1), fit, beta, 1)
    assert_array_equal(odd.source.ravel(), [0, 2, 1])


def test_states_travel_whole():
    rng = np.random.default_rng(3)
    state = start(rng, narrow, np.array([0.0, 0.2, 1.0]), 2, 5)
    for _ in range(20):
        state, _ = step(rng, state, narrow)
        assert_allclose(state.log_likelihood, narrow(state.u.reshape(-1, 2)).reshape(3, 5))


def test_every_likelihood_call_has_the_same_shape():
    shapes = []

    def spy(u):
        shapes.append(u.shape)
        return narrow(u)

    advance(
        np.random.default_rng(0), start(np.random.default_rng(1), spy, np.array([0.0, 1.0]), 3, 4), spy, 7
    )
    assert shapes == [(8, 3)] * 15  # the start, then one for each leg and step


def test_non_finite_likelihood_is_refused():
    state = start(np.random.default_rng(0), narrow, np.array([0.0, 1.0]), 2, 3)
    with pytest.raises(RunFailed, match="log-likelihood is nan at u = "):
        step(np.random.default_rng(0), state, lambda u: np.where(np.arange(len(u)) == 4, np.nan, 0.0))


# --- proposals -----------------------------------------------------------------------------------


def adapted_single_chain(log_likelihood, u, n_steps):
    """One adaptive Metropolis chain per walker of `u` (W, P), without tempering: cold draws (S, W, P)."""
    rng = np.random.default_rng(4)
    beta = np.array([0.0, 1.0])
    u = np.stack([u, u])
    fit = log_likelihood(u.reshape(-1, u.shape[-1])).reshape(2, -1)
    scale = initial_scale(beta, 0.0, u.shape[-1])
    draws, acceptance = [], []
    for n in range(n_steps):
        moved = move(rng, u, fit, beta, scale, log_likelihood)
        scale = adapt(scale, moved, n)
        u, fit = moved.u, moved.log_likelihood
        draws.append(u[1])
        acceptance.append(moved.acceptance[1].mean())
    return np.array(draws), np.array(acceptance), scale[1]


def test_adaptation_finds_acceptance_and_shape():
    precision = np.array([[400.0, -180.0], [-180.0, 100.0]])
    _, acceptance, factor = adapted_single_chain(
        lambda u: -0.5 * np.einsum("mp,pq,mq->m", u, precision, u), np.zeros((4, 2)), 3000
    )
    assert_allclose(acceptance[1500:].mean(), TARGET_ACCEPTANCE, atol=0.02)
    learnt, wanted = factor @ factor.T, np.linalg.inv(precision + np.eye(2))
    assert_allclose(learnt / np.trace(learnt), wanted / np.trace(wanted), atol=0.05)


# --- ladder --------------------------------------------------------------------------------------


def test_retune_finds_the_geometric_ladder_of_a_gaussian():
    block = warm_up(np.random.default_rng(2), narrow, 2, n_walkers=32, levels=9, n_rounds=4)
    exact = (100 ** (np.arange(9) / 8) - 1) / 99  # equal barrier: 1 + 99 beta geometric
    assert_allclose(block.beta[0, 1:], exact[1:], rtol=0.15)


@pytest.mark.parametrize("levels", [2, 5, "auto"])
def test_ladder_of_a_flat_likelihood(levels):
    tuned = retune(np.array([0.0, 0.1, 1.0]), np.zeros(2), levels)
    assert_allclose(tuned[[0, -1]], [0, 1])
    assert np.all(np.diff(tuned) > 0)


def test_relevel_keeps_walkers_with_their_likelihood():
    rng = np.random.default_rng(5)
    state = start(rng, narrow, np.array([0.0, 0.1, 0.5, 1.0]), 2, 3)
    new = relevel(state, np.array([0.0, 0.01, 0.2, 0.6, 0.9, 1.0]))
    assert_array_equal(new.u[[0, -1]], state.u[[0, -1]])
    assert_allclose(new.log_likelihood, narrow(new.u.reshape(-1, 2)).reshape(6, 3))


def test_levels_below_two_are_refused():
    with pytest.raises(BadInput, match=r"sample\.levels"):
        warm_up(np.random.default_rng(0), narrow, 2, levels=1)


@pytest.mark.parametrize(("schedule", "rate"), [("even-odd", 0.128), ("random", 0.039)])
def test_round_trip_rate_with_ideal_refresh(schedule, rate):
    rng = np.random.default_rng(6)
    n_columns, n_steps = 100, 1500
    temperature = 100 ** (np.arange(11) / 10)  # 1 + 99 beta
    beta = (temperature - 1) / 99
    from_prior, count = np.zeros((11, n_columns), bool), 0
    for s in range(n_steps):
        fit = -99 / 2 * rng.chisquare(2, (11, n_columns)) / temperature[:, None]
        parity = s % 2 if schedule == "even-odd" else int(rng.integers(2))
        from_prior = from_prior[swap(rng, fit, beta, parity).source, np.arange(n_columns)]
        count += arrivals(from_prior)
    assert_allclose(count / n_steps / n_columns, rate, rtol=0.05)


# --- known answers of 6D -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("d", "n_walkers", "total_barrier", "log_z"),
    [(1, 32, 1.46587, -0.92396), (2, 32, 2.30259, -1.84793), (5, 256, 3.90899, -4.61982)],
)
def test_barrier_and_evidence_of_a_gaussian(d, n_walkers, total_barrier, log_z):
    block = warm_up(np.random.default_rng(7), narrow, d, n_walkers=n_walkers, n_rounds=4)
    block = sampled(block, narrow, 500, seed=8)
    found = evidence([block])
    assert_allclose(mixing([block]).barrier[-1], total_barrier, rtol=0.05)
    assert_allclose(found.log_z, log_z, atol=0.05)
    assert_allclose(found.thermodynamic, log_z, atol=0.05)
    assert found.warning == ""


def test_a_posterior_a_thousand_times_narrower_than_the_prior():
    rng = np.random.default_rng(24)
    A = np.linalg.qr(rng.standard_normal((4, 4)))[0] * [10.0, 50.0, 200.0, 1000.0]
    centre = np.array([1.0, -1.0, 0.5, 2.0])
    covariance = np.linalg.inv(A @ A.T + np.eye(4))

    def stiff(u):
        return -0.5 * np.sum(((u - centre) @ A) ** 2, axis=1)

    block = warm_up(rng, stiff, 4)
    assert np.all(np.abs(block.accepted[:, 1:] - TARGET_ACCEPTANCE) < 0.06)
    u = sampled(block, stiff, 700, seed=25).u.reshape(-1, 4)
    sd = np.sqrt(np.diag(covariance))
    assert_allclose((u.mean(axis=0) - covariance @ A @ A.T @ centre) / sd, 0.0, atol=0.2)
    assert_allclose(u.std(axis=0) / sd, 1.0, atol=0.12)


@pytest.fixture(scope="module")
def from_one_mode():
    """The bimodal posterior with every walker of every level started in the - mode."""
    rng = np.random.default_rng(9)
    beta = np.array([0.0, 0.03, 0.1, 0.3, 1.0])
    u = np.full((5, 16, 2), -0.8)
    fit = two_modes(u.reshape(-1, 2)).reshape(5, 16)
    states = [replace(start(r, two_modes, beta, 2, 16), u=u, log_likelihood=fit) for r in rng.spawn(4)]
    return sampled(tune(rng, states, two_modes), two_modes, 1500, seed=10)


def test_tempering_finds_both_modes(from_one_mode):
    x = 5 * from_one_mode.u
    plus = x.sum(axis=-1) > 0
    assert_allclose(plus.mean(), 0.6667, atol=0.03)
    for mode, sign in ((x[plus], 1), (x[~plus], -1)):
        assert_allclose(mode.mean(axis=0), sign * 3.96040, atol=0.03)
        assert_allclose(mode.std(axis=0), 0.49752, atol=0.02)
    assert_allclose(evidence([from_one_mode]).log_z, -5.700367, atol=0.05)


def test_a_single_adaptive_chain_stays_in_its_mode():
    draws, acceptance, _ = adapted_single_chain(two_modes, np.full((4, 2), -0.8), 4000)
    assert_allclose(acceptance[2000:].mean(), TARGET_ACCEPTANCE, atol=0.03)  # it moves well, and yet
    weight = np.mean(draws[2000:].sum(axis=-1) > 0, axis=0)
    assert set(weight) <= {0.0, 1.0}  # every chain knows one mode only


def test_evidence_warns_of_levels_too_far_apart():
    block = warm_up(np.random.default_rng(12), narrow, 10, levels=2, n_rounds=4)
    assert "log Z differ" in evidence([sampled(block, narrow, 300, seed=13)]).warning


# --- purity --------------------------------------------------------------------------------------


def assert_same(a, b):
    for f in fields(type(a)):
        assert_array_equal(getattr(a, f.name), getattr(b, f.name), err_msg=f.name)


def test_two_blocks_are_one_block():
    state = start(np.random.default_rng(14), narrow, np.array([0.0, 0.2, 1.0]), 2, 3)
    rng = np.random.default_rng(15)
    first = advance(rng, state, narrow, 11)
    second = advance(rng, end_states(first)[0], narrow, 9)
    whole = advance(np.random.default_rng(15), state, narrow, 20)
    assert_array_equal(np.concatenate([first.u, second.u], axis=1), whole.u)
    assert_same(end_states(second)[0], end_states(whole)[0])
    assert_allclose(first.round_trips + second.round_trips, whole.round_trips)


def test_frozen_blocks_keep_ladder_and_proposals():
    block = warm_up(np.random.default_rng(16), narrow, 2, n_rounds=3)
    after = sampled(block, narrow, 20, seed=17)
    assert_array_equal(after.end_scale, block.end_scale)
    assert_array_equal(after.beta, block.beta)
    assert_array_equal(after.end_steps, block.end_steps + 20)


def test_warm_up_does_not_depend_on_who_maps():
    def backwards(task, items):
        return [task(item) for item in reversed(items)][::-1]

    here = warm_up(np.random.default_rng(18), narrow, 2, n_rounds=3)
    there = warm_up(np.random.default_rng(18), narrow, 2, n_rounds=3, map=backwards)
    assert_same(here, there)
    assert len({run.tobytes() for run in here.end_u}) == 4  # runs share the ladder, not the numbers


def test_records_are_as_declared():
    block = warm_up(np.random.default_rng(19), narrow, 2, n_runs=2, n_walkers=3, levels=5, n_rounds=2)
    assert isinstance(block, ChainBlock)
    assert block.u.shape == (2, 64, 3, 2)
    assert block.log_likelihood.shape == (2, 64, 5, 3)
    assert_allclose(block.log_likelihood[:, :, -1], narrow(block.u.reshape(-1, 2)).reshape(2, 64, 3))
    assert all(isinstance(state, TemperedState) for state in end_states(block))


# --- thinning ------------------------------------------------------------------------------------


def errors(chosen, draws):
    """Root mean square error of mean and sd, in sd."""
    sd = draws.std(axis=0)
    off_mean, off_sd = (chosen.mean(axis=0) - draws.mean(axis=0)) / sd, chosen.std(axis=0) / sd - 1
    return np.sqrt([np.mean(off_mean**2), np.mean(off_sd**2)])


def test_representative_draws_carry_mean_and_sd():
    rng = np.random.default_rng(20)
    draws = rng.gamma(3.0, size=(5000, 4)) @ rng.standard_normal((4, 4))
    found = representative(draws, 48)
    assert len(set(found)) == 48
    by_chance = np.mean([errors(rng.choice(draws, 48, replace=False), draws) for _ in range(40)], axis=0)
    ours = errors(draws[found], draws)
    assert ours[0] < by_chance[0] / 5
    assert ours[1] < by_chance[1] / 2


def test_representative_draws_do_not_depend_on_units():
    draws = np.random.default_rng(21).standard_normal((600, 3))
    assert_array_equal(representative(draws, 10), representative(draws * [1e-6, 1.0, 1024.0] + 3.0, 10))


def test_representative_draws_see_both_modes():
    rng = np.random.default_rng(22)
    draws = np.concatenate([rng.normal(-4, 0.5, (500, 2)), rng.normal(4, 0.5, (1000, 2))])
    assert_allclose(np.mean(draws[representative(draws, 30), 0] > 0), 2 / 3, atol=1 / 30)


def test_repeated_draws_are_chosen_once():
    draws = np.repeat(np.random.default_rng(23).standard_normal((20, 2)), 30, axis=0)
    assert len(np.unique(draws[representative(draws, 20)], axis=0)) == 20
    with pytest.raises(BadInput, match="20 different draws"):
        representative(draws, 21)


# --- the leg from the fitted normal ----------------------------------------------------------------


def gaussian(mean, covariance):
    """A likelihood whose product with the prior is a normal of this mean and covariance."""
    precision = np.linalg.inv(covariance)
    data = precision - np.eye(len(mean))  # of the likelihood
    centre = np.linalg.solve(data, precision @ mean)

    def log_likelihood(u):
        return -0.5 * np.einsum("mp,pq,mq->m", u - centre, data, u - centre)

    return log_likelihood


def test_reference_steps_leave_the_posterior_invariant():
    from scipy.stats import ks_2samp

    rng = np.random.default_rng(26)
    u = exact_draws(rng, skewed_pair, np.array([1.0]), 4000)
    fit = skewed_pair(u.reshape(-1, 1)).reshape(1, -1)
    beta = np.array([0.0, 1.0])
    state = replace(
        start(rng, skewed_pair, beta, 1, 4000),
        u=np.concatenate([u, u]),
        log_likelihood=np.concatenate([fit, fit]),
        scale=np.full((2, 1, 1), 0.7),
    )
    reference = Reference(np.array([0.5]), np.array([[0.8]]))
    state = refer(state, reference, np.array([0.0, 0.4]))
    for _ in range(40):  # the levels between start from the posterior's draws, not from their own
        state, _ = reference_step(rng, state, reference, skewed_pair)
    fresh = exact_draws(rng, skewed_pair, np.array([1.0]), 40000)[0, :, 0]
    assert ks_2samp(state.u[-1, :, 0], fresh).pvalue > 1e-3


@pytest.mark.parametrize(("d", "constant"), [(1, 0.3183), (2, 0.5), (6, 0.9375), (8, 1.09375), (16, 1.571)])
def test_barrier_to_a_wider_normal(d, constant):
    # c_d |ln rho| with c_d = E|X - X'| / 4, X chi-squared with d degrees of freedom
    rho, n_levels = 2.0, 3
    reference = Reference(np.zeros(d), np.sqrt(rho) * np.eye(d))
    log_likelihood = gaussian(np.zeros(d), np.eye(d) * (1 - 1e-9))
    rng = np.random.default_rng(27)
    state = start(rng, log_likelihood, np.array([0.0, 1.0]), d, 4000)
    s = (rho ** (np.arange(n_levels) / n_levels) - 1) / (rho - 1)  # precision of each level geometric
    state = refer(state, reference, s)
    state = replace(state, reference_scale=np.repeat(2.38 / np.sqrt(d) * np.eye(d)[None], n_levels, axis=0))
    rejected = np.zeros(n_levels)
    for k in range(80):
        state, info = reference_step(rng, state, reference, log_likelihood)
        rejected += info.rejection.mean(axis=1) * (k >= 40) / 40
    assert_allclose(barrier(rejected)[-1], constant * np.log(rho), rtol=0.05)


def test_the_normal_at_the_mode_of_a_normal_posterior_is_that_posterior():
    covariance = np.array([[0.04, 0.05], [0.05, 0.09]])
    starts = np.random.default_rng(32).standard_normal((3, 2))
    reference = Reference.at_mode(gaussian(np.array([0.5, -1.0]), covariance), starts)
    assert_allclose(reference.mean, [0.5, -1.0], atol=1e-4)
    assert_allclose(reference.factor @ reference.factor.T, WIDER * covariance, rtol=1e-4)


def test_modes_are_found_beside_the_one_that_the_first_reference_stands_at():
    rng = np.random.default_rng(33)
    starts = np.array([-0.8, -0.8]) + 0.05 * rng.standard_normal((20, 2))
    block = sampled(warm_up(rng, two_modes, 2, starts=starts), two_modes, 1500, seed=34)
    assert_allclose((block.u.sum(axis=-1) > 0).mean(), 0.6667, atol=0.03)


def test_a_known_mode_makes_the_warm_up_short():
    covariance = 0.01 * np.diag(np.linspace(0.2, 1.5, 8))
    log_likelihood = gaussian(np.linspace(-1, 1, 8), covariance)
    starts = np.random.default_rng(35).standard_normal((20, 8))
    n_points = [0, 0]

    def counted(i):
        def of(u):
            n_points[i] += len(u)
            return log_likelihood(u)

        return of

    warm_up(np.random.default_rng(36), counted(0), 8)
    warm_up(np.random.default_rng(36), counted(1), 8, starts=starts)
    assert n_points[1] < 0.6 * n_points[0]


def test_a_fitted_normal_makes_draws_independent_and_gives_log_z():
    rng = np.random.default_rng(28)
    factor = 0.3 * np.linalg.qr(rng.standard_normal((8, 8)))[0] * np.linspace(0.2, 1.5, 8)
    covariance, mean = factor @ factor.T, np.linspace(-1, 1, 8)
    log_likelihood = gaussian(mean, covariance)
    block = warm_up(rng, log_likelihood, 8)
    assert block.end_prior_every.tolist() == [PRIOR_EVERY] * 4
    block = sampled(block, log_likelihood, 500, seed=29)
    diagnosis = diagnose(block.u, [f"p{i}" for i in range(8)])
    assert diagnosis.ess_bulk.min() > 0.3 * block.u[..., 0].size
    data = np.linalg.inv(covariance) - np.eye(8)
    centre = np.linalg.solve(data, np.linalg.solve(covariance, mean))
    far = np.linalg.inv(data) + np.eye(
        8
    )  # log Z = log N(centre; 0, I + data^-1) + log of the likelihood's own volume
    exact = (
        -0.5 * centre @ np.linalg.solve(far, centre)
        - 0.5 * np.linalg.slogdet(far)[1]
        - 0.5 * np.linalg.slogdet(data)[1]
    )
    assert_allclose(evidence([block]).log_z, exact, atol=0.03)


def test_log_z_of_ten_dimensions_from_the_reference():
    block = warm_up(np.random.default_rng(30), narrow, 10)
    found = evidence([sampled(block, narrow, 500, seed=31)])
    assert_allclose(found.log_z, -9.23964, atol=0.05)


def test_far_from_a_normal_the_prior_s_leg_keeps_moving(from_one_mode):
    assert from_one_mode.end_prior_every.tolist() == [1] * 4
    assert evidence([from_one_mode]).reference is None
