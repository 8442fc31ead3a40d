"""How well an ensemble predicts: the scores of the scorecard, and the scorecard as text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from fatescal.base.types import Array
from fatescal.storage.records import Observations, Scorecard

LEVEL = 0.9  # of the central predictive interval whose coverage is scored
MOST_LAGS = 128  # members apart whose differences stand for those of all pairs: exact up to 257 members


def rmse(y: Array, g: Array) -> float:
    """Return the root mean square difference of `y` (D) and `g` (D)."""
    return float(np.sqrt(np.mean((y - g) ** 2)))


def bias(y: Array, g: Array) -> float:
    """Return the mean of modelled minus observed.

    >>> bias(np.array([1.0, 2.0]), np.array([0.0, 2.0]))
    -0.5
    """
    return float(np.mean(g - y))


def r2(y: Array, g: Array) -> float:
    """Return the squared Pearson correlation: what is left when bias and amplitude are forgiven.

    NaN where one of the two is constant. Not 1 - SSE/SST, which would repeat what rmse says.
    """
    if np.ptp(y) == 0 or np.ptp(g) == 0:
        return np.nan
    y, g = y - np.mean(y), g - np.mean(g)
    return float(y @ g) ** 2 / (float(y @ y) * float(g @ g))


def crps(y: Array, ensemble: Array, sd: Array) -> float:
    """Return the mean continuous ranked probability score of what could have been measured, in the unit of
    `y`.

    The predictive distribution is that of `coverage`: the members of `ensemble` (J, D) with the error sd (D)
    of the observations `y` (D). With A(m, s) = E|N(m, s^2)| the score is mean_j A(y - g_j, sd) less half the
    mean of A(g_j - g_k, sqrt(2) sd) over pairs of different members. Different, so that its expectation is
    the score of the distribution the members are drawn from, and ensembles of different sizes compare; the
    pairs of members `MOST_LAGS` places apart and nearer stand for all. A single run is a normal distribution
    about it.

    References
    ----------
    Grimit et al. (2006) doi:10.1256/qj.05.235, equation 5; Ferro (2014) doi:10.1002/qj.2270.

    >>> error = np.array([1e-9])
    >>> round(crps(np.array([0.0]), np.array([[-1.0], [1.0]]), error), 6)
    0.0
    >>> round(crps(np.array([0.7]), np.array([[0.0]]), np.array([1.0])), 4)  # of N(0, 1)
    0.4216
    """
    error = _mean_distance(y - ensemble, sd).mean(axis=0)
    wider = np.sqrt(2.0) * sd
    if len(ensemble) == 1:
        return float(np.mean(error - 0.5 * _mean_distance(0.0 * y, wider)))
    lags = range(1, min(len(ensemble) // 2, MOST_LAGS) + 1)
    apart = [_mean_distance(ensemble - np.roll(ensemble, lag, axis=0), wider).mean(axis=0) for lag in lags]
    weights = [0.5 if 2 * lag == len(ensemble) else 1.0 for lag in lags]  # the half-way lag meets pairs twice
    return float(np.mean(error - 0.5 * np.average(apart, axis=0, weights=weights)))


def _mean_distance(m: Array, s: Array) -> Array:
    """Return E|X| of X ~ N(m, s^2)."""
    from scipy.special import erf

    z = m / (np.sqrt(2.0) * s)
    return m * erf(z) + s * np.sqrt(2.0 / np.pi) * np.exp(-(z**2))


def coverage(y: Array, ensemble: Array, sd: Array, level: float = LEVEL) -> float:
    """Return the share of `y` (D) within the central `level` interval of what could have been measured.

    The predictive distribution is the equal mixture of N(g_j, sd^2) over the members of `ensemble` (J, D),
    with the error sd (D) of the observations. Its distribution function at y tells whether y lies between
    the quantiles, without computing them.
    """
    from scipy.special import ndtr

    probability = ndtr((y - ensemble) / sd).mean(axis=0)
    return float(np.mean(np.abs(probability - 0.5) <= level / 2))


def score_table(observations: Observations, ensembles: Mapping[str, Array]) -> Scorecard:
    """Return all scores of each ensemble, for each variable and period.

    Parameters
    ----------
    observations : Observations
    ensembles : mapping of str to array
        Predictions (J, D) of the successful members, or (D) of a single run, by name. rmse, bias and r2 are
        those of the ensemble mean. NaN in a prediction gives NaN scores for its variable and period.
    """
    rows: list[tuple[str, str, str, str, float]] = []
    for variable in dict.fromkeys(observations.variable.tolist()):
        for period in dict.fromkeys(observations.period.tolist()):
            here = (observations.variable == variable) & (observations.period == period)
            if not here.any():
                continue
            for name, predictions in ensembles.items():
                scores = _scores(
                    observations.y[here], np.atleast_2d(predictions)[:, here], observations.sd[here]
                )
                rows += [(variable, period, name, score, value) for score, value in scores.items()]
    fields = zip(*rows, strict=True)
    return Scorecard(*(np.array(field) for field in fields))


def _scores(y: Array, ensemble: Array, sd: Array) -> dict[str, float]:
    if not np.isfinite(ensemble).all():
        return dict.fromkeys(("rmse", "bias", "r2", "crps", "coverage"), np.nan)
    mean = ensemble.mean(axis=0)
    return {
        "rmse": rmse(y, mean),
        "bias": bias(y, mean),
        "r2": r2(y, mean),
        "crps": crps(y, ensemble, sd),
        "coverage": coverage(y, ensemble, sd),
    }


def over_folds(cards: Sequence[Scorecard]) -> tuple[Scorecard, Array]:
    """Return the mean scorecard of the folds of a cross-validation, and the sd (I) of each score between
    them.

    Only scores that every fold has.
    """

    def keyed(card: Scorecard) -> dict[tuple[str, ...], float]:
        keys = zip(card.variable, card.period, card.ensemble, card.score, strict=True)
        return dict(zip(keys, card.value.tolist(), strict=True))

    folds = [keyed(card) for card in cards]
    common = [key for key in folds[0] if all(key in fold for fold in folds)]
    values = np.array([[fold[key] for key in common] for fold in folds])
    variable, period, ensemble, score = (np.array(part) for part in zip(*common, strict=True))
    sd = values.std(axis=0, ddof=1) if len(folds) > 1 else np.full(len(common), np.nan)
    return Scorecard(variable, period, ensemble, score, values.mean(axis=0)), sd


def render(scorecard: Scorecard) -> str:
    """Return the scorecard as a table for the terminal, one block per variable and period."""
    scores = list(dict.fromkeys(scorecard.score.tolist()))
    names = list(dict.fromkeys(scorecard.ensemble.tolist()))
    keys = zip(scorecard.variable, scorecard.period, scorecard.ensemble, scorecard.score, strict=True)
    values = dict(zip(keys, scorecard.value.tolist(), strict=True))
    blocks = dict.fromkeys(zip(scorecard.variable, scorecard.period, strict=True))
    width = 2 + max(len(text) for text in [*names, *(f"{v}, {p}" for v, p in blocks)])
    lines = []
    for variable, period in blocks:
        lines.append(f"{f'{variable}, {period}':<{width}}" + "".join(f"{score:>10}" for score in scores))
        for name in names:
            row = [values.get((variable, period, name, score), np.nan) for score in scores]
            lines.append(f"{'  ' + name:<{width}}" + "".join(f"{_shown(value):>10}" for value in row))
    return "\n".join(lines)


def _shown(value: float) -> str:
    return f"{value:.3f}" if np.isfinite(value) else "-"
