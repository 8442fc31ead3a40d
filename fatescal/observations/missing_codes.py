"""Numbers that stand for a missing value where no attribute and no column says so.

-9999 and its kin are written by models and makers of tables, 1e20, 1e36 and 9.96921e36 by libraries. Taken
for data they dominate every mean. A library's fill value is larger than any quantity and never data. A code
of nines may be data (9999 J), so it counts as missing only where it lies outside all other values by more
than their range.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

LARGE = 1e30  # nothing physical is larger; netCDF's and CLM's fill values (9.97e36, 1e36) are
FILLS = (1e20, 9.999e20)  # of CMIP and GRIB, smaller than LARGE
_CODE = re.compile(r"-?(?:6?9{2,}|7{4,}|8{4,})(?:\.9+)?")  # -9999, 99999, -6999, -9999.9, -99 ...
_SURE = re.compile(r"-[6-9]\d{2,}.*")  # of these one is enough; -99 or 999 must repeat


def fills(values: npt.ArrayLike) -> Array:
    """Return which values are no data whatever the others are: not finite, or a library's fill value.

    >>> fills([1.0, np.nan, 9.96921e36, 1e20, np.float32(1e20), -1e36]).tolist()
    [False, True, True, True, True, True]
    """
    numbers = np.asarray(values, dtype=np.float64)
    size = np.abs(numbers)
    missing = ~np.isfinite(numbers) | (size >= LARGE)
    for fill in FILLS:
        missing |= np.abs(size - fill) < 1e-6 * fill
    return missing


def code(values: npt.ArrayLike) -> float | None:
    """Return the one value that probably stands for missing ones, None where there is none.

    Parameters
    ----------
    values : array-like
        Numbers of any shape; `fills` among them are left out.

    >>> code([0.2, -9999.0, 3.1, -9999.0]), code([9998.0, 9999.0, 10000.0]), code([1.0, 999.0]), code([])
    (-9999.0, None, None, None)
    """
    numbers = np.asarray(values, dtype=np.float64).ravel()
    distinct, times = np.unique(numbers[~fills(numbers)], return_counts=True)
    low, high = 0, len(distinct)
    while low < high and _is_code(distinct[low]):
        low += 1
    while high > low and _is_code(distinct[high - 1]):
        high -= 1
    for k in [*range(low), *range(high, len(distinct))]:
        sure = times[k] > 1 or _SURE.fullmatch(_text(distinct[k]))
        if sure and (low == high or _far(float(distinct[k]), distinct[low:high])):
            return float(distinct[k])
    return None


def _is_code(value: float) -> bool:
    return _CODE.fullmatch(_text(value)) is not None


def _text(value: float) -> str:
    """Return a number as a person writes it, which float32 may have changed: -9999.9 of -9999.900390625."""
    return np.format_float_positional(np.float32(value), trim="-")


def _far(value: float, others: Array) -> bool:
    """Tell whether a value lies outside all others by more than their range."""
    low, high = float(others.min()), float(others.max())
    return max(low - value, value - high) > high - low
