"""Convergence diagnostics against known answers, what is written for ArviZ, and the verdict of the rerun."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import xarray as xr
from numpy.testing import assert_allclose, assert_array_equal

from fatescal.diagnostics.convergence import _nested, diagnose, mixing, nested_rhat, to_tree
from fatescal.diagnostics.importance_weights import divergence, mixture_log_weights, relative_density
from fatescal.diagnostics.rerun_verdict import Round, judge_rerun, judge_rounds, not_sampled
from fatescal.diagnostics.verdict_text import advice, details, sentence
from fatescal.sample.tempered_run import advance, end_states, stack, warm_up
from fatescal.sample.thinning import representative


def autoregressive(rho, shape, seed=0):
    """Stationary AR(1) of unit variance along axis 1 of `shape` (R, S, W)."""
    from scipy.signal import lfilter, lfiltic

    rng = np.random.default_rng(seed)
    draws = np.empty(shape)
    for r, w in np.ndindex(shape[0], shape[2]):
        noise = np.sqrt(1 - rho**2) * rng.standard_normal(shape[1])
        draws[r, :, w], _ = lfilter(
            [1.0], [1.0, -rho], noise, zi=lfiltic([1.0], [1.0, -rho], [rng.standard_normal()])
        )
    return draws


@pytest.mark.parametrize("shape", [(4, 10000, 1), (4, 2500, 4)])
def test_effective_sample_size_of_autoregressive_chains(shape):
    draws = np.stack([autoregressive(rho, shape) for rho in (0.0, 0.5, 0.9, 0.95)], axis=-1)
    found = diagnose(draws, list("abcd"))
    assert_allclose(found.ess_bulk, [40000, 13333, 2105, 1026], rtol=0.15)
    assert_allclose(found.mcse, 1 / np.sqrt([40000, 13333, 2105, 1026]), rtol=0.15)
    assert found.converged
    assert found.reasons == ()


def test_each_threshold_gives_its_reason():
    draws = np.stack([autoregressive(rho, (4, 400, 1)) for rho in (0.0, 0.97)], axis=-1)
    found = diagnose(draws, ["vcmax", "slope"])
    assert not found.converged
    assert [reason.split(" is ")[0] for reason in found.reasons] == [
        "R-hat of slope",
        "R-hat of the single walkers in slope",
        "bulk ESS of slope",
        "tail ESS of slope",
    ]
    assert diagnose(draws, ["vcmax", "slope"], rhat=2.0, ess=5).converged


def test_one_run_in_another_mode_is_seen():
    draws = autoregressive(0.0, (4, 500, 2))[..., None]
    draws[2] += 1.0
    assert any("R-hat" in reason for reason in diagnose(draws, ["a"]).reasons)


def test_one_walker_per_run_in_another_mode_is_seen():
    draws = autoregressive(0.0, (4, 500, 4))[..., None]
    draws[:, :, 1] += 8.0
    found = diagnose(draws, ["a"])
    assert found.rhat[0] < 1.01  # the runs agree
    assert found.rhat_walkers[0] > 1.4
    assert any("R-hat of the single walkers in a" in reason for reason in found.reasons)
    assert any("bulk ESS" in reason for reason in found.reasons)


def test_chains_that_never_moved_have_not_converged():
    stuck = np.zeros((4, 100, 2, 1)) + np.arange(4)[:, None, None, None]
    found = diagnose(stuck, ["a"])
    assert not found.converged
    assert found.reasons[0].startswith("R-hat of a is ")


def test_fewer_than_four_runs_show_nothing():
    found = diagnose(autoregressive(0.0, (3, 2000, 4))[..., None], ["a"])
    assert found.reasons == ("3 independent runs cannot show convergence, at least 4 can",)


def test_nested_r_hat_by_its_definition_and_by_one_walker():
    """Of one walker a run and halves as runs it is sqrt(1 + B/W): ArviZ's sqrt((N-1)/N + B/W) but for 1/N."""
    from arviz_stats.base import array_stats

    x = autoregressive(0.9, (4, 400, 1)).transpose(0, 2, 1)
    same = float(array_stats.rhat(x[:, 0], method="rank"))
    assert_allclose(nested_rhat(x) ** 2 - 1 / 200, same**2, rtol=1e-6)
    y = np.random.default_rng(0).standard_normal((2, 3, 50))
    within = np.mean([y[r].mean(axis=1).var(ddof=1) + y[r].var(axis=1, ddof=1).mean() for r in range(2)])
    assert_allclose(_nested(y), np.sqrt(1 + y.mean(axis=(1, 2)).var(ddof=1) / within))


def test_the_report_and_arviz_say_the_same_of_the_written_chains(tmp_path):
    from arviz_stats.base import array_stats

    u = np.stack([autoregressive(0.8, (4, 300, 4), seed) for seed in range(2)], axis=-1)
    u[1, 200:, 2] += 0.5  # one walker sits elsewhere for a while
    found = diagnose(u, ["a", "b"])
    to_tree(np.exp(u), ["a", "b"], ["1", "1"], u[..., 0]).to_netcdf(tmp_path / "posterior.nc")
    opened = xr.open_datatree(tmp_path / "posterior.nc")
    written = [float(array_stats.rhat(opened.posterior[n].values, method="rank")) for n in "ab"]
    assert_allclose(written, found.rhat_walkers, rtol=1e-9)
    assert f"{found.rhat_walkers.max():.3f}" in found.summary


def test_mixing_weighs_blocks_by_their_steps():
    def likelihood(u):
        return -50 * np.einsum("mp,mp->m", u, u)

    warm = warm_up(np.random.default_rng(0), likelihood, 2, n_rounds=4)
    states = end_states(warm)
    rngs = [np.random.default_rng(r) for r in range(4)]
    parts = []
    for n_steps in (100, 300):
        parts.append(
            stack([advance(rng, s, likelihood, n_steps) for rng, s in zip(rngs, states, strict=True)])
        )
        states = end_states(parts[-1])
    rngs = [np.random.default_rng(r) for r in range(4)]
    whole = stack([advance(rng, s, likelihood, 400) for rng, s in zip(rngs, end_states(warm), strict=True)])
    split, one = mixing(parts), mixing([whole])
    assert_allclose(split.barrier, one.barrier)
    assert_allclose(split.acceptance, one.acceptance)
    assert_allclose(split.round_trip_rate, one.round_trip_rate)
    assert 0 < one.round_trip_rate < one.ideal_round_trip_rate


def test_posterior_opens_with_arviz(tmp_path):
    theta = np.random.default_rng(1).standard_normal((4, 50, 3, 2))
    to_tree(theta, ["vcmax_pine", "slope"], ["umol m-2 s-1", "1"], theta[..., 0]).to_netcdf(
        tmp_path / "posterior.nc"
    )
    opened = xr.open_datatree(tmp_path / "posterior.nc")
    assert list(opened.posterior.data_vars) == ["vcmax_pine", "slope"]
    assert opened.posterior["vcmax_pine"].attrs["units"] == "umol m-2 s-1"
    assert_array_equal(opened.posterior["slope"].sel(chain=5), theta[1, :, 2, 1])
    assert_array_equal(opened.sample_stats["lp"].sel(chain=5), theta[1, :, 2, 0])


# --- the verdict of the rerun --------------------------------------------------------------------

NAMES = ("vcmax", "slope", "depth")


def rerun(log_weight, n=64, seed=0, support=False, draw=None):
    """Verdict on the emulated posterior N(0, I) of three parameters, the logarithm of true over emulated
    being given.
    """
    rng = np.random.default_rng(seed)
    draws = rng.standard_normal((4000, 3)) if draw is None else draw(rng)
    pick = representative(draws, n) if support else rng.choice(len(draws), n, replace=False)
    return judge_rerun(log_weight(draws[pick]), draws[pick], draws, NAMES)


@pytest.mark.parametrize("support", [False, True])
@pytest.mark.parametrize("n", [15, 31, 63, 127])
@pytest.mark.parametrize(
    ("shift", "outcome"),
    [
        (0.0, "confirmed"),
        (0.1, "confirmed"),
        (0.5, "not confirmed"),
        (1.0, "not confirmed"),
        (3.0, "not confirmed"),
    ],
)
def test_a_shifted_posterior_is_told_at_any_size(shift, outcome, n, support):
    verdict = rerun(lambda z: 7.0 + shift * z[:, 1], n, support=support)
    assert verdict.outcome == outcome
    if 0 < shift < 2:
        assert_allclose(verdict.shift, [0, shift, 0], atol=0.06)
        assert_allclose(verdict.ratio, 1, atol=0.06)
    if outcome == "not confirmed":
        assert "slope" in verdict.distrusted
        assert "distrust " in sentence(verdict)
    if 0 < shift < 2 and outcome == "not confirmed":
        assert verdict.distrusted == ("slope",)


@pytest.mark.parametrize("factor", [0.5, 2.0])
def test_a_posterior_of_wrong_width_is_told(factor):
    verdict = rerun(lambda z: -0.5 * (factor**2 - 1) * z[:, 2] ** 2)
    assert verdict.outcome != "confirmed"
    assert verdict.distrusted == ("depth",)
    if factor == 2.0:
        assert verdict.outcome == "not confirmed"
        assert_allclose(verdict.ratio, [1, 1, 0.5], atol=0.05)


@pytest.mark.parametrize("seed", range(10))
def test_harmless_weights_are_confirmed_whatever_the_shape_of_their_tail(seed):
    rng = np.random.default_rng(seed)
    for n in (15, 31, 127):
        assert rerun(lambda z: 1e-4 * rng.standard_cauchy(len(z)), n, seed).outcome == "confirmed"
        assert rerun(lambda z: 0.05 * rng.standard_normal(len(z)), n, seed).outcome == "confirmed"


def test_rough_weights_need_more_members_and_the_verdict_says_how_many():
    def noise(z):
        return 0.5 * np.random.default_rng(1).standard_normal(len(z))

    few = rerun(noise, 15)
    assert few.outcome == "cannot tell"
    assert "15 members cannot tell" in sentence(few)
    assert f"about {few.more} more would" in sentence(few)
    assert 15 < few.more < 500
    assert rerun(noise, 15 + 2 * few.more).outcome == "confirmed"


def test_a_far_mode_without_members_is_not_vouched_for():
    """1 % of the draws lie 12 sd off and make the sd 1.6 times that of the rest; no member of 15 is there."""

    def draw(rng):
        z = rng.standard_normal((4000, 3))
        z[::100, 0] += 12.0
        return z

    for seed in range(10):
        verdict = rerun(lambda z: np.where(z[:, 0] > 6, -50.0, 0.0), 15, seed, support=True, draw=draw)
        assert verdict.outcome != "confirmed"
        assert "vcmax" in verdict.distrusted


def test_both_errors_are_rare_with_random_draws_and_with_support_points():
    refused = confirmed = 0
    for seed in range(20):
        for support in (False, True):
            outcome = {
                shift: rerun(lambda z, shift=shift: shift * z[:, 0], 31, seed, support).outcome
                for shift in (0.0, 0.2, 0.25, 0.3, 0.5)
            }
            refused += sum(outcome[right] == "not confirmed" for right in (0.0, 0.2, 0.25))
            confirmed += sum(outcome[wrong] == "confirmed" for wrong in (0.3, 0.5))
    assert refused <= 6  # of 120
    assert confirmed == 0


@pytest.mark.parametrize(
    "n_members", [0, 1, 2, 3]
)  # 1: what `posterior: {members: 2}` runs beside the default
def test_few_members_claim_nothing(n_members):
    u = np.random.default_rng(0).standard_normal((200, 3))
    verdict = judge_rerun(np.zeros(n_members), u[:n_members], u, NAMES)
    assert verdict.outcome == "cannot tell"
    assert f"{n_members} members cannot tell" in sentence(verdict)


def test_the_verdict_refuses_failed_members():
    with pytest.raises(ValueError, match="leave failed members out"):
        judge_rerun(np.array([1.0, np.nan]), np.zeros((2, 1)), np.zeros((5, 1)), ["a"])


def test_k_hat_is_reported_where_it_means_something():
    assert np.isnan(rerun(lambda z: z[:, 0], 63).k)
    verdict = rerun(lambda z: 3.0 * z[:, 0], 127)
    assert verdict.k > 0.4
    assert "k-hat" in details(verdict)
    assert np.isneginf(rerun(lambda z: 0 * z[:, 0], 127).k)


def shifted_rounds(shifts, n, seed=0):
    """Members of rounds whose emulated posteriors are N(m + shift e_1, S) on a linear-Gaussian problem of
    posterior N(m, S).

    Prior N(0, I), Phi = |u - x|^2 / (2 r): S = I r / (1 + r), m = x / (1 + r).
    """
    x, r = np.array([1.0, -2.0, 0.5]), 0.25
    sd, mean = np.sqrt(r / (1 + r)), x / (1 + r)
    rng = np.random.default_rng(seed)
    centres = [x + np.array([shift * sd * (1 + r), 0, 0]) for shift in shifts]
    log_z = [-1.5 * np.log(1 + 1 / r) - 0.5 * c @ c / (1 + r) for c in centres]
    u = np.concatenate([c / (1 + r) + sd * rng.standard_normal((n, 3)) for c in centres])
    phi = 0.5 * np.sum((u - x) ** 2, axis=1) / r
    emulated = [-0.5 * np.sum((u - c) ** 2, axis=1) / r for c in centres]
    return u, mixture_log_weights(phi, emulated, log_z, [n] * len(shifts)), mean, sd


def share(log_weights):
    """Return the effective share of the members."""
    w = np.exp(log_weights - log_weights.max())
    return w.sum() ** 2 / np.sum(w**2) / len(w)


def test_weights_of_one_round_are_those_of_its_shift_and_the_evidence():
    """exp(-shift^2) of the members is left; the mean of the weights is the evidence of the true
    likelihood.
    """
    for shift in (0.0, 0.3, 1.0):
        _, log_weights, _, _ = shifted_rounds([shift], 40000)
        assert_allclose(share(log_weights), np.exp(-(shift**2)), rtol=0.1)
        x, r = np.array([1.0, -2.0, 0.5]), 0.25
        log_z = -1.5 * np.log(1 + 1 / r) - 0.5 * x @ x / (1 + r)
        assert_allclose(np.log(np.mean(np.exp(log_weights))), log_z, atol=0.03)


def test_rounds_pooled_are_worth_more_than_the_sum_of_their_weights():
    worse, better = [], []
    for seed in range(20):
        u, log_weights, mean, sd = shifted_rounds([2.0, 0.0], 64, seed)
        weights = np.exp(log_weights - log_weights.max())
        better.append((weights @ u / weights.sum() - mean)[0] / sd)
        u, log_weights, mean, sd = shifted_rounds([2.0], 128, seed)
        weights = np.exp(log_weights - log_weights.max())
        worse.append((weights @ u / weights.sum() - mean)[0] / sd)
        assert share(shifted_rounds([2.0, 0.0], 64, seed)[1]) > 0.5
    assert np.sqrt(np.mean(np.square(better))) < 0.15
    assert np.sqrt(np.mean(np.square(worse))) > 0.3


def test_weights_of_rounds_must_go_with_their_members():
    with pytest.raises(ValueError, match="do not go with"):
        mixture_log_weights(np.zeros(4), np.zeros((2, 4)), [0.0, 0.0], [1, 2])


def normal_log_likelihood(centre, variance, u):
    return -0.5 * np.sum((u - centre) ** 2, axis=1) / variance


def linear_rounds(shifts, n=64, seed=0):
    """The same rounds as they are judged: each with its members, its draws and its emulated likelihood."""
    x, r = np.array([1.0, -2.0, 0.5]), 0.25
    sd = np.sqrt(r / (1 + r))
    rng = np.random.default_rng(seed)
    rounds = []
    for shift in shifts:
        c = x + np.array([shift * sd * (1 + r), 0, 0])
        draws = c / (1 + r) + sd * rng.standard_normal((4000, 3))
        u = draws[rng.choice(4000, n, replace=False)]
        rounds.append(
            Round(
                u=u,
                misfit=0.5 * np.sum((u - x) ** 2, axis=1) / r,
                draws=draws,
                log_likelihood=partial(normal_log_likelihood, c, r),
                log_evidence=float(-1.5 * np.log(1 + 1 / r) - 0.5 * c @ c / (1 + r)),
            )
        )
    return rounds, x / (1 + r), sd


@pytest.mark.parametrize("shifts", [(1.0, 0.0), (1.0, 0.3, 0.0), (0.0,), (0.2,)])
def test_a_round_is_judged_by_its_own_members_whatever_came_before(shifts):
    rounds, _, _ = linear_rounds(shifts)
    verdict = judge_rounds(rounds, NAMES)
    assert verdict.outcome == "confirmed"
    assert len(verdict.weights) == 64
    assert len(verdict.pooled_weights) == 64 * len(shifts)
    assert judge_rounds(linear_rounds(shifts[::-1])[0], NAMES).outcome == (
        "confirmed" if shifts[0] < 0.25 else "not confirmed"
    )


def test_rounds_pooled_have_the_true_moments_though_the_last_one_is_wrong():
    rounds, mean, sd = linear_rounds((0.0, 1.0), n=300)
    verdict = judge_rounds(rounds, NAMES)
    assert verdict.outcome == "not confirmed"
    assert verdict.distrusted == ("vcmax",)
    centre, scale = rounds[-1].draws.mean(axis=0), rounds[-1].draws.std(axis=0)
    assert_allclose(centre + verdict.pooled_shift * scale, mean, atol=0.2 * sd)
    assert_allclose(verdict.pooled_ratio * scale, sd, rtol=0.15)
    assert_allclose(verdict.distance, 0.5, rtol=0.15)  # of normals one sd apart
    assert verdict.pooled_size > verdict.effective_size


def rough_rounds(shifts, sd_error, n=64, seed=0):
    """Rounds whose emulators err by a rough function of the place, and what each predicts without its own."""
    rounds, mean, sd = linear_rounds(shifts, n, seed)
    last = rounds[-1]

    def unseen(u):
        return last.log_likelihood(u) + sd_error * np.sin(1e3 * u.sum(axis=1)) * np.sqrt(2.0)

    rounds[-1] = replace(last, log_likelihood=unseen)
    return rounds, [unseen(one.u) for one in rounds[:-1]], mean, sd


def test_where_own_members_cannot_tell_those_of_the_rounds_before_do():
    decided = 0
    for seed in range(12):
        rounds, left_out, _, _ = rough_rounds((0.4, 0.0), 0.4, n=40, seed=seed)
        alone, together = judge_rounds(rounds, NAMES), judge_rounds(rounds, NAMES, partial(list, left_out))
        assert_allclose(together.weights, alone.weights)
        if alone.outcome == "cannot tell":
            decided += together.outcome == "confirmed"
            assert together.more <= alone.more
            assert np.median(together.shift_error / alone.shift_error) < 1.0
        else:
            assert (together.outcome, together.n_judged) == (alone.outcome, 40)
    assert decided >= 2


def test_members_of_the_rounds_before_do_not_confirm_what_they_contradict():
    rounds, left_out, _, _ = rough_rounds((0.0, 0.0), 0.6, n=16)
    assert judge_rounds(rounds, NAMES).outcome == "cannot tell"
    z = rounds[0].u[:, 0] / rounds[0].u[:, 0].std()
    assert judge_rounds(rounds, NAMES, lambda: [one + 0.8 * z for one in left_out]).outcome == "cannot tell"


def test_pooled_estimates_are_right_on_average():
    """The estimates of a shift of 0.2 sd, in errors of their own: mean 0, sd about 1."""
    z = []
    for seed in range(40):
        rounds, left_out, _, _ = rough_rounds((0.5, 0.2), 0.5, n=32, seed=seed)
        u = np.concatenate([one.u for one in rounds])
        emulated = np.array([one.log_likelihood(u) for one in rounds])
        relative = relative_density(emulated, [one.log_evidence for one in rounds], [32, 32])
        unseen = np.concatenate([*left_out, rounds[-1].log_likelihood(rounds[-1].u)])
        misfit = np.concatenate([one.misfit for one in rounds])
        verdict = judge_rerun(-misfit - unseen, u, rounds[-1].draws, NAMES, relative)
        z.append((verdict.shift[0] + 0.2) / verdict.shift_error[0])
    assert abs(np.mean(z)) < 0.5
    assert 0.5 < np.std(z) < 1.5


def test_a_round_without_survivors_cannot_tell_and_is_not_pooled():
    rounds, _, _ = linear_rounds((0.0, 0.0))
    none = replace(rounds[1], u=rounds[1].u[:0], misfit=rounds[1].misfit[:0])
    verdict = judge_rounds([rounds[0], none], NAMES)
    assert verdict.outcome == "cannot tell"
    assert verdict.distrusted == NAMES
    assert len(verdict.pooled_weights) == 64
    assert judge_rounds([none], NAMES).pooled_size == 0


def test_the_divergence_is_that_of_normal_distributions():
    x = np.random.default_rng(0).standard_normal((50_000, 2))
    assert_allclose(divergence(x, x * [1.0, 2.0]), 0.5 * (4 - 1) - np.log(2), rtol=0.03)
    assert_allclose(
        divergence(x, x @ [[2.0, 1.0], [0.0, 1.0]] + 3), divergence(x + 1, x @ [[2, 1], [0, 1]] + 4)
    )


@pytest.mark.parametrize(
    ("outcome", "n", "more", "wanted"),
    [
        ("not confirmed", 63, 0, "emulate.rounds: 5"),
        ("cannot tell", 15, 40, "posterior.members: 56"),
        ("cannot tell", 15, 3, "emulate.rounds: 5"),
        ("cannot tell", 15, 10_000, "emulate.rounds: 5"),
        ("cannot tell", 2, 13, "posterior.members: 16"),
        ("not sampled", 0, 0, "emulate.force"),
    ],
)
def test_an_unconfirmed_verdict_says_what_to_do(outcome, n, more, wanted):
    verdict = replace(
        not_sampled(NAMES, "why"), outcome=outcome, weights=np.full(n, 1 / max(n, 1)), more=more
    )
    assert wanted in advice(verdict, 3)
