"""What every update scheme keeps to: all of the registry, in each of its ways, through the same checks."""

from __future__ import annotations

import tracemalloc
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from linear_gaussian import (
    BENT,
    MEAN,
    OBS,
    B,
    assert_moments,
    bent,
    calibrate,
    exact_ensemble,
    kalman,
    linear,
    observations,
)

from fatescal.base.errors import BadInput, RunFailed
from fatescal.base.types import Array
from fatescal.hpc.communicator import Communicator
from fatescal.storage.records import KalmanState
from fatescal.storage.store import Store
from fatescal.update.base import UpdateScheme
from fatescal.update.registry import SCHEMES

# options of which each makes a scheme go another way; a scheme that is not here is tested with its defaults
WAYS: dict[str, list[dict[str, Any]]] = {
    "ienks": [
        {"tolerance": 1e-12},
        {"form": "bundle", "tolerance": 1e-12},
        {"iterations": 6, "method": "levenberg-marquardt", "damping": 0.01, "tolerance": 1e-12},
    ],
    "es-mda": [
        {"iterations": 3},
        {"iterations": 3, "form": "square-root"},
        {"iterations": [4, 2, 1]},
        {"iterations": "adaptive"},
        {"iterations": "adaptive", "form": "square-root"},
    ],
    "ies": [{"iterations": 12}],
}
ALL = [(kind, options) for kind in SCHEMES for options in WAYS.get(kind, [{}])]


@pytest.fixture(params=ALL, ids=lambda way: f"{way[0]} {way[1]}")
def scheme(request: pytest.FixtureRequest) -> UpdateScheme:
    kind, options = request.param
    return SCHEMES[kind].model_validate(options)


def deterministic(scheme: UpdateScheme) -> bool:
    """Whether the random numbers leave an ensemble without failures as it is."""
    one, other = (calibrate(scheme, exact_ensemble(10), bent, BENT, seed=seed)[0].u for seed in (1, 2))
    return np.array_equal(one, other)


def test_start_asks_for_the_prior(scheme: UpdateScheme) -> None:
    u = exact_ensemble(8)
    state = scheme.start(u)
    assert type(state) is KalmanState
    np.testing.assert_array_equal(state.u, u)
    assert (state.iteration, state.pseudo_time, state.finished) == (0, 0.0, False)


def test_the_linear_gaussian_posterior(scheme: UpdateScheme) -> None:
    """Exact where no perturbations are drawn, else within their sampling error (methods.md 6A, 6B)."""
    mean, covariance = kalman(MEAN, B)
    if deterministic(scheme):
        state, _, _ = calibrate(scheme, exact_ensemble(8))
        assert_moments(state.u, mean, covariance, 1e-10)
        return
    state, _, _ = calibrate(scheme, exact_ensemble(4000))
    assert np.all(np.abs(state.u.mean(axis=0) - mean) < 5 * np.sqrt(np.diag(covariance) / 4000))
    assert np.linalg.norm(np.cov(state.u.T) - covariance) < 0.1 * np.linalg.norm(covariance)


def test_the_order_of_members_and_observations_does_not_matter(scheme: UpdateScheme) -> None:
    if not deterministic(scheme):
        pytest.skip("the perturbations go by the order: only the distribution stays")
    rng, u = np.random.default_rng(4), exact_ensemble(10)
    members, columns = rng.permutation(10), rng.permutation(12)
    reference = calibrate(scheme, u, bent, BENT)[0].u
    permuted = calibrate(scheme, u[members], lambda x: bent(x)[:, columns], BENT.select(columns))[0].u
    np.testing.assert_allclose(permuted, reference[members], atol=1e-10, rtol=0)


def test_units_of_a_variable_do_not_matter(scheme: UpdateScheme) -> None:
    factor, u = np.where(np.arange(12) < 6, 1e9, 1.0), exact_ensemble(10)
    reference = calibrate(scheme, u, bent, BENT)[0].u
    rescaled = observations(BENT.y * factor, BENT.noise * factor)
    converted = calibrate(scheme, u, lambda x: bent(x) * factor, rescaled)[0].u
    np.testing.assert_allclose(converted, reference, atol=1e-10, rtol=0)


def test_steps_are_pure_and_repeatable(scheme: UpdateScheme) -> None:
    state = scheme.start(exact_ensemble(12))
    for _ in range(2):
        predictions = bent(state.u)
        predictions[3] = np.nan
        inputs = {"predictions": predictions, "y": BENT.y, **vars(state)}
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


def test_a_stored_state_is_all_a_resumed_run_needs(scheme: UpdateScheme, tmp_path: Path) -> None:
    """Each state is read back from its checkpoint, of the type that the scheme declares: the same bits."""
    whole, infos, _ = calibrate(scheme, exact_ensemble(12), bent, BENT)
    store, record = Store(tmp_path / "stages", Communicator()), KalmanState
    state = scheme.start(exact_ensemble(12))
    for number in range(len(infos) + 1):
        key = f"ensemble-{number:02d}"
        assert type(state) is record
        store.once(key, record, lambda made=state: made)  # type: ignore[misc]
        back = store.once(key, record, lambda: pytest.fail("computed again"))
        for one in fields(record):
            np.testing.assert_array_equal(getattr(back, one.name), getattr(state, one.name))
        if number < len(infos):
            state, _ = scheme.step(np.random.default_rng([1, number]), back, bent(back.u), BENT)
            record = scheme.record
    assert back.finished
    np.testing.assert_array_equal(back.u, whole.u)


def test_what_a_scheme_remembers_is_declared(scheme: UpdateScheme) -> None:
    state, _, _ = calibrate(scheme, exact_ensemble(12), bent, BENT)
    for one in fields(state):
        value = getattr(state, one.name)
        assert isinstance(value, np.ndarray) == ("dims" in one.metadata), one.name
        assert isinstance(value, np.ndarray | float | int | bool | str), one.name


def test_calibration_narrows_and_ends(scheme: UpdateScheme) -> None:
    u = exact_ensemble(40)
    state, infos, _ = calibrate(scheme, u, bent, BENT)
    assert state.finished
    assert state.pseudo_time == 1.0
    assert np.all(state.u.std(axis=0) < 0.8 * u.std(axis=0))
    assert BENT.misfit(bent(state.u)).mean() < 0.2 * infos[0].misfit.mean()
    np.testing.assert_allclose(infos[-1].spread, state.u.std(axis=0, ddof=1), rtol=1e-12)
    assert scheme.planned_updates >= len(infos) or scheme.model_dump().get("iterations") == "adaptive"


def test_survivors_of_failures_find_the_posterior(scheme: UpdateScheme) -> None:
    """Members 2 and 5 die at first, one more at the next iteration; the posterior stays near the exact."""

    def dying(iteration: int, u: Array) -> Array:
        return np.isin(np.arange(len(u)), {0: [2, 5], 1: [7]}.get(iteration, []))

    state, infos, _ = calibrate(scheme, exact_ensemble(400), linear, OBS, dying=dying)
    mean, covariance = kalman(MEAN, B)
    assert [info.n_failed for info in infos[:3]] == [2, 1, 0][: len(infos)]
    assert np.isfinite(state.u).all()
    assert np.all(np.abs(state.u.mean(axis=0) - mean) < 0.25 * np.sqrt(np.diag(covariance)))
    np.testing.assert_allclose(np.cov(state.u.T), covariance, atol=0.2 * covariance.max())


def test_too_few_survivors_end_the_run(scheme: UpdateScheme) -> None:
    state = scheme.start(exact_ensemble(12))
    predictions = bent(state.u)
    predictions[:7] = np.nan
    with pytest.raises(RunFailed, match=r"7 of 12 members failed.*at least 6 survivors.*got 5"):
        scheme.step(np.random.default_rng(0), state, predictions, BENT)


def test_the_least_share_of_survivors_is_an_option(scheme: UpdateScheme) -> None:
    strict = scheme.model_copy(update={"min_survivors": 0.95})
    state = strict.start(exact_ensemble(12))
    predictions = bent(state.u)
    predictions[0] = np.nan
    with pytest.raises(RunFailed, match="at least 12 survivors"):
        strict.step(np.random.default_rng(0), state, predictions, BENT)


def test_many_failures_are_reported(scheme: UpdateScheme, caplog: pytest.LogCaptureFixture) -> None:
    state = scheme.start(exact_ensemble(12))
    predictions = bent(state.u)
    predictions[:3] = np.nan
    scheme.step(np.random.default_rng(0), state, predictions, BENT)
    assert "3 of 12 members failed" in caplog.text


def test_too_small_an_ensemble_is_refused_before_any_run(scheme: UpdateScheme) -> None:
    with pytest.raises(BadInput, match="4 updated members cannot calibrate 3 parameters"):
        scheme.start(exact_ensemble(4))


def test_parameters_that_do_not_vary_are_refused(scheme: UpdateScheme) -> None:
    u = exact_ensemble(12)
    u[:, 1] = 0.1
    with pytest.raises(BadInput, match="Expected 3 independent parameters, got 2"):
        scheme.start(u)


@pytest.mark.parametrize("first", SCHEMES)
def test_any_scheme_goes_on_from_the_prior_ensemble_of_another(scheme: UpdateScheme, first: str) -> None:
    prior = SCHEMES[first]().start(exact_ensemble(12))
    rng, predictions = np.random.default_rng, bent(prior.u)
    own, _ = scheme.step(rng(3), scheme.start(prior.u), predictions, BENT)
    other, _ = scheme.step(rng(3), prior, predictions, BENT)
    assert type(own) is type(other)
    np.testing.assert_array_equal(own.u, other.u)


@pytest.mark.parametrize("kind", ["ienks", "ies"])
def test_a_later_ensemble_of_a_scheme_that_remembers_less_is_refused(kind: str) -> None:
    later = KalmanState(u=exact_ensemble(12), iteration=2)
    with pytest.raises(BadInput, match="iteration 2 was made by another scheme"):
        SCHEMES[kind]().step(np.random.default_rng(0), later, bent(later.u), BENT)


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
