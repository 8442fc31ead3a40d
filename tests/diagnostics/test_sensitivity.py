"""Sobol indices and elementary effects against functions whose sensitivities are known exactly."""

from __future__ import annotations

import numpy as np
import pytest

from fatescal.diagnostics import morris
from fatescal.diagnostics.sobol_indices import indices, of_function, points


def ishigami(x: np.ndarray, a: float = 7.0, b: float = 0.1) -> np.ndarray:
    """Ishigami and Homma 1990, on the unit cube."""
    z = np.pi * (2 * x - 1)
    return np.sin(z[:, 0]) + a * np.sin(z[:, 1]) ** 2 + b * z[:, 2] ** 4 * np.sin(z[:, 0])


G_COEFFICIENTS = np.array([0.0, 1.0, 4.5, 9.0, 99.0, 99.0])


def g_function(x: np.ndarray) -> np.ndarray:
    """Sobol's g-function."""
    return np.prod((np.abs(4 * x - 2) + G_COEFFICIENTS) / (1 + G_COEFFICIENTS), axis=1)


def exact_g() -> tuple[np.ndarray, np.ndarray]:
    own = 1 / (3 * (1 + G_COEFFICIENTS) ** 2)
    whole = np.prod(1 + own) - 1
    total = own * np.array([np.prod(np.delete(1 + own, p)) for p in range(len(own))])
    return own / whole, total / whole


@pytest.mark.parametrize("seed", range(5))
def test_ishigami_within_three_hundredths(seed: int) -> None:
    found = of_function(ishigami, 3, 4096, seed)
    np.testing.assert_allclose(found.first, [0.3139, 0.4424, 0.0], atol=0.03)
    np.testing.assert_allclose(found.total, [0.5576, 0.4424, 0.2437], atol=0.03)
    low, high = found.bounds("total", z=4.0)
    assert ((low <= [0.5576, 0.4424, 0.2437]) & (high >= [0.5576, 0.4424, 0.2437])).all()


@pytest.mark.parametrize("seed", range(5))
def test_the_g_function_within_three_hundredths(seed: int) -> None:
    first, total = exact_g()
    found = of_function(g_function, 6, 4096, seed)
    np.testing.assert_allclose(found.first, first, atol=0.03)
    np.testing.assert_allclose(found.total, total, atol=0.03)


def test_what_the_emulator_does_not_know_widens_the_intervals() -> None:
    """A linear function plus white noise that an emulator knows the variance of, and cannot predict."""
    x = points(2, 1024)
    signal = np.sqrt(12) * (2 * x[:, 0] + x[:, 1])
    exact = indices(signal, 2)
    unsure = indices(signal, 2, np.full(len(x), 5.0))
    assert exact.unknown == 0
    assert unsure.unknown == pytest.approx(0.5, abs=0.01)  # 5 beside a variance of 4 + 1
    low, high = unsure.bounds("first")
    for share in (0.4, 0.9):  # all noise due to the other one, or to this one
        assert low[0] - 0.02 <= share <= high[0] + 0.02
    assert exact.bounds("first")[1][0] < 0.9


def test_an_output_that_does_not_vary_has_no_indices() -> None:
    found = indices(np.full(4 * 64, 2.5), 2)
    np.testing.assert_array_equal([found.first, found.total], 0.0)


def test_on_every_path_each_parameter_moves_once_within_the_prior() -> None:
    paths = morris.design(np.random.default_rng(0), 7, 5)
    assert paths.shape == (5, 8, 7)
    assert ((paths > 0) & (paths < 1)).all()
    moves = np.diff(paths, axis=1)
    assert (np.count_nonzero(moves, axis=2) == 1).all()
    assert (np.count_nonzero(moves, axis=1) == 1).all()
    assert set(np.abs(moves[moves != 0])) == {0.5}


def test_effects_of_a_linear_function_are_exact_and_an_interaction_is_seen() -> None:
    paths = morris.design(np.random.default_rng(1), 4, 10)

    def f(x: np.ndarray) -> np.ndarray:
        return 4 * x[..., 0] - 2 * x[..., 1] + 6 * (x[..., 2] - 0.5) * (x[..., 0] - 0.5)

    found = morris.effects(paths, f(paths))
    assert found.mean[1] == pytest.approx(1.0)
    assert found.sd[1] == pytest.approx(0.0, abs=1e-12)
    assert found.mean[3] == 0
    assert found.sd[0] > 0.3  # by its interaction with the third
    assert (found.n == 10).all()


def test_a_failed_run_costs_the_two_effects_beside_it() -> None:
    paths = morris.design(np.random.default_rng(2), 3, 4)
    values = paths.sum(axis=2)
    values[1, 1] = np.nan
    found = morris.effects(paths, values)
    assert found.n.sum() == 12 - 2
    np.testing.assert_allclose(found.mean, 0.5)


def test_a_wave_of_120_runs_screens_56_parameters() -> None:
    n = morris.usual_paths(56)
    assert n * 57 <= 120
    rng = np.random.default_rng(3)
    weights = np.where(np.arange(56) < 10, 10.0, 0.1) * rng.uniform(0.5, 1.5, 56)
    paths = morris.design(rng, 56, n)
    found = morris.effects(paths, paths @ weights)
    assert set(np.argsort(-found.mean)[:10]) == set(range(10))
