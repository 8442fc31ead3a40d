"""Screening by elementary effects: which of many parameters matter, from few runs.

Morris (1991, doi:10.1080/00401706.1991.10484804), with the mean of the absolute effects of Campolongo et al.
(2007, doi:10.1016/j.envsoft.2006.10.004).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fatescal.base.types import Array

LEVELS = 4  # of each parameter: the middles of as many equal parts of its prior
STEP = LEVELS // 2  # levels that a parameter moves by: half of the prior
MOST_RUNS = 120  # of the usual design
MOST_PATHS = 10


@dataclass(frozen=True)
class ElementaryEffects:
    """What moving one parameter across half of its prior does to one output.

    Attributes
    ----------
    mean : (P) array
        Of the absolute effects, in the unit of the output: how much the parameter matters.
    sd : (P) array
        Of the signed effects: large where it interacts with others or acts in a curve; NaN of one effect.
    error : (P) array
        Standard error of `mean`; NaN of one effect.
    n : (P) array
        Effects that both runs of the pair survived for.
    """

    mean: Array
    sd: Array
    error: Array
    n: Array


def usual_paths(n_parameters: int) -> int:
    """Return how many paths of P + 1 runs a screening takes: at most 120 runs, from 2 to 10 paths.

    >>> usual_paths(56), usual_paths(6), usual_paths(200)
    (2, 10, 2)
    """
    return int(np.clip(MOST_RUNS // (n_parameters + 1), 2, MOST_PATHS))


def design(rng: np.random.Generator, n_parameters: int, n_paths: int) -> Array:
    """Return paths (n_paths, P + 1, P) in the unit cube; on each, every parameter moves once.

    The order of the parameters and the directions are drawn; levels are the middles of `LEVELS` parts.
    """
    paths = np.empty((n_paths, n_parameters + 1, n_parameters))
    for path in paths:
        level = rng.integers(0, LEVELS, n_parameters)
        path[0] = level
        for k, p in enumerate(rng.permutation(n_parameters), start=1):
            path[k] = path[k - 1]
            path[k, p] += STEP if level[p] < STEP else -STEP
    return (paths + 0.5) / LEVELS


def effects(paths: Array, values: Array) -> ElementaryEffects:
    """Return the effects of each parameter on an output.

    Parameters
    ----------
    paths : (R, P + 1, P) array
        Of `design`.
    values : (R, P + 1) array
        The output at each point; NaN where the run failed.
    """
    n_paths, _, n_parameters = paths.shape
    signed = np.full((n_paths, n_parameters), np.nan)
    for r, path in enumerate(paths):
        moved = np.diff(path, axis=0)
        which = np.argmax(np.abs(moved), axis=1)
        signed[r, which] = np.diff(values[r]) * np.sign(moved[np.arange(n_parameters), which])
    n = np.isfinite(signed).sum(axis=0)
    return ElementaryEffects(
        mean=_over(np.abs(signed), np.mean, n >= 1),
        sd=_over(signed, lambda x: np.std(x, ddof=1), n >= 2),
        error=_over(np.abs(signed), lambda x: np.std(x, ddof=1) / np.sqrt(len(x)), n >= 2),
        n=n,
    )


def _over(signed: Array, measure, enough: Array) -> Array:
    """Return a measure of each column's finite values, NaN of too few."""
    columns = (column[np.isfinite(column)] for column in signed.T)
    return np.array([measure(c) if ok else np.nan for c, ok in zip(columns, enough, strict=True)])
