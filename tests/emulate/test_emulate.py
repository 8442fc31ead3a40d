"""The emulator: compression, Gaussian processes, hold-out, gate, acquisition."""

from __future__ import annotations

import os
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from fatescal.base.types import Array
from fatescal.emulate import likelihood
from fatescal.emulate.acquisition import next_batch
from fatescal.emulate.base import Emulator
from fatescal.emulate.encoder import encode
from fatescal.emulate.fit import layout, restricted_likelihood
from fatescal.emulate.gaussian_process import Fitted, Process
from fatescal.emulate.kernels import JOINT, PAIRS, PRODUCT, GPSpec, trend, warped
from fatescal.emulate.misfit_emulator import MisfitEmulator, Transform
from fatescal.emulate.output_emulator import OutputsEmulator
from fatescal.emulate.surrogates import processes
from fatescal.emulate.training import near_optimum, nearest_rows, twins
from fatescal.emulate.validation import (
    collapse,
    ignorance,
    independent_directions,
    scale_of_variances,
    sd_over,
    validate,
)
from fatescal.storage.records import Observations, TrainingSet
from fatescal.update.residuals import misfit, whitened_residuals

PER_FORM = ("kernel", "degree", "hyperparameters", "warp", "weights")
EMULATORS: list[OutputsEmulator | MisfitEmulator] = [OutputsEmulator(), MisfitEmulator()]
WARP = np.array([[0.4, 0.2, 0.0], [0.1, -0.3, 0.2]])  # rates and bends
FORMS = [GPSpec(kernel, degree) for kernel in (JOINT, PRODUCT, PAIRS) for degree in (0, 1, 2)]
WEIGHTS = np.array([0.3, 0.1, 0.1, 0.2, 0.05, 0.25])  # of three parameters and their pairs
CTSM = Path(os.environ.get("FATESCAL_DATA", "absent")) / "ctsm"


def observations(y: Array, noise: Array) -> Observations:
    n = len(y)
    time = np.arange(n).astype("datetime64[s]")
    name, unit, period = (np.full(n, word) for word in ("v", "1", "calibration"))
    return Observations(y=y, noise=noise, start=time, end=time, variable=name, unit=unit, period=period)


def smooth_model(u: Array) -> Array:
    """Two variables of 60 days each, the second a thousand times smaller; nonlinear in u (M, 3)."""
    season = np.sin(np.linspace(0.1, 3.0, 60))
    scale, saturation, offset = (np.exp(0.3 * u[:, k, None]) for k in range(3))
    first = 10.0 * scale * season / (0.5 * saturation + season)
    second = 1e-3 * (offset * season + 0.2 * saturation * np.cos(3.0 * season))
    return np.hstack([first, second])


@cache
def smooth_problem() -> tuple[TrainingSet, Observations]:
    """A prior ensemble and runs around the truth, as an ensemble smoother leaves them."""
    rng = np.random.default_rng(4)
    noise = np.repeat([0.5, 1e-4], 60)
    truth = np.array([[0.4, -0.3, 0.5]])
    y = smooth_model(truth)[0] + noise * rng.standard_normal(120)
    u = np.vstack(
        [rng.standard_normal((30, 3)), truth + np.array([0.15, 0.3, 0.15]) * rng.standard_normal((60, 3))]
    )
    return TrainingSet(u=u, predictions=smooth_model(u), source=np.repeat([0, 1], [30, 60])), observations(
        y, noise
    )


def shuffled(training: TrainingSet) -> TrainingSet:
    order = np.random.default_rng(1).permutation(len(training.u))
    return TrainingSet(u=training.u, predictions=training.predictions[order], source=training.source)


@cache
def fitted(emulator):
    return emulator.fit(np.random.default_rng(0), *smooth_problem())


def small_process(form: GPSpec, axes: Array | None = None, n_outputs: int = 2):
    rng = np.random.default_rng(2)
    u = rng.standard_normal((40, 3))
    outputs = np.stack([np.sin(u[:, 0]) + u[:, 1] * u[:, 2], np.exp(0.3 * u[:, 1]) - u[:, 0]], axis=1)[
        :, :n_outputs
    ]
    hyperparameters = np.array([[1.3, 2.0, 0.9, 2.5, 1e-3], [3.0, 1.1, 2.2, 0.7, 1e-4]])[:n_outputs]
    process = Process.condition(fixed(hyperparameters, form), u, outputs, form, axes)
    return process, hyperparameters, u, outputs


def fixed(hyperparameters: Array, form: GPSpec) -> Fitted:
    n = len(hyperparameters)
    return Fitted(hyperparameters, np.tile(WARP, (n, 1, 1)), np.tile(WEIGHTS[: form.n_weights(3)], (n, 1)))


def rotation() -> Array:
    return np.linalg.qr(np.random.default_rng(9).standard_normal((3, 3)))[0]


# --- compression


def test_encoder_discards_little_of_runs_near_the_optimum_and_keeps_the_smaller_variable():
    training, obs = smooth_problem()
    near = near_optimum(obs.misfit(training.predictions), training.u.shape[1])
    mean, basis, latent = encode(obs, training.predictions, near, training.u.shape[1])
    rest = obs.whiten(training.predictions) - mean - latent @ basis.T
    assert np.sum(rest[near] ** 2, axis=1).max() < 0.5
    phi = 0.5 * np.sum((obs.whiten(obs.y) - mean - latent @ basis.T) ** 2, axis=1)
    assert np.abs(phi - obs.misfit(training.predictions))[near].max() < 0.25
    assert basis.shape[1] < 8
    np.testing.assert_allclose(basis.T @ basis, np.eye(basis.shape[1]), atol=1e-12)
    small = obs.whiten(training.predictions)[:, 60:]
    explained = 1.0 - np.sum(rest[:, 60:] ** 2) / np.sum((small - small.mean(axis=0)) ** 2)
    assert explained > 0.99


def test_encoder_is_blind_to_units():
    training, obs = smooth_problem()
    near = near_optimum(obs.misfit(training.predictions), training.u.shape[1])
    unit = np.repeat([86400.0, 1e-6], 60)
    other = encode(
        observations(obs.y * unit, obs.noise * unit), training.predictions * unit, near, training.u.shape[1]
    )[2]
    np.testing.assert_allclose(
        other, encode(obs, training.predictions, near, training.u.shape[1])[2], rtol=1e-9, atol=1e-9
    )


@pytest.mark.parametrize("rho", [0.0, 0.8])
def test_likelihood_identity_at_training_points(rho):
    """methods 6G: full-rank encoder, variance zero, |y_perp|^2 accounted for; the update's Phi is the
    same.
    """
    training, obs = smooth_problem()
    if rho:
        obs = replace(obs, correlation={"rho": np.full(120, rho), "position": np.arange(120.0)})
    residuals = whitened_residuals(training.predictions, obs, np.full(len(training.u), True))
    np.testing.assert_allclose(misfit(residuals), obs.misfit(training.predictions), rtol=1e-10)
    emulator = OutputsEmulator(discarded=0.0)
    surrogate = emulator.fit(np.random.default_rng(0), training, obs)
    latent = surrogate.latent
    phi, sd = emulator.misfit(surrogate, obs, latent, np.zeros_like(latent))
    np.testing.assert_allclose(phi, obs.misfit(training.predictions), rtol=1e-10)
    assert np.all(sd == 0.0)


@pytest.mark.parametrize("variance", ["plug-in", "expected", "marginal"])
def test_outputs_likelihood_is_what_its_variance_mode_says(variance):
    """log N(y; g, I) of the mean, its expectation over g ~ N(m, C), and log N(y; m, I + C), directly in D
    dimensions.

    What they gain over the expectation is bounded by 3 nats; an sd of Phi beyond 2 is charged for.
    """
    training, obs = smooth_problem()
    emulator = OutputsEmulator(variance=variance)
    surrogate = fitted(emulator)
    target = surrogate.basis.T @ (obs.whiten(obs.y) - surrogate.mean)
    far = np.concatenate([training.u[:5] + 0.1, 6.0 + training.u[:2]])
    mean, variances = emulator.predict(surrogate, far)
    for value, m, v in zip(emulator.log_likelihood(surrogate, obs)(far), mean, variances, strict=True):
        covariance = (surrogate.basis * v) @ surrogate.basis.T
        error = obs.whiten(obs.y) - surrogate.mean - surrogate.basis @ m
        wide = np.eye(len(obs)) + covariance
        direct = {
            "plug-in": -0.5 * error @ error,
            "expected": -0.5 * error @ error - 0.5 * np.trace(covariance),
            "marginal": -0.5 * error @ np.linalg.solve(wide, error) - 0.5 * np.linalg.slogdet(wide)[1],
        }
        gain = direct[variance] - direct["expected"]
        charge = 0.5 * max(0.0, likelihood.sd_of_misfit(target - m, v[None])[0] - 2.0) ** 2
        assert value == pytest.approx(direct["expected"] + 3.0 * np.tanh(gain / 3.0) - charge, rel=1e-9)
        assert direct["expected"] < direct["marginal"]  # Jensen


@pytest.mark.parametrize("mode", likelihood.MODES)
def test_no_variance_mode_rewards_ignorance(mode):
    """An emulator that knows nothing, mean at the observations: less likely than the worst known point,
    10 sd off in all.
    """
    known = likelihood.charged(likelihood.MODES[mode], np.full((1, 8), 10.0), np.full((1, 8), 0.01))
    ignorant = likelihood.charged(likelihood.MODES[mode], np.zeros((1, 8)), np.full((1, 8), 130.0))
    assert ignorant[0] < known[0]
    little = np.full((1, 8), 0.05)
    assert likelihood.charged(likelihood.MODES[mode], np.ones((1, 8)), little)[0] == pytest.approx(
        likelihood.MODES[mode](np.ones((1, 8)), little)[0], abs=1e-3
    )


def test_misfit_emulator_charges_for_ignorance():
    training, obs = smooth_problem()
    emulator, surrogate = MisfitEmulator(), fitted(MisfitEmulator())
    u = np.concatenate([training.u[30:60], training.u[30:60] + 3.0])
    phi, sd = emulator.misfit(surrogate, obs, *emulator.predict(surrogate, u))
    np.testing.assert_allclose(
        emulator.log_likelihood(surrogate, obs)(u), -phi - 0.5 * np.maximum(sd - 2.0, 0.0) ** 2
    )
    assert (sd > 2.0).any()


def test_auto_widens_where_the_model_fits_and_never_where_it_cannot():
    training, obs = smooth_problem()
    shape = np.sin(np.arange(120.0))  # what no parameters bring about, 15 sd of noise in every window
    cannot = observations(obs.y + 15.0 * obs.noise * shape, obs.noise)
    for data, name in ((obs, "marginal"), (cannot, "expected")):
        auto, same = OutputsEmulator(), OutputsEmulator(variance=name)
        surrogate = auto.fit(np.random.default_rng(0), training, data)
        new = np.random.default_rng(1).standard_normal((20, 3))
        np.testing.assert_array_equal(
            auto.log_likelihood(surrogate, data)(new), same.log_likelihood(surrogate, data)(new)
        )


# --- Gaussian processes


def sklearn_matern(kernel: str, length: Array, x: Array, z: Array, weights: Array = WEIGHTS) -> Array:
    from sklearn.gaussian_process.kernels import Matern

    if kernel == JOINT:
        return Matern(length, nu=2.5)(x, z)
    single = [Matern(le, nu=2.5)(x[:, [p]], z[:, [p]]) for p, le in enumerate(length)]
    if kernel == PRODUCT:
        return np.prod(single, axis=0)
    pairs = [single[p] * single[q] for p in range(len(single)) for q in range(p + 1, len(single))]
    return sum(w * term for w, term in zip(weights, single + pairs, strict=True))


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_restricted_likelihood_is_that_of_contrasts(form):
    """Against its definition: the density of E'f, E an orthonormal basis with E'H = 0, variance profiled."""
    from scipy.linalg import null_space

    _, _, u, outputs = small_process(form)
    basis, f = trend(u, form.degree), outputs[:, [0]]
    contrasts = null_space(basis.T)

    def definition(x: Array) -> float:
        inputs, weights = warped(u, x[4:10].reshape(2, 3)), np.exp(x[10:])
        kernel = sklearn_matern(
            form.kernel, np.exp(x[:3]), inputs, inputs, weights / max(weights.sum(), 1e-9)
        )
        a = contrasts.T @ (kernel + np.exp(x[3]) * np.eye(len(u))) @ contrasts
        g = contrasts.T @ f[:, 0]
        return 0.5 * np.linalg.slogdet(a)[1] + 0.5 * len(g) * np.log(g @ np.linalg.solve(a, g) / len(g))

    n = len(layout(form, 3))
    x, z = (np.concatenate([np.log(start), np.linspace(0.1, 0.7, n - 4)]) for start in STARTS)
    flat = np.ones(1), np.zeros(n), np.full(n, np.inf)
    value, other = (restricted_likelihood(p, u, f, basis, form, *flat)[0] for p in (x, z))
    assert value - other == pytest.approx(definition(x) - definition(z), rel=1e-9)


STARTS = ([1.0, 2.0, 0.7, 1e-3], [2.0, 1.5, 3.0, 1e-2])


@pytest.mark.parametrize("form", [replace(form, warped=True) for form in FORMS], ids=str)
def test_restricted_likelihood_with_its_prior_has_the_right_gradient(form):
    from scipy.optimize import approx_fprime

    _, _, u, outputs = small_process(form)
    n = len(layout(form, 3))
    x = np.concatenate([np.log(STARTS[0]), np.linspace(0.2, 0.6, n - 4)])
    arguments = (
        u,
        outputs,
        trend(u, form.degree),
        form,
        np.array([0.7, 0.3]),
        0.1 + x,
        np.linspace(0.2, 0.8, n),
    )
    _, gradient = restricted_likelihood(x, *arguments)
    numerical = approx_fprime(x, lambda p: restricted_likelihood(p, *arguments)[0], 1e-6)
    np.testing.assert_allclose(gradient, numerical, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_predictions_are_those_of_universal_kriging(form):
    """Rasmussen & Williams eqs 2.41-2.42 by plain linear algebra, the kernel from scikit-learn."""
    axes = rotation()
    process, hyperparameters, u, outputs = small_process(form, axes)
    new = np.random.default_rng(3).standard_normal((7, 3))
    mean, variance = process(new)
    x, x_new = u @ axes, new @ axes
    h, h_new = trend(x, form.degree), trend(x_new, form.degree)
    x, x_new = (warped(inputs, WARP) for inputs in (x, x_new))
    for k, row in enumerate(hyperparameters):
        inverse = np.linalg.inv(row[3] * sklearn_matern(form.kernel, row[:3], x, x) + row[4] * np.eye(len(x)))
        cross = row[3] * sklearn_matern(form.kernel, row[:3], x_new, x)
        spread = np.linalg.inv(h.T @ inverse @ h)
        b = spread @ h.T @ inverse @ outputs[:, k]
        np.testing.assert_allclose(
            mean[:, k], h_new @ b + cross @ inverse @ (outputs[:, k] - h @ b), rtol=1e-8
        )
        unknown = h_new - cross @ inverse @ h
        of_process = row[3] + row[4] - np.einsum("mn,nk,mk->m", cross, inverse, cross)
        np.testing.assert_allclose(
            variance[:, k], of_process + np.sum(unknown @ spread * unknown, axis=1), rtol=1e-8
        )


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_covariance_has_the_predicted_variance_on_its_diagonal(form):
    process, *_ = small_process(form, rotation())
    new = np.random.default_rng(3).standard_normal((7, 3))
    np.testing.assert_allclose(np.einsum("kmm->mk", process.covariance(new)), process(new)[1], rtol=1e-9)


@pytest.mark.parametrize("form", FORMS, ids=str)
@pytest.mark.parametrize("group", [[5], [11, 3, 30]])
def test_analytic_hold_out_equals_conditioning_without_the_rows(form, group):
    axes = rotation()
    process, hyperparameters, u, outputs = small_process(form, axes)
    mean, variance = process.hold_out(outputs, [np.array(group)])
    rest = np.setdiff1d(np.arange(len(u)), group)
    refit = Process.condition(fixed(hyperparameters, form), u[rest], outputs[rest], form, axes)
    expected = refit(u[group[:1]])
    np.testing.assert_allclose(mean, expected[0], rtol=1e-8)
    np.testing.assert_allclose(variance, expected[1], rtol=1e-8)


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_one_run_is_predicted_alone_as_among_others(form):
    process, *_ = small_process(form)
    new = np.random.default_rng(3).standard_normal((16, 3))
    for part, whole in zip(process(new[3:4]), process(new), strict=True):
        np.testing.assert_allclose(part, whole[3:4], rtol=1e-11)


def test_a_linear_model_is_emulated_to_rounding():
    rng = np.random.default_rng(0)
    u, a = rng.standard_normal((40, 3)), rng.standard_normal((3, 20))
    obs = observations(np.array([0.2, 0.1, -0.3]) @ a + rng.standard_normal(20), np.ones(20))
    surrogate = OutputsEmulator(discarded=0.0).fit(
        rng, TrainingSet(u=u, predictions=u @ a, source=np.zeros(40)), obs
    )
    new = rng.standard_normal((10, 3))
    phi = -OutputsEmulator().log_likelihood(surrogate, obs)(new)
    np.testing.assert_allclose(phi, obs.misfit(new @ a), rtol=1e-9)


# --- emulators


@pytest.mark.parametrize("emulator", EMULATORS, ids=["outputs", "misfit"])
def test_emulator_meets_the_protocol_and_predicts_new_runs(emulator):
    training, obs = smooth_problem()
    surrogate = fitted(emulator)
    assert isinstance(emulator, Emulator)
    rng = np.random.default_rng(8)
    near = training.u[nearest_rows(obs.misfit(training.predictions), 3)]
    new = near.mean(axis=0) + 0.7 * near.std(axis=0) * rng.standard_normal((50, 3))
    phi, sd = emulator.misfit(surrogate, obs, *emulator.predict(surrogate, new))
    error = phi - obs.misfit(smooth_model(new))
    assert np.sqrt(np.mean(error**2)) < 0.3
    assert np.mean(np.abs(error - np.median(error)) < 3.0 * sd + 0.25) > 0.9
    values = emulator.log_likelihood(surrogate, obs)(new)
    assert np.corrcoef(values, -obs.misfit(smooth_model(new)))[0, 1] > 0.99


def backwards(task, items):
    return [task(item) for item in list(items)[::-1]][::-1]


@pytest.mark.parametrize("emulator", EMULATORS, ids=["outputs", "misfit"])
def test_fit_is_deterministic_and_independent_of_the_map(emulator):
    first = fitted(emulator)
    second = emulator.fit(np.random.default_rng(0), *smooth_problem(), map=backwards)
    for name in ("mean", "basis", "hyperparameters", "latent", "scores"):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name))


def test_few_runs_are_predicted_by_the_mean_of_forms_each_with_correlations_of_its_own():
    training, obs = smooth_problem()
    few = TrainingSet(u=training.u[:24], predictions=training.predictions[:24], source=training.source[:24])
    emulator = OutputsEmulator()
    surrogate = emulator.fit(np.random.default_rng(0), few, obs)
    shares = surrogate.share
    assert len(shares) > 1
    assert shares.sum() == pytest.approx(1.0)
    assert len(np.unique(surrogate.hyperparameters[0, :, 0])) > 1
    blend, new = processes(surrogate), training.u[30:40]
    alone = [
        processes(
            replace(surrogate, share=np.ones(1), **{name: getattr(surrogate, name)[[f]] for name in PER_FORM})
        )
        for f in range(len(shares))
    ]
    mean, variance = emulator.predict(surrogate, new)
    of_forms = [(s, *process(new)) for s, process in zip(shares, alone, strict=True)]
    np.testing.assert_allclose(mean, sum(s * m for s, m, _ in of_forms), rtol=1e-9)
    square = sum(s * (m**2 + v) for s, m, v in of_forms)  # the second moment of the mixture
    np.testing.assert_allclose(variance, square - mean**2, rtol=1e-6, atol=1e-12 * float(np.max(mean**2)))
    np.testing.assert_allclose(np.einsum("kmm->mk", blend.covariance(new)), blend(new)[1], rtol=1e-6)
    again = emulator.fit(np.random.default_rng(0), few, obs, map=backwards)
    np.testing.assert_array_equal(again.hyperparameters, surrogate.hyperparameters)
    np.testing.assert_array_equal(again.share, shares)


@pytest.mark.parametrize("transform", [Transform(1.0, 0.0), Transform(0.5, 0.0), Transform(0.0, -3.0)])
def test_transform_of_misfit_has_the_right_inverse_and_slope(transform):
    phi, step = np.array([5.0, 40.0, 3000.0]), 1e-5
    f = transform.forward(phi)
    np.testing.assert_allclose(transform.inverse(f), phi, rtol=1e-12)
    numerical = (transform.inverse(f + step) - transform.inverse(f - step)) / (2 * step)
    np.testing.assert_allclose(transform.slope(f), numerical, rtol=1e-6)


# --- the gate


@pytest.mark.parametrize("emulator", EMULATORS, ids=["outputs", "misfit"])
def test_gate_accepts_a_good_training_set_and_refuses_a_shuffled_one(emulator):
    training, obs = smooth_problem()
    good = validate(emulator, fitted(emulator), training, obs)
    assert good.passed, good.verdict
    assert np.isnan(good.posterior_sd)
    bad = shuffled(training)
    refused = validate(emulator, emulator.fit(np.random.default_rng(0), bad, obs), bad, obs)
    assert not refused.passed
    assert "Q2" in refused.verdict
    assert refused.q2 < 0.5


@pytest.mark.parametrize("emulator", EMULATORS, ids=["outputs", "misfit"])
def test_gate_judges_the_uncertainty_over_the_posterior(emulator):
    training, obs = smooth_problem()
    surrogate = fitted(emulator)
    near = training.u[near_optimum(obs.misfit(training.predictions), training.u.shape[1])]
    judged = validate(emulator, surrogate, training, obs, near)
    assert judged.passed, judged.verdict
    assert judged.posterior_sd == np.median(sd_over(emulator, surrogate, obs, near)) < 0.5
    astray = validate(emulator, surrogate, training, obs, near + 4.0)
    assert not astray.passed
    assert "over the posterior" in astray.verdict


@pytest.mark.parametrize("emulator", EMULATORS, ids=["outputs", "misfit"])
@pytest.mark.parametrize("factor", [1 / 400, 1 / 4, 4, 400])
@pytest.mark.parametrize("rows", [slice(0, 90), slice(0, 40)], ids=["many", "few"])
def test_gate_refuses_wrong_variances_in_either_direction(emulator, factor, rows):
    training, obs = smooth_problem()
    training = TrainingSet(**{k: getattr(training, k)[rows] for k in ("u", "predictions", "source")})
    surrogate = emulator.fit(np.random.default_rng(0), training, obs)
    assert "variances" not in validate(emulator, surrogate, training, obs).verdict
    scale = np.ones_like(surrogate.hyperparameters)
    scale[..., -2:] = factor
    wrong = replace(surrogate, hyperparameters=surrogate.hyperparameters * scale)
    refused = validate(emulator, wrong, training, obs)
    assert not refused.passed
    assert "variances are wrong" in refused.verdict


def test_variances_scaled_by_one_half_must_fit_the_other():
    error = np.random.default_rng(0).standard_normal((40, 3))
    assert all(c.met for c in scale_of_variances(error, 0 * error, np.ones((40, 3))))
    rough = error * np.where(np.arange(40) % 2, 0.2, 1.4)[:, None]  # mean square 1, halves as 49 to 1
    met = [c.met for c in scale_of_variances(rough, 0 * error, np.ones((40, 3)))]
    assert met == [True, False]


def test_gate_refuses_a_collapsed_training_set():
    rng = np.random.default_rng(0)
    draws = rng.standard_normal((500, 3)) * [1.0, 0.1, 0.1]
    runs = rng.standard_normal((40, 3)) * [1.0, 0.1, 0.1]
    assert collapse(runs, draws)[0].met
    narrow = collapse(runs * [1.0, 1.0, 0.2], draws)[0]
    assert not narrow.met
    assert "spread over 0.17 of the posterior's width" in narrow.sentence
    assert independent_directions(runs)[0].met
    flat = independent_directions(runs @ np.diag([1.0, 1.0, 0.0]))[0]
    assert not flat.met
    assert "2 independent directions, there are 3 parameters" in flat.sentence
    training, obs = smooth_problem()
    centre = training.u[30:].mean(axis=0)
    u = centre + 0.02 * (training.u[30:] - centre)
    collapsed = TrainingSet(u=u, predictions=smooth_model(u), source=np.zeros(60))
    emulator = OutputsEmulator()
    surrogate = emulator.fit(np.random.default_rng(0), collapsed, obs)
    refused = validate(emulator, surrogate, collapsed, obs, training.u[30:])
    assert not refused.passed
    assert "collapsed" in refused.verdict


def test_gate_sees_the_tail_that_the_median_does_not():
    """One draw in a hundred where the emulator knows nothing made the sd of a bucket's capacity 1.64 of
    the exact one.
    """
    rng = np.random.default_rng(0)
    draws, sd = rng.standard_normal((4000, 3)), np.abs(rng.normal(0, 0.05, 4000))
    assert all(c.met for c in ignorance(sd, draws))
    far = np.arange(4000) % 125 == 0  # 0.8 %
    tail = ignorance(np.where(far, 60.0, sd), draws + np.where(far, 15.0, 0.0)[:, None])
    assert [c.met for c in tail] == [True, True, True, True, False]
    assert "change a mean by" in tail[-1].sentence
    several = np.arange(4000) % 33 == 0  # 3 %
    assert [c.met for c in ignorance(np.where(several, 3.0, sd), draws)][:4] == [True, False, True, False]
    assert not ignorance(np.where(rng.random(4000) < 0.06, 1.5, sd), draws)[2].met


def test_gate_refuses_too_few_runs_near_the_optimum():
    training, obs = smooth_problem()
    keep = np.ones(90, dtype=bool)
    keep[np.argsort(obs.misfit(training.predictions))[5:60]] = False
    few = TrainingSet(
        u=training.u[keep], predictions=training.predictions[keep], source=training.source[keep]
    )
    emulator = OutputsEmulator()
    refused = validate(emulator, emulator.fit(np.random.default_rng(0), few, obs), few, obs)
    assert not refused.passed
    assert "needed are 10" in refused.verdict


def test_hold_out_is_not_fooled_by_a_repeated_ensemble():
    """A converged smoother runs its members again: each run's twin must be held out with it."""
    training, obs = smooth_problem()
    u = np.vstack([training.u, training.u + 1e-7])
    near = nearest_rows(obs.misfit(smooth_model(u)), 3)
    assert all(len(rows) >= 2 for rows in twins(u, near))
    noise = np.random.default_rng(0).permutation(90)  # predictions that have nothing to do with u, twice
    double = TrainingSet(u=u, predictions=np.tile(training.predictions[noise], (2, 1)), source=np.zeros(180))
    emulator = OutputsEmulator()
    refused = validate(emulator, emulator.fit(np.random.default_rng(0), double, obs), double, obs)
    assert not refused.passed
    assert refused.q2 < 0.5


# --- acquisition


@pytest.mark.parametrize("emulator", EMULATORS, ids=["outputs", "misfit"])
def test_next_batch_lowers_the_uncertainty_more_than_random_draws(emulator):
    training, obs = smooth_problem()
    rng = np.random.default_rng(6)
    rows = np.r_[0:15, 30:35]  # of 42 runs the sd is that of the nugget, wherever the next ones lie
    few = TrainingSet(
        u=training.u[rows], predictions=training.predictions[rows], source=training.source[rows]
    )
    surrogate = emulator.fit(rng, few, obs)
    near = training.u[nearest_rows(obs.misfit(training.predictions), 3)]
    draws = near.mean(axis=0) + near.std(axis=0) * rng.standard_normal((300, 3))
    batch = next_batch(np.random.default_rng(0), emulator, surrogate, obs, draws, 8)
    np.testing.assert_array_equal(
        batch, next_batch(np.random.default_rng(0), emulator, surrogate, obs, draws, 8)
    )
    assert len(np.unique(batch, axis=0)) == 8
    assert all(np.any(np.all(draws == point, axis=1)) for point in batch)

    log_posterior = emulator.log_likelihood(surrogate, obs)(draws) - 0.5 * np.sum(draws**2, axis=1)
    posterior = np.exp(log_posterior - log_posterior.max())

    def sd_after(points: Array) -> float:
        u = np.vstack([few.u, points])
        latent = np.vstack([surrogate.latent, emulator.predict(surrogate, points)[0]])
        process = processes(replace(surrogate, u=u, latent=latent))
        return float(np.average(emulator.misfit(surrogate, obs, *process(draws))[1], weights=posterior))

    random = [sd_after(draws[rng.choice(300, 8, replace=False)]) for _ in range(10)]
    assert sd_after(batch) < np.median(random)


# --- known posteriors and real data


@pytest.mark.parametrize("emulator", EMULATORS, ids=["outputs", "misfit"])
def test_sinusoid_posterior_by_quadrature(emulator):
    """methods 6E: amplitude 3.002 +- 0.221, shift 7.0536 +- 0.4454, within 0.1 sd and 10 %."""
    spread2 = np.log(1.25)

    def amplitude(u: Array) -> Array:
        return np.exp(np.log(4.0) - 0.5 * spread2 + np.sqrt(spread2) * u)

    def model(u: Array) -> Array:
        return np.stack([2.0 * amplitude(u[:, 0]), 5.0 * u[:, 1]], axis=1)

    rng = np.random.default_rng(5)
    obs = observations(np.array([6.01, 7.11]), np.full(2, np.sqrt(0.2)))
    around = np.array([-0.4, 1.4]) + np.array([0.25, 0.15]) * rng.standard_normal((60, 2))
    u = np.vstack([rng.standard_normal((40, 2)), around])
    training = TrainingSet(u=u, predictions=model(u), source=np.repeat([0, 1], [40, 60]))
    surrogate = emulator.fit(rng, training, obs)
    assert validate(emulator, surrogate, training, obs).passed
    grid = np.stack(np.meshgrid(np.linspace(-3, 3, 121), np.linspace(0, 3, 121), indexing="ij"), -1).reshape(
        -1, 2
    )
    log_posterior = emulator.log_likelihood(surrogate, obs)(grid) - 0.5 * np.sum(grid**2, axis=1)
    weight = np.exp(log_posterior - log_posterior.max())
    for value, mean, sd in ((amplitude(grid[:, 0]), 3.002, 0.221), (5.0 * grid[:, 1], 7.0536, 0.4454)):
        centre = np.average(value, weights=weight)
        assert abs(centre - mean) < 0.1 * sd
        assert np.sqrt(np.average((value - centre) ** 2, weights=weight)) == pytest.approx(sd, rel=0.1)


def ctsm_ensemble(name: str, n_members: int) -> tuple[Array, Array]:
    """Parameters, standardised by the members, and GPP and ET of a year in sd of their noise: all rows."""
    path = CTSM / name
    if "FATESCAL_DATA" not in os.environ:
        pytest.skip("FATESCAL_DATA is not set")
    import xarray as xr

    with xr.open_dataset(path) as data:
        theta = np.stack([data[v].values for v in data.data_vars if str(v).startswith("fates_leaf")], axis=1)
        flux = np.hstack([data["FATES_GPP"].values * 86400e3, data["QFLX_EVAP_TOT"].values * 86400.0])
    members = theta[:n_members]
    return (theta - members.mean(axis=0)) / members.std(axis=0), flux / np.repeat([0.471, 0.163], 365)


@pytest.mark.parametrize(
    ("name", "n_members", "bound"),
    [
        ("clm_fates_hyytiala_2005_ensemble.nc", 16, 0.27),
        ("clm_fates_hyytiala_2005_six_parameters.nc", 28, 0.15),
    ],
)
def test_real_clm_fates_runs_are_predicted_by_a_fit_to_the_others(name, n_members, bound):
    """Root mean square error in sd of the noise of every other run; everything is fitted anew without
    the run.
    """
    u, g = (rows[:n_members] for rows in ctsm_ensemble(name, n_members))
    obs = observations(g.mean(axis=0), np.ones(730))
    emulator, errors = OutputsEmulator(), []
    for i in range(0, n_members, 2):
        rest = np.delete(np.arange(n_members), i)
        surrogate = emulator.fit(
            np.random.default_rng(0),
            TrainingSet(u=u[rest], predictions=g[rest], source=np.zeros(len(rest))),
            obs,
        )
        mean, _ = emulator.predict(surrogate, u[[i]])
        errors.append(surrogate.mean + surrogate.basis @ mean[0] - g[i])
    assert np.sqrt(np.mean(np.square(errors))) < bound


def test_sixteen_real_clm_fates_runs_none_near_the_truth_lead_there():
    """Row 16 is the truth (Vcmax 45, slope 6): the emulator is refused, its posterior tells where to run.

    By quadrature, for three draws of the noise.
    """
    u, g = ctsm_ensemble("clm_fates_hyytiala_2005_ensemble.nc", 16)
    training = TrainingSet(u=u[:16], predictions=g[:16], source=np.zeros(16))
    axis = np.linspace(-2.5, 2.5, 121)
    grid = np.stack(np.meshgrid(axis, axis, indexing="ij"), axis=-1).reshape(-1, 2)
    nearest = np.linalg.norm(u[:16] - u[16], axis=1).min()
    for seed in (1, 2, 3):
        obs = observations(g[16] + np.random.default_rng(seed).standard_normal(730), np.ones(730))
        emulator = OutputsEmulator()
        surrogate = emulator.fit(np.random.default_rng(0), training, obs)
        log_posterior = emulator.log_likelihood(surrogate, obs)(grid) - 0.5 * np.sum(grid**2, axis=1)
        weight = np.exp(log_posterior - log_posterior.max())
        mean = weight @ grid / weight.sum()
        assert np.linalg.norm(u[16] - mean) < 0.5 * nearest
        refused = validate(emulator, surrogate, training, obs)
        assert "runs near the optimum" in refused.verdict
        assert not refused.passed
