"""Predictions of runs that a fit has not seen: what forms are weighed and variances calibrated by."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np

from fatescal.base.types import Array, Map
from fatescal.emulate.fit import refit
from fatescal.emulate.gaussian_process import Fitted, Process
from fatescal.emulate.kernels import GPSpec

SHRINKAGE = 4.0  # hold-out predictions that the mean over all outputs is worth
FOLDS = 4  # fits anew, each without a quarter of the runs


def best_form(
    fitted: Sequence[Fitted], u: Array, outputs: Array, forms: Sequence[GPSpec], rows: Array
) -> int:
    """Return the number of the form by which `rows` of `outputs` (N, K), each predicted by all others, are
    missed least."""
    errors = []
    for one, form in zip(fitted, forms, strict=True):
        mean, _ = Process.condition(one, u, outputs, form).hold_out(outputs, list(rows[:, None]))
        errors.append(np.sum((outputs[rows] - mean) ** 2))
    return int(np.argmin(errors))


def refitted_hold_out(
    fitted: Sequence[Fitted],
    u: Array,
    outputs: Array,
    forms: Sequence[GPSpec],
    own: Array,
    groups: list[Array],
    map: Map,
) -> Array:
    """Return what `hold_out` returns, (F, 2, G, K), for each form; a task of `map` for each form and fold.

    A fold's groups are predicted with hyperparameters fitted anew without all of their rows. Each search
    starts at what was found with all runs.
    """
    folds = [np.arange(start, len(groups), FOLDS) for start in range(min(FOLDS, len(groups)))]
    tasks = [(one, form, fold) for one, form in zip(fitted, forms, strict=True) for fold in folds]
    found = map(partial(_refitted, u, outputs, own, groups), tasks)
    held_out = np.empty((len(forms), 2, len(groups), outputs.shape[1]))
    for i, predicted in enumerate(found):
        held_out[i // len(folds)][:, folds[i % len(folds)]] = predicted
    return held_out


def _refitted(
    u: Array, outputs: Array, own: Array, groups: list[Array], task: tuple[Fitted, GPSpec, Array]
) -> Array:
    fitted, form, fold = task
    left_out = [groups[g] for g in fold]
    rest = np.setdiff1d(np.arange(len(u)), np.concatenate(left_out))
    if 2 * len(rest) >= len(u):  # else nearly all runs are twins, and there is nothing to learn without them
        fitted = refit(fitted, u, outputs, form, own, rest)
    return np.array(Process.condition(fitted, u, outputs, form).hold_out(outputs, left_out))


def shares(truth: Array, held_out: Array) -> Array:
    """Return the weights (F) of forms whose hold-out predictions are `held_out` (F, G, K), sum 1.

    They fall with the square of the mean square error. Between equal weights (Bates & Granger's inverse,
    1969, is near them) and a choice of the best: a choice among few runs learns their noise, and a form that
    fits (a trend where the model is linear) must win all the same. Less than 0.01 is left out.

    >>> shares(np.zeros((2, 1)), np.array([[[1.0], [1.0]], [[2.0], [2.0]]])).round(3).tolist()
    [0.941, 0.059]
    """
    error = np.mean((held_out - truth) ** 2, axis=(1, 2)) + np.finfo(float).tiny
    share = (error / error.min()) ** -2.0
    share = np.where(share < 0.01 * share.sum(), 0.0, share)
    return share / share.sum()


def calibration(truth: Array, mean: Array, variance: Array) -> Array:
    """Return factors (K) by which variances must rise to fit the errors of hold-out predictions.

    The factor of each output makes the mean squared standardised error 1 (Rasmussen & Williams 2006, section
    5.4.2), with the mean over all outputs counting as much as `SHRINKAGE` predictions of its own. The
    likelihood's own scale is an average over all runs; far from the optimum a model is rougher, so that it is
    too large where it matters; and it takes the length scales for known, so that of few runs it is too small.

    Parameters
    ----------
    truth, mean, variance : (G, K) arrays
        Outputs and what was predicted for them.
    """
    z2 = (truth - mean) ** 2 / variance
    scale = (SHRINKAGE * z2.mean() + z2.sum(axis=0)) / (SHRINKAGE + len(z2))
    return np.maximum(scale, np.finfo(float).eps)


def explained(truth: Array, predicted: Array) -> Array:
    """Return Q^2 = 1 - sum (truth - predicted)^2 / sum (truth - its mean)^2 of each column.

    >>> float(explained(np.array([1.0, 2.0, 3.0]), np.array([1.0, 2.0, 4.0])))
    0.5
    """
    spread = np.sum((truth - truth.mean(axis=0)) ** 2, axis=0)
    return 1.0 - np.sum((truth - predicted) ** 2, axis=0) / spread
