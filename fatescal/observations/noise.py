"""The error of an observed window, put together from its parts, and what of it a misfit can tell."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

import numpy as np
from pydantic import BeforeValidator, Field, model_validator

from fatescal.base.options import Positive, Section
from fatescal.base.types import Array
from fatescal.storage.records import Observations


class QuantileRule(Section):
    """Random error of one measurement as a `share` of the mean over years of the annual `quantile`.

    Keetz et al. (2025) take 0.15 of the 99 % quantile of the half-hourly flux.
    """

    share: Positive = 0.15
    """Error of one measurement, as a share of the quantile."""
    quantile: Annotated[float, Field(gt=0, lt=1)] = 0.99
    """Quantile of the measurements of a year, from 0 to 1."""

    def random(self, values: Array, years: Array) -> float:
        """Return the error sd of one of `values` (N, NaN where missing), measured in `years` (N).

        Years with less than half as many values as the fullest one are left out: of a winter alone, the
        quantile would be no annual one.

        >>> years = np.repeat([2004, 2005], 101)
        >>> QuantileRule(share=0.1, quantile=0.5).random(np.r_[0:101, 100:201].astype(float), years)
        10.0
        """
        valid = np.isfinite(values)
        present, counts = np.unique(years[valid], return_counts=True)
        whole = present[2 * counts >= counts.max()]
        quantiles = [np.quantile(values[valid & (years == year)], self.quantile) for year in whole]
        return float(self.share * np.mean(quantiles))


class Measured(Section):
    """The column with the uncertainty (1 sd) of each measurement, in `unit` where no file tells it."""

    column: str
    """Column of the uncertainties."""
    unit: str | None = None
    """Unit of the column; without it that of the file, else that of the variable's column."""


def _as_column(value: object) -> object:
    """The name of a column alone as a section with it."""
    return {"column": value} if isinstance(value, str) else value


class ErrorModel(Section):
    """Error of one window's value, in the variable's unit: a single `sd`, or parts.

    Of a value d, the mean of n valid measurements, sigma^2 = sd^2 + random^2 / n + measured^2 + systematic^2
    + (relative d)^2 + discrepancy^2; windows of one variable correlate with `ar1`^lag, the lag counted in
    windows.
    """

    sd: Positive | None = None
    """Error of a window, however many measurements it holds."""
    random: Annotated[Positive | QuantileRule, Field(union_mode="left_to_right")] | None = None
    """Independent error of a single measurement, or the rule that it follows from."""
    systematic: Positive | None = None
    """Error that averaging does not reduce."""
    relative: Positive | None = None
    """Error as a share of the observed value; one in proportion to the value favours low predictions."""
    discrepancy: Positive | Literal["estimate"] | None = None
    """What the model cannot fit with any parameters; `estimate`: from the best fit."""
    ar1: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Correlation of the errors of neighbouring windows."""
    measured: (
        Annotated[Measured, BeforeValidator(_as_column, json_schema_input_type=str | Measured)] | None
    ) = None
    """Column with the uncertainty (1 sd) of each measurement, independent of each other."""

    @model_validator(mode="after")
    def _of_parts(self) -> ErrorModel:
        if self.sd is not None and (self.random is not None or self.systematic is not None):
            raise ValueError("give either `sd`, the error of a window, or `random` and `systematic`")
        if self.measured is not None and (self.sd is not None or self.random is not None):
            raise ValueError("`measured` is the random error of each measurement: leave `sd`, `random` out")
        if not any((self.sd, self.random, self.systematic, self.relative, self.measured)):
            raise ValueError("give `sd`, or parts of it: `random`, `measured`, `systematic`, `relative`")
        return self

    @property
    def estimate(self) -> bool:
        """Whether the discrepancy is estimated from the best fit (`discrepancies`)."""
        return self.discrepancy == "estimate"

    @property
    def rule(self) -> QuantileRule | None:
        """The rule that the random error follows from, None where it is a number or there is none."""
        return self.random if isinstance(self.random, QuantileRule) else None

    def with_random(self, sd: float) -> ErrorModel:
        """Return the same with a random error of `sd` instead of its rule."""
        return self.model_copy(update={"random": sd})

    def with_units(self, units: Mapping[str, str], column: str) -> ErrorModel:
        """Return the same with the unit of its uncertainties, by the units that a file names.

        Where the file has one unit for them and the variable's `column`, that of the variable counts, which
        the config may correct.
        """
        if self.measured is None or self.measured.unit is not None:
            return self
        unit = units.get(self.measured.column)
        if unit == units.get(column):
            return self
        return self.model_copy(update={"measured": self.measured.model_copy(update={"unit": unit})})

    def noise(self, values: Array, n_valid: Array, measured: Array | float = 0.0) -> Array:
        """Return the error sd (D) of windows with `values` (D), means of `n_valid` (D) measurements each.

        `measured` (D) is the sd of each mean by the uncertainties of its measurements (`sd_of_mean`).

        >>> ErrorModel(random=3.0, systematic=4.0).noise(np.zeros(2), np.array([1, 9])).round(4).tolist()
        [5.0, 4.1231]
        """
        assert self.rule is None, "a rule becomes a number where the series is read"
        random = (self.random or 0.0) / np.sqrt(np.maximum(n_valid, 1.0))
        relative = (self.relative or 0.0) * np.abs(values)
        discrepancy = self.discrepancy if isinstance(self.discrepancy, float) else 0.0
        total = np.full(np.shape(values), self.sd or 0.0)
        for part in (random, measured, self.systematic or 0.0, relative, discrepancy):
            total = np.hypot(total, part)  # hypot(x, 0) is x to the last bit
        return total


def sd_of_mean(variance: Array, weight: Array) -> Array:
    """Return the sd (D) of weighted means of independent measurements: sqrt(sum w^2 sigma^2) / sum w.

    Parameters
    ----------
    variance : array (D)
        Sums of w^2 sigma^2 over the valid measurements of each window.
    weight : array (D)
        Sums of w over the same; 0 where a window has none, whose sd is 0.

    >>> sd_of_mean(np.array([4 * 0.6**2, 0.0]), np.array([4.0, 0.0])).tolist()  # of four with 0.6
    [0.3, 0.0]
    """
    return np.sqrt(variance) / np.where(weight > 0, weight, 1.0)


def discrepancies(
    observations: Observations, predictions: Array, variables: list[str]
) -> tuple[int, dict[str, float]]:
    """Return the best of the runs and the discrepancy of each of `variables` that makes its chi2 / D one.

    Parameters
    ----------
    observations : Observations
        The calibration period, with all errors but the discrepancies.
    predictions : (N, D) array
        All successful runs so far.

    Notes
    -----
    Which run is best depends on the weights of the variables, which depend on the run. The pair of run and
    discrepancies with the largest likelihood resolves it: with every estimated chi2 at D that is the run of
    the least sum of log sigma, plus half the chi2 of the variables that are not estimated. D isn't reduced by
    the number of parameters, a few among thousands. Zero where measurement error explains the misfit.
    """
    rows = {v: observations.variable == v for v in dict.fromkeys(observations.variable.tolist())}
    parts = {v: observations.select(mask) for v, mask in rows.items()}
    costs, estimates_of_runs = np.zeros(len(predictions)), []
    for run, prediction in enumerate(predictions):
        estimates = {v: _discrepancy(parts[v], prediction[rows[v]]) for v in variables}
        for variable, part in parts.items():
            widened = part.widened(estimates)
            costs[run] += np.log(widened.sd).sum() + widened.misfit(prediction[None, rows[variable]])[0]
        estimates_of_runs.append(estimates)
    best = int(np.argmin(costs))
    return best, estimates_of_runs[best]


def _discrepancy(part: Observations, prediction: Array) -> float:
    """The sd that, added to one variable's errors, brings 2 Phi / D of a prediction to one."""
    name = str(part.variable[0])

    def excess(sd: float) -> float:
        return 2.0 * float(part.widened({name: sd}).misfit(prediction[None])[0]) / len(part) - 1.0

    if excess(0.0) <= 0.0:
        return 0.0
    from scipy.optimize import brentq

    high = float(np.abs(part.y - prediction).max())
    while excess(high) > 0.0:
        high *= 2.0
    return float(brentq(excess, 0.0, high, xtol=1e-12 * high, rtol=1e-12))
