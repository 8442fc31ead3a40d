"""How well an ensemble predicts: the family of scores, the scorecard, and the scorecard as text.

A score is a class here and a line in `SCORES`, or a class of another package by an entry point of group
`fatescal.scores`. `run.scores` of the config names those that are wanted; the page explains each by itself.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from operator import attrgetter
from typing import Annotated, Any, ClassVar

import numpy as np

from fatescal.base.errors import BadInput, did_you_mean
from fatescal.base.families import UNUSABLE, family
from fatescal.base.options import BeforeValidator, ValidationInfo, WithJsonSchema
from fatescal.base.types import Array
from fatescal.storage.records import Observations, Scorecard

LEVEL = 0.9  # of the central predictive interval whose coverage is scored
MOST_LAGS = 128  # members apart whose differences stand for those of all pairs: exact up to 257 members


class Score(ABC):
    """A number that says how well an ensemble predicts one variable in one period.

    Attributes
    ----------
    kind : str
        Its name in config, scorecard and tables.
    title : str
        Its name on the page, '' where that is `kind`.
    unit : str
        "" where it has that of the variable, "1" where it has none.
    best : float
        Its value for a perfect prediction.
    signed : bool
        Whether it may be next to nothing on either side, so that the RMSE says which digits of it count.
    description : str
        What it is, for the page: the middle of a sentence.
    """

    kind: ClassVar[str]
    title: ClassVar[str] = ""
    unit: ClassVar[str] = ""
    best: ClassVar[float] = 0.0
    signed: ClassVar[bool] = False
    description: ClassVar[str] = ""

    @abstractmethod
    def value(self, y: Array, ensemble: Array, sd: Array) -> float:
        """Return the score.

        Parameters
        ----------
        y : (D,) array
            Observations.
        ensemble : (J, D) array
            What the members predict, all finite; of a single run J is 1.
        sd : (D,) array
            Error sd of the observations.
        """

    def penalty(self, value: float) -> float:
        """Return what is to be small, of a score's value."""
        return abs(value - self.best)


class RMSE(Score):
    """Root mean square difference of observations and ensemble mean."""

    kind = "rmse"
    title = "RMSE"
    description = "root mean square difference of the ensemble mean"

    def value(self, y: Array, ensemble: Array, sd: Array) -> float:
        return float(np.sqrt(np.mean((y - ensemble.mean(axis=0)) ** 2)))


class Bias(Score):
    """Mean of modelled minus observed.

    >>> Bias().value(np.array([1.0, 2.0]), np.array([[0.0, 2.0]]), np.ones(2))
    -0.5
    """

    kind = "bias"
    title = "bias"
    signed = True
    description = "mean difference of the ensemble mean, modelled minus observed"

    def value(self, y: Array, ensemble: Array, sd: Array) -> float:
        return float(np.mean(ensemble.mean(axis=0) - y))


class R2(Score):
    """Squared Pearson correlation: what is left when bias and amplitude are forgiven.

    NaN where one of the two is constant. Not 1 - SSE/SST, which would repeat what RMSE says.
    """

    kind = "r2"
    title = "r²"
    unit = "1"
    best = 1.0
    description = "squared correlation of the ensemble mean"

    def value(self, y: Array, ensemble: Array, sd: Array) -> float:
        g = ensemble.mean(axis=0)
        if np.ptp(y) == 0 or np.ptp(g) == 0:
            return np.nan
        y, g = y - np.mean(y), g - np.mean(g)
        return float(y @ g) ** 2 / (float(y @ y) * float(g @ g))


class CRPS(Score):
    """Mean continuous ranked probability score of what could have been measured.

    The predictive distribution is that of `Coverage`: the members with the error sd of the observations. With
    A(m, s) = E|N(m, s^2)| the score is mean_j A(y - g_j, sd) less half the mean of A(g_j - g_k, sqrt(2) sd)
    over pairs of different members. Different, so that its expectation is the score of the distribution the
    members are drawn from, and ensembles of different sizes compare; the pairs of members `MOST_LAGS` places
    apart and nearer stand for all. A single run is a normal distribution about it.

    References
    ----------
    Grimit et al. (2006) doi:10.1256/qj.05.235, equation 5; Ferro (2014) doi:10.1002/qj.2270.

    >>> error = np.array([1e-9])
    >>> round(CRPS().value(np.array([0.0]), np.array([[-1.0], [1.0]]), error), 6)
    0.0
    >>> round(CRPS().value(np.array([0.7]), np.array([[0.0]]), np.array([1.0])), 4)  # of N(0, 1)
    0.4216
    """

    kind = "crps"
    title = "CRPS"
    description = "error of the predictive distribution (ensemble and observation error)"

    def value(self, y: Array, ensemble: Array, sd: Array) -> float:
        error = _mean_distance(y - ensemble, sd).mean(axis=0)
        n, wider = len(ensemble), np.sqrt(2.0) * sd
        if n == 1:
            return float(np.mean(error - 0.5 * _mean_distance(0.0 * y, wider)))
        lags = range(1, min(n // 2, MOST_LAGS) + 1)
        apart = [
            _mean_distance(ensemble - np.roll(ensemble, lag, axis=0), wider).mean(axis=0) for lag in lags
        ]
        weights = [0.5 if 2 * lag == n else 1.0 for lag in lags]  # the half-way lag meets pairs twice
        return float(np.mean(error - 0.5 * np.average(apart, axis=0, weights=weights)))

    def penalty(self, value: float) -> float:
        """Return the score itself: the estimate of a small one may fall below 0."""
        return value


def _mean_distance(m: Array, s: Array) -> Array:
    """Return E|X| of X ~ N(m, s^2)."""
    from scipy.special import erf

    z = m / (np.sqrt(2.0) * s)
    return m * erf(z) + s * np.sqrt(2.0 / np.pi) * np.exp(-(z**2))


class Coverage(Score):
    """Share of the observations within the central `level` interval of what could have been measured.

    The predictive distribution is the equal mixture of N(g_j, sd^2) over the members g_j, with the error sd
    of the observations. Its distribution function at y tells whether y lies between the quantiles, without
    computing them.
    """

    kind = "coverage"
    title = "coverage"
    unit = "1"
    best = LEVEL
    description = (
        f"share of observations inside the central {100 * LEVEL:.0f} % interval of prediction plus "
        "observation error"
    )

    def __init__(self, level: float = LEVEL) -> None:
        self.level = level

    def value(self, y: Array, ensemble: Array, sd: Array) -> float:
        from scipy.special import ndtr

        probability = ndtr((y - ensemble) / sd).mean(axis=0)
        return float(np.mean(np.abs(probability - 0.5) <= self.level / 2))


OWN = (RMSE, Bias, R2, CRPS, Coverage)
SCORES: dict[str, type[Score]] = family(Score, OWN, "fatescal.scores", attrgetter("kind"))  # type: ignore[type-abstract]
USUAL = tuple(score.kind for score in OWN)


def _known(name: Any, info: ValidationInfo) -> Any:
    """Refuse a name that no score has, but in the snapshot of a run: its folder is read also where the
    package of a score is not.
    """
    if info.context is not None and info.context.get("snapshot"):
        return name
    if not isinstance(name, str) or name not in SCORES:
        near = did_you_mean(name, SCORES) or f"known are {', '.join(SCORES)}"
        raise ValueError(f"unknown score {name!r}; {UNUSABLE.get(str(name)) or near}")
    return name


ScoreName = Annotated[str, BeforeValidator(_known), WithJsonSchema({"enum": list(SCORES), "type": "string"})]


def score_table(
    observations: Observations, ensembles: Mapping[str, Array], wanted: Sequence[str] = USUAL
) -> Scorecard:
    """Return the wanted scores of each ensemble, for each variable and period.

    Parameters
    ----------
    observations : Observations
    ensembles : mapping of str to array
        Predictions (J, D) of the successful members, or (D) of a single run, by name. NaN in a prediction
        gives NaN scores for its variable and period.
    wanted : sequence of str
        Names of scores (`SCORES`).
    """
    scores = {name: SCORES[name]() for name in wanted}
    rows: list[tuple[str, str, str, str, float]] = []
    for variable in dict.fromkeys(observations.variable.tolist()):
        for period in dict.fromkeys(observations.period.tolist()):
            here = (observations.variable == variable) & (observations.period == period)
            if not here.any():
                continue
            for name, predictions in ensembles.items():
                ensemble = np.atleast_2d(predictions)[:, here]
                whole = np.isfinite(ensemble).all()
                for kind, score in scores.items():
                    value = (
                        score.value(observations.y[here], ensemble, observations.sd[here])
                        if whole
                        else np.nan
                    )
                    rows.append((variable, period, name, kind, value))
    fields = zip(*rows, strict=True)
    return Scorecard(*(np.array(field) for field in fields))


def over_folds(cards: Sequence[Scorecard]) -> tuple[Scorecard, Array]:
    """Return the mean scorecard of the folds of a cross-validation, and the sd (I) of each score between
    them.

    Only scores that every fold has.

    Raises
    ------
    BadInput
        If they have none in common.
    """

    def keyed(card: Scorecard) -> dict[tuple[str, ...], float]:
        keys = zip(card.variable, card.period, card.ensemble, card.score, strict=True)
        return dict(zip(keys, card.value.tolist(), strict=True))

    folds = [keyed(card) for card in cards]
    common = [key for key in folds[0] if all(key in fold for fold in folds)]
    if not common:
        raise BadInput(
            "the folds have no score in common",
            got="; ".join(", ".join(dict.fromkeys(card.score.tolist())) for card in cards),
            hint="run them with the same run.scores",
        )
    values = np.array([[fold[key] for key in common] for fold in folds])
    variable, period, ensemble, score = (np.array(part) for part in zip(*common, strict=True))
    sd = values.std(axis=0, ddof=1) if len(folds) > 1 else np.full(len(common), np.nan)
    return Scorecard(variable, period, ensemble, score, values.mean(axis=0)), sd


def units_of(scorecard: Scorecard, units: Mapping[str, str]) -> list[str]:
    """Return the unit of each row of a scorecard, given that of each variable; '' where it is not known."""
    kinds = {name: score.unit for name, score in SCORES.items()}
    pairs = zip(scorecard.variable.tolist(), scorecard.score.tolist(), strict=True)
    return [kinds.get(score, "") or units.get(variable, "") for variable, score in pairs]


def render(scorecard: Scorecard, units: Mapping[str, str]) -> str:
    """Return the scorecard as a table for the terminal, one block per variable and period.

    Parameters
    ----------
    scorecard : Scorecard
    units : mapping of str to str
        The unit of each variable, which its block names.
    """
    scores = list(dict.fromkeys(scorecard.score.tolist()))
    names = list(dict.fromkeys(scorecard.ensemble.tolist()))
    keys = zip(scorecard.variable, scorecard.period, scorecard.ensemble, scorecard.score, strict=True)
    values = dict(zip(keys, scorecard.value.tolist(), strict=True))
    blocks = dict.fromkeys(zip(scorecard.variable, scorecard.period, strict=True))
    rooms = [max(10, len(score) + 2) for score in scores]
    titles = {(v, p): f"{v}{f' [{units[v]}]' if v in units else ''}, {p}" for v, p in blocks}
    width = 2 + max(len(text) for text in [*names, *titles.values()])
    lines = []
    for variable, period in blocks:
        head = "".join(f"{score:>{room}}" for score, room in zip(scores, rooms, strict=True))
        lines.append(f"{titles[variable, period]:<{width}}{head}")
        for name in names:
            row = [values.get((variable, period, name, score), np.nan) for score in scores]
            cells = "".join(f"{_shown(value):>{room}}" for value, room in zip(row, rooms, strict=True))
            lines.append(f"{'  ' + name:<{width}}{cells}")
    return "\n".join(lines)


def _shown(value: float) -> str:
    return f"{value:.3f}" if np.isfinite(value) else "-"
