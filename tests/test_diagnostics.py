"""Convergence diagnostics against known answers, what is written for ArviZ, and importance weights."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from numpy.testing import assert_allclose, assert_array_equal

from fatescal.sample.diagnostics import diagnose, mixing, to_tree
from fatescal.sample.importance import importance
from fatescal.sample.run import advance, end_states, stack, warm_up


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
    assert any("bulk ESS" in reason for reason in found.reasons)


def test_chains_that_never_moved_have_not_converged():
    stuck = np.zeros((4, 100, 2, 1)) + np.arange(4)[:, None, None, None]
    found = diagnose(stuck, ["a"])
    assert not found.converged
    assert found.reasons[0].startswith("R-hat of a is ")


def test_fewer_than_four_runs_show_nothing():
    found = diagnose(autoregressive(0.0, (3, 2000, 4))[..., None], ["a"])
    assert found.reasons == ("3 independent runs cannot show convergence, at least 4 can",)


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


# --- importance ----------------------------------------------------------------------------------


def test_importance_weights_correct_a_slightly_wrong_emulator():
    x = np.random.default_rng(2).standard_normal(1000)  # emulated posterior N(0, 1), true N(0.3, 1)
    found = importance(0.5 * (x - 0.3) ** 2, -0.5 * x**2 + 7.0)
    assert found.trusted
    assert found.words.startswith("the model confirms")
    assert_allclose(found.weights.sum(), 1.0)
    assert_allclose(found.weights @ x, 0.3, atol=0.1)
    assert 800 < found.effective_size < 1000


def test_importance_sees_a_wrong_emulator():
    x = np.random.default_rng(3).standard_normal(64)  # true N(3, 1): the draws hardly reach it
    found = importance(0.5 * (x - 3.0) ** 2, -0.5 * x**2)
    assert not found.trusted
    assert found.words.startswith("the model does not confirm")


def test_importance_of_an_exact_emulator():
    misfit = np.random.default_rng(4).chisquare(3, 64)
    found = importance(misfit, -misfit)
    assert found.trusted
    assert_allclose(found.weights, 1 / 64)


def test_weights_that_hardly_differ_are_trusted_whatever_the_shape_of_their_tail():
    heavy = 1e-3 * np.random.default_rng(0).standard_cauchy(63)
    assert importance(1e3 * heavy, np.zeros(63)).k > 0.7
    found = importance(heavy, np.zeros(63))
    assert found.trusted
    assert "confirms the emulated posterior: importance weights within a factor 1.6" in found.words


@pytest.mark.parametrize("n_members", [1, 2, 10])  # 1: what `posterior: {members: 2}` runs beside the default
def test_importance_of_few_members_claims_nothing(n_members):
    misfit = np.arange(float(n_members))
    found = importance(misfit, -misfit)
    assert not found.trusted
    assert_allclose(found.weights, 1 / n_members)
    assert f"too few members ran again to judge the emulated posterior: {n_members}" in found.words


def test_importance_refuses_failed_members():
    with pytest.raises(ValueError, match="leave failed members out"):
        importance(np.array([1.0, np.nan]), np.array([0.0, 0.0]))
