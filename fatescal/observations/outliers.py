"""Windows that lie far outside all others of their variable: typing errors, spikes, missing values."""

from __future__ import annotations

import numpy as np

from fatescal.base.types import Array
from fatescal.observations import calendars
from fatescal.storage.records import Observations

LIMIT = 10.0  # robust standard deviations from what is usual for the season
ISOLATED = 3.0  # times as far as the next value that is none; the largest of 150 series of real fluxes is 1.5
HALF_WIDTH = 15  # days on either side of a day of the year that make up its season


def outliers(observations: Observations) -> tuple[Array, Array]:
    """Return which windows (D) are outliers of their variable, and the robust z-score (D) of each window.

    z is the distance from the median of the season (within 15 days of the day of the year in any year, at
    the same time of day; of all, where that holds less than five windows), over 1.4826 times the median of
    these distances, or over the error sd where that is larger. Outliers are the few windows beyond |z| = 10
    that lie three times as far out as any other: the largest of a heavy tail have neighbours, which typing
    errors don't have.

    >>> start = np.arange("2001-01-01", "2001-01-21", dtype="M8[D]").astype("M8[s]")
    >>> labels = dict(variable=["y"] * 20, unit=["1"] * 20, period=["calibration"] * 20)
    >>> y = np.where(np.arange(20) == 3, 1e6, 1.0)
    >>> obs = Observations(y=y, noise=np.full(20, 0.5), start=start, end=start + 86400, **labels)
    >>> np.flatnonzero(outliers(obs)[0]).tolist()
    [3]
    """
    far, z = np.zeros(len(observations), dtype=bool), np.zeros(len(observations))
    for variable in dict.fromkeys(observations.variable.tolist()):
        rows = np.flatnonzero(observations.variable == variable)
        part = observations.select(rows)
        deviations = part.y - _seasonal(part)
        z[rows] = deviations / max(1.4826 * np.median(np.abs(deviations)), np.median(part.sd))
        far[rows] = _isolated(np.abs(z[rows]))
    return far, z


def _isolated(z: Array) -> Array:
    """Which of |z| (N) lie beyond the limit and a wide gap, at most a fiftieth of many, a quarter of few."""
    if len(z) < 3:
        return np.zeros(len(z), dtype=bool)
    ordered = np.sort(z)
    allowed = max(1, min(max(3, len(z) // 50), len(z) // 4))
    upper, lower = ordered[-allowed:], ordered[-allowed - 1 : -1]
    beyond = upper[(upper > LIMIT) & (upper > ISOLATED * lower)]
    return z >= beyond[0] if len(beyond) else np.zeros(len(z), dtype=bool)


def _seasonal(part: Observations) -> Array:
    """The median (D) of the windows of one variable in the season of each."""
    middles = part.start + (part.end - part.start) // 2
    days = calendars.day_of_year(middles)
    seconds = (part.start - part.start.astype("datetime64[D]")).astype(np.int64)
    usual = np.full(len(part), np.median(part.y))
    for second in np.unique(seconds):
        rows = np.flatnonzero(seconds == second)
        for day in np.unique(days[rows]):
            distance = np.abs(days[rows] - day)
            near = part.y[rows[np.minimum(distance, 365 - distance) <= HALF_WIDTH]]
            if len(near) >= 5:
                usual[rows[days[rows] == day]] = np.median(near)
    return usual
