"""What is left between data and prediction: does it look like the error that was assumed?

Three claims of an error model can fail while the mean misfit is right: that neighbouring windows err
independently (or by its `ar1`), that the errors have its shape and size, and that they do so in every season
and at every hour.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fatescal.base.types import Array
from fatescal.diagnostics.scores import LEVEL
from fatescal.storage.records import Observations

MOST_LAGS = 30
LEAST_PAIRS = 10  # of windows a lag apart, below which a correlation says nothing
BEYOND = 0.2  # of the assumed correlation, from which that of neighbouring residuals counts ...
SURE = 4.0  # ... where it is also so many standard errors
SEASONS = ("Dec-Feb", "Mar-May", "Jun-Aug", "Sep-Nov")
DAY = 86400.0  # s


@dataclass(frozen=True)
class Residuals:
    """The residuals of one variable in one period, in order of time.

    Attributes
    ----------
    time : (M,)
        Begin of each window.
    position : (M,)
        Number of each window from the first one on, gaps counted.
    y, mean, sd : (M,)
        Observations, ensemble mean and assumed error sd.
    pit : (M,)
        Probability of less than was observed, by the ensemble with observation error: uniform where both
        are right.
    rho : float
        Assumed correlation of neighbouring windows.
    """

    time: Array
    position: Array
    y: Array
    mean: Array
    sd: Array
    pit: Array
    rho: float
    sub_daily: bool

    @property
    def z(self) -> Array:
        """Modelled minus observed (M), in units of the assumed error."""
        return (self.mean - self.y) / self.sd

    @property
    def inside(self) -> Array:
        """Whether each observation (M) lies in the central range of probability `LEVEL`."""
        return np.abs(self.pit - 0.5) <= LEVEL / 2


@dataclass(frozen=True)
class Autocorrelation:
    """Correlation (L) of the residuals of windows some lags apart, beside what the error model assumes."""

    lag: Array
    pairs: Array
    found: Array
    assumed: Array
    standard_error: Array  # of `found`, were the error model right

    @property
    def beyond(self) -> bool:
        """Whether neighbours are far more alike than the error model has it."""
        if not len(self.lag) or self.lag[0] != 1:
            return False
        excess = self.found[0] - self.assumed[0]
        return bool(excess > max(BEYOND, SURE * self.standard_error[0]))

    @property
    def memory(self) -> float:
        """How many windows tell as much as one independent one of what is slow in time.

        1 + 2 sum of the correlations, up to the first lag without any.
        """
        end = int(np.argmax(self.found <= 0)) if (self.found <= 0).any() else len(self.found)
        return float(1 + 2 * self.found[:end].sum())

    @property
    def overcounted(self) -> float:
        """How many times more independent data the error model sees than there are, for what is slow."""
        rho = float(self.assumed[0]) if len(self.assumed) else 0.0
        return self.memory * (1 - rho) / (1 + rho)

    @property
    def ar1(self) -> float:
        """The correlation of neighbours of an AR(1) process of this memory, which does not overcount."""
        return max((self.memory - 1) / (self.memory + 1), 0.0)


@dataclass(frozen=True)
class Share:
    """How well the windows of one season, or hour, are predicted."""

    name: str
    n: int
    bias: float
    rmse: float
    chi2: float
    coverage: float


def residuals(observations: Observations, predictions: Array) -> Residuals:
    """Return the residuals of the observations of one variable and period.

    Parameters
    ----------
    observations : Observations
        (M) of one variable, at least one.
    predictions : (J, M)
        Of the members.
    """
    from scipy.special import ndtr

    order = np.argsort(observations.start, kind="stable")
    obs, g = observations.select(order), predictions[:, order]
    window = np.median((obs.end - obs.start).astype(float))
    between = np.maximum(np.rint(np.diff(obs.start).astype(float) / window), 1)  # months differ in length
    rho = obs.correlation["rho"] if obs.correlation else np.zeros(1)
    return Residuals(
        time=obs.start,
        position=np.append(0, np.cumsum(between)).astype(int),
        y=obs.y,
        mean=g.mean(axis=0),
        sd=obs.sd,
        pit=ndtr((obs.y - g) / obs.sd).mean(axis=0),
        rho=float(rho[0]),
        sub_daily=bool(window < DAY),
    )


def autocorrelation(of: Residuals) -> Autocorrelation:
    """Return the correlation of residuals 1, 2 ... windows apart, across gaps by their true distance.

    The standard error is Bartlett's for an AR(1) process.

    References
    ----------
    Brockwell & Davis (1991), Time Series, equation 7.2.7.

    >>> import datetime
    >>> z = np.random.default_rng(0).standard_normal(4000)
    >>> time = np.arange(4000).astype("datetime64[D]")
    >>> of = Residuals(time, np.arange(4000), 0 * z, z, 0 * z + 1, z, 0.0, False)
    >>> found = autocorrelation(of)
    >>> bool(np.abs(found.found).max() < 4 * found.standard_error.max()), found.beyond
    (True, False)
    """
    whole = np.full(of.position[-1] + 1, np.nan)
    whole[of.position] = of.z - of.z.mean()
    variance = np.nanmean(whole**2)
    rows: list[tuple[float, ...]] = []
    for lag in range(1, min(MOST_LAGS, len(whole) - 1) + 1):
        products = whole[lag:] * whole[:-lag]
        n_pairs = int(np.isfinite(products).sum())
        if n_pairs < LEAST_PAIRS or not variance > 0:
            continue
        r2 = of.rho**2
        wide = (1 + r2) * (1 - r2**lag) / (1 - r2) - 2 * lag * r2**lag
        rows.append((lag, n_pairs, np.nanmean(products) / variance, of.rho**lag, np.sqrt(wide / n_pairs)))
    lags, pairs, found, assumed, error = np.array(rows, float).reshape(-1, 5).T
    return Autocorrelation(lags.astype(int), pairs.astype(int), found, assumed, error)


def by_season(of: Residuals) -> list[Share]:
    """Return bias, RMSE, reduced chi-squared and coverage of each season that has observations."""
    month = of.time.astype("datetime64[M]").astype(int) % 12
    return _shares(of, (month + 1) % 12 // 3, SEASONS)


def by_hour(of: Residuals) -> list[Share]:
    """Return the same for each hour in which windows begin; nothing where windows are days or longer."""
    if not of.sub_daily:
        return []
    hour = (of.time - of.time.astype("datetime64[D]")).astype("timedelta64[h]").astype(int)  # of the day
    return _shares(of, hour, [f"{h:02d} h" for h in range(24)])


def _shares(of: Residuals, which: Array, names: Sequence[str]) -> list[Share]:
    inside, error = of.inside, of.mean - of.y
    shares = []
    for i, name in enumerate(names):
        rows = which == i
        if rows.any():
            rmse, chi2 = np.sqrt(np.mean(error[rows] ** 2)), np.mean(of.z[rows] ** 2)
            values = (error[rows].mean(), rmse, chi2, inside[rows].mean())
            shares.append(Share(name, int(rows.sum()), *map(float, values)))
    return shares
