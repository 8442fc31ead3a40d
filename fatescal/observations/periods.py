"""The periods of calibration and validation, and the blocks of years that folds hold out."""

from __future__ import annotations

import numpy as np

from fatescal.base.errors import BadInput
from fatescal.base.types import Array
from fatescal.observations import calendars

Period = tuple[object, object]  # first and last day, both inclusive


def held_out(moments: Array, calibration: Period, fold: tuple[int, int]) -> Array:
    """Return whether each moment lies in a year of the fold's block: the i-th of k, whole years, as equal as
    they can be.

    Raises
    ------
    BadInput
        For fewer calibration years than blocks.

    >>> days = np.array(["2004-06-01", "2006-06-01", "2008-12-31"], "datetime64[s]")
    >>> held_out(days, ("2004-01-01", "2008-12-31"), (2, 3)).tolist()
    [False, True, False]
    """
    number, n_folds = fold
    first, last = (int(np.datetime64(str(day), "Y").astype(np.int64)) for day in calibration)
    years = np.arange(first, last + 1)
    if not (2 <= n_folds <= len(years) and 1 <= number <= n_folds):
        raise BadInput(
            f"fold {number}/{n_folds} of {len(years)} calibration years",
            expected=f"1/K to K/K with K from 2 to {len(years)}: a fold is a block of years"
            if len(years) > 1
            else "at least two calibration years: a fold is a block of years",
        )
    return np.isin(
        moments.astype("datetime64[Y]").astype(np.int64), np.array_split(years, n_folds)[number - 1]
    )


def shares(
    middles: Array,
    calibration: Period,
    validation: Period | None,
    calendar: str,
    fold: tuple[int, int] | None,
) -> list[tuple[str, Period, Array]]:
    """Each period's name, first and last day, and which of the measurements (N) lie in it."""
    shares = []
    for name, (first, last) in named_periods(calibration, None if fold else validation):
        begin, stop = calendars.period(first, last, calendar)
        shares.append((name, (first, last), (middles >= begin) & (middles < stop)))
    if fold is not None:
        _, period, within = shares[0]
        held = held_out(middles, calibration, fold)
        shares = [("calibration", period, within & ~held), ("validation", period, within & held)]
    return shares


def named_periods(calibration: Period, validation: Period | None) -> list[tuple[str, Period]]:
    """The named periods, in order of time; refused where they overlap."""
    if validation is None:
        return [("calibration", calibration)]
    begins, stops = np.array([calendars.period(*p, "standard") for p in (calibration, validation)]).T
    if begins.max() < stops.min():
        raise BadInput(
            f"calibration ({calibration[0]} to {calibration[1]}) and validation ({validation[0]} to "
            f"{validation[1]}) overlap",
            expected="periods without a common day, since validation with known days proves nothing",
        )
    named = [("calibration", calibration), ("validation", validation)]
    return named if begins[0] < begins[1] else named[::-1]
