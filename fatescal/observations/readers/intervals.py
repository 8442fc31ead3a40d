"""Where a stamp stands in its interval: starts of intervals from stamps of their start, middle or end."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from fatescal.base.errors import BadInput
from fatescal.base.types import Array
from fatescal.observations.readers.dates import Stamps

if TYPE_CHECKING:
    import pandas as pd

_NAMES = {
    **dict.fromkeys(("start", "starts", "begin", "begins", "beginning"), "start"),
    **dict.fromkeys(("middle", "mid", "midpoint", "center", "centre"), "middle"),
    **dict.fromkeys(("end", "ends", "ending", "stop"), "end"),
}
_DAY = np.timedelta64(86400, "s")
_REAL = 0.05  # share of all steps that a step must have to be one of the file's, and not a gap


@dataclass(frozen=True)
class Position:
    """Where stamps stand in their intervals.

    Attributes
    ----------
    where : str
        'start', 'middle' or 'end'.
    source : str
        What tells so: 'name', 'key', 'format' or '' where it is assumed.
    description : str
        The same for the user.
    """

    where: str
    source: str
    description: str


def edge(texts: Iterable[str]) -> str | None:
    """Return 'start', 'middle' or 'end' where names of columns or units of time say so.

    >>> edge(["TIMESTAMP_END"]), edge(["dateTimeStart"]), edge(["date", "time"]), edge(["weekend"])
    ('end', 'start', None, None)
    """
    edges = {_NAMES[term] for text in texts for term in _terms(text) if term in _NAMES}
    return edges.pop() if len(edges) == 1 else None


def stem(name: str) -> list[str]:
    """Return the terms of a name that do not say where a stamp stands."""
    return [term for term in _terms(name) if term not in _NAMES]


def _terms(text: str) -> list[str]:
    return [term.lower() for term in re.findall(r"[A-Z]?[a-z]+|[A-Z]+", text)]


def position(
    names: list[str], units: list[str], by_format: str, format: str, key: str | None, path: str
) -> Position:
    """Return where the stamps of a file stand: by its names, else by the config, its format, or at the start.

    Parameters
    ----------
    names, units : list of str
        Of the columns of time.
    by_format : str
        What `format` always writes, '' if anything.
    key : str, optional
        `observations.time_stamp`.

    Raises
    ------
    BadInput
        If the config contradicts a name.
    """
    by_name = edge(names) or edge(units)
    if by_name and key and by_name != key:
        raise BadInput(
            f"{path}: observations.time_stamp is {key}, but {' '.join(names)} the {by_name} of an interval",
            hint="leave time_stamp out, or name another time_column",
        )
    if by_name:
        return Position(by_name, "name", f"{' '.join(names)} is the {by_name} of an interval")
    if key:
        return Position(key, "key", f"time_stamp: {key} of an interval")
    if by_format:
        return Position(
            by_format, "format", f"stamps are the {by_format} of an interval, as {format} writes them"
        )
    return Position(
        "start", "", "stamps taken as the start of an interval (assumed: else time_stamp: end or middle)"
    )


def starts(
    stamps: Stamps, position: Position, zone: str | None, path: str
) -> tuple[pd.DatetimeIndex, list[str]]:
    """Return the start of each row's interval, in UTC where the texts or `zone` tell, and notes for the user.

    Raises
    ------
    BadInput
        For times given twice, an unusable zone, stamps whose interval can't be known.
    """
    import pandas as pd

    if position.where == "start" and stamps.midnight:
        raise BadInput(
            f"{path}: times at 24:00 end an interval, but are taken for its start",
            expected="observations.time_stamp: end, or times from 0:00 to 23:59",
        )
    order = np.argsort(stamps.moments, kind="stable")
    local = stamps.moments[order]
    whole_days = bool((np.diff(local).astype(np.int64) % 86400 == 0).all())
    shifted = _shifted(local, stamps.resolution, position, path) if whole_days else local
    index = pd.DatetimeIndex(shifted if stamps.utc else to_utc(pd.DatetimeIndex(shifted), zone))
    if not whole_days:  # the clock may be changed between two stamps
        if not index.is_monotonic_increasing:
            again = np.argsort(index, kind="stable")
            index, order, local = index[again], order[again], local[again]
        index = pd.DatetimeIndex(
            _shifted(index.to_numpy().astype("datetime64[s]"), stamps.resolution, position, path)
        )
    back = np.empty(len(order), dtype=int)
    back[order] = np.arange(len(order))
    return index[back], _notes(stamps, position, local, shifted if whole_days else index.to_numpy(), path)


def _notes(stamps: Stamps, position: Position, local: Array, first: Array, path: str) -> list[str]:
    steps = np.diff(local).astype(np.int64)
    named = stamps.resolution in ("year", "month") or (
        stamps.resolution == "day" and (not len(steps) or int(np.median(steps)) == 86400)
    )
    if named and position.where == "start":
        return [f"stamps name whole {stamps.resolution}s"]
    if position.where == "start":
        return [position.description]
    return [
        f"{position.description}: the first begins {str(first[0].astype('datetime64[m]')).replace('T', ' ')}"
    ]


def _shifted(moments: Array, resolution: str, position: Position, path: str) -> Array:
    """Starts of the intervals of ascending stamps (N)."""
    if position.where == "start":
        return moments
    if resolution in ("year", "month"):
        raise BadInput(
            f"{path}: times name whole {resolution}s, which have no {position.where}",
            hint="leave observations.time_stamp out",
        )
    if len(moments) < 2:
        raise BadInput(
            f"{path}: how long the interval of a single row is can't be known", expected="at least two rows"
        )
    if (monthly := _months(moments, position)) is not None:
        return monthly
    if resolution == "day" and (position.where == "middle" or position.source == "name"):
        moments = moments + (
            _DAY // 2 if position.where == "middle" else _DAY
        )  # the day is part of its interval
    lengths = row_lengths(moments)
    if position.where == "end":
        return moments - lengths
    begins = moments - lengths // 2
    if resolution == "day" and (begins != begins.astype("datetime64[D]")).any():
        raise BadInput(
            f"{path}: which day {lengths[0].astype(int) // 86400} days begin with can't be told",
            expected="an odd number of days, or times of day, where stamps are its middle",
        )
    return begins


def _months(moments: Array, position: Position) -> Array | None:
    """Starts of months or years, where stamps are the ends or middles of such; None where they aren't."""
    months = moments.astype("datetime64[M]")
    steps = np.diff(months).astype(np.int64)
    if (steps < 1).any() or (np.diff(moments) < 28 * _DAY).any():
        return None
    day = (moments.astype("datetime64[D]") - months.astype("datetime64[D]")).astype(np.int64) + 1
    length = ((months + 1).astype("datetime64[D]") - months.astype("datetime64[D]")).astype(np.int64)
    step = int(steps.min())
    if position.where == "end" and (day == 1).all() and (moments == moments.astype("datetime64[D]")).all():
        return (months - step).astype("datetime64[s]")
    if position.where == "end" and (day == length).all():
        return (months + 1 - step).astype("datetime64[s]")
    if position.where == "middle" and step == 1 and (abs(day - length / 2) <= 2).all():
        return months.astype("datetime64[s]")
    mid_year = np.isin(months.astype(np.int64) % 12, (5, 6)) & (steps.min() == 12)
    return (
        months.astype("datetime64[Y]").astype("datetime64[s]")
        if position.where == "middle" and mid_year.all()
        else None
    )


def row_lengths(moments: Array) -> Array:
    """Return the length (N, timedelta64[s]) of each row's interval, from ascending stamps (N >= 2).

    A step counts as one of the file's where two rows in a row have it and it is not rare; a row has that
    before it, else that after it, else that of the nearest row which has one: gaps do not count, and hourly
    years may be followed by half-hourly ones.

    >>> hours = np.array([1, 2, 3, 3.5, 4, 9, 9.5, 10]) * 3600
    >>> (row_lengths(hours.astype(int).astype("datetime64[s]")).astype(int) / 3600).tolist()
    [1.0, 1.0, 1.0, 0.5, 0.5, 0.5, 0.5, 0.5]
    """
    steps = np.diff(moments).astype("timedelta64[s]").astype(np.int64)
    values, inverse, counts = np.unique(steps, return_inverse=True, return_counts=True)
    common = counts[inverse] >= max(2, _REAL * len(steps))
    same = steps[1:] == steps[:-1]
    real = common & (np.r_[False, same] | np.r_[same, False])
    if not real.any():
        if len(counts) > 1 and counts.max() == 1:
            raise BadInput("no two rows are the same step apart: how long their intervals are can't be known")
        real = steps == values[counts.argmax()]
    before, after = np.r_[False, real], np.r_[real, False]
    lengths = np.where(before, np.r_[0, steps], np.where(after, np.r_[steps, 0], 0))
    known = np.flatnonzero(lengths)
    nearest = known[np.clip(np.searchsorted(known, np.arange(len(lengths)), side="right") - 1, 0, None)]
    return np.minimum(lengths[nearest], np.r_[lengths[nearest][0], steps]).astype("timedelta64[s]")


def to_utc(index: pd.DatetimeIndex, zone: str | None) -> pd.DatetimeIndex:
    """Return moments of a time zone, as 'UTC+2', '+05:30' or 'Europe/Helsinki', in UTC without zone."""
    import pandas as pd

    if zone is None:
        return index
    offset = re.fullmatch(r"(?:UTC|GMT)?(?:([+-])(\d{1,2})(?::?(\d{2}))?)?", zone.strip())
    if offset:
        minutes = int(offset[2] or 0) * 60 + int(offset[3] or 0)
        return index - pd.Timedelta(minutes=-minutes if offset[1] == "-" else minutes)
    try:
        return index.tz_localize(zone).tz_convert("UTC").tz_localize(None)
    except Exception as error:  # zoneinfo, pytz and pandas each have their own
        cause = str(error).partition(". Try")[0]  # pandas goes on with its own keys
        raise BadInput(
            f"time_zone {zone!r} can't be used: {cause}",
            expected="an offset like 'UTC+2' or a name like 'Europe/Helsinki'",
            hint="towers keep winter time all year: an offset",
        ) from error
