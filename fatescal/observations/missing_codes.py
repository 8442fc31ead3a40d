"""Numbers and texts that stand for a missing value, in tables and in model output.

-9999 and its kin are written by models and makers of tables, 1e20, 1e36 and 9.96921e36 by libraries. Taken
for data they dominate every mean. A library's fill value is larger than any quantity and never data, and
-9999 is not either. Other codes may be data (a pressure of 99999 Pa): they count as missing only where they
lie far outside all other values.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from fatescal.base.types import Array

TEXTS = frozenset(
    ("", "na", "nan", "-nan", "n/a", "n.a.", "#n/a", "<na>", "null", "none", "nil", "nd", "nodata", "no data")
    + ("missing", "-", "--", "---", ".", "1.#qnan", "-1.#ind", "1.#ind")
)
LARGE = 1e30  # nothing physical is larger; the fill values of netCDF and CLM and the largest floats are
FILLS = (1e20, 9.999e20)  # of CMIP and GRIB, smaller than LARGE
# of flux networks and loggers: no measurement has such a value
ALWAYS = (-9999.0, -9999.9, -9999.99, -9999.999, -6999.0, -99999.0, -99999.9, -999999.0)
# codes that may be measurements too (a pressure of 99999 Pa): missing where they lie far outside all others
POSSIBLE = (
    *(-99.0, -99.9, -99.99, -999.0, -999.9, -999.99, -888.0, -8888.0, -777.0, -7777.0, -7999.0, -32768.0),
    *(999.0, 999.9, 999.99, 9999.0, 9999.9, 9999.99, 99999.0, 99999.9, 999999.0, 7777.0, 8888.0, 32767.0),
)
_LEAST = 90.0  # codes are rarely smaller
_MOST = 4  # different codes that are looked for on each side of the measurements


class Suspect(NamedTuple):
    """A value far outside all others that is or may be a code for missing.

    Attributes
    ----------
    known : bool
        Whether it is one of `POSSIBLE`, and not merely a value that repeats.
    """

    value: float
    number: int
    known: bool


def fills(values: Array) -> Array:
    """Return which of `values` (any shape) are no data in any file: not finite, or a library's fill value.

    >>> fills(np.array([1.0, np.nan, 9.96921e36, 1e20, np.float32(1e20), -1e36])).tolist()
    [False, True, True, True, True, True]
    """
    return ~(np.abs(values) < LARGE) | is_code(np.abs(values), FILLS)


def is_code(values: Array, codes: Sequence[float] = ALWAYS) -> Array:
    """Return whether each of `values` (any shape) is one of `codes`, to the six digits that files keep.

    >>> is_code(np.array([1.0, -9999.0, np.nan])).tolist()
    [False, True, False]
    """
    same = np.zeros(np.shape(values), dtype=bool)
    for code in codes:
        same |= np.abs(values - code) <= 1e-6 * abs(code)
    return same


def undeclared(values: Array) -> tuple[Array, list[float]]:
    """Return which of `values` (N) are missing without an attribute that says so, and the codes among them.

    A value that is no known code counts as data, however far from all others it lies.

    >>> undeclared(np.array([0.2, -9999.0, 1e36, 3.1, 999.0, 999.0]))
    (array([False,  True,  True, False,  True,  True]), [-9999.0, 999.0])
    >>> undeclared(np.array([9998.0, 9999.0, 10000.0]))[1]
    []
    """
    missing, always = fills(values), is_code(values)
    codes = [*np.unique(values[always]).tolist()]
    codes += [
        suspect.value for suspect in suspects(np.where(missing | always, np.nan, values), repeats=False)
    ]
    return missing | always | np.isin(values, codes), codes


def suspects(values: Array, *, repeats: bool = True) -> list[Suspect]:
    """Return the values (N) that lie far outside all others and are a known code, or repeat exactly.

    The core is what is left without up to four different values at each end. A value of `POSSIBLE` is suspect
    where its distance from the core exceeds that of the core's end from the median. Any other one must
    repeat; its distance must exceed three times the range of the core and ten times its end's distance from
    the median, its size three times that of the core's largest; below 90, a hundred times range and size.
    Where all of several values are known codes there is no core, and each is suspect.

    Parameters
    ----------
    values : array (N)
        Measurements or model output; NaN is passed over. Values of `ALWAYS` must have been taken out.
    repeats : bool
        Whether a value that is no known code is suspect where it repeats.

    >>> suspects(np.array([1.0, 2.5, 4.0, 3.0, -999.0, 12345.0, 12345.0]))
    [Suspect(value=-999.0, number=1, known=True), Suspect(value=12345.0, number=2, known=False)]
    >>> suspects(np.array([98000.0, 99999.0, 101000.0, 1e6])), suspects(np.array([5.0, 5.0]))
    ([], [])
    >>> suspects(np.array([99999.0, 99999.0]))
    [Suspect(value=99999.0, number=2, known=True)]
    """
    unique, counts = np.unique(values[np.isfinite(values)], return_counts=True)
    known = is_code(unique, POSSIBLE)
    if known.all() and counts.sum() > 1:
        return [Suspect(float(unique[k]), int(counts[k]), True) for k in range(len(unique))]
    able = known | (counts > 1) if repeats else known
    most = range(min(_MOST, len(unique) - 1) + 1)
    ends = sorted(
        ((low, high) for low in most for high in most), key=lambda pair: (sum(pair), pair), reverse=True
    )
    for low, high in ends:
        out = np.r_[0:low, len(unique) - high : len(unique)]
        if low + high and low + high < len(unique) and able[out].all():
            core = slice(low, len(unique) - high)
            if all(_is_far(unique[k], counts[k], known[k], unique[core], counts[core]) for k in out):
                return [Suspect(float(unique[k]), int(counts[k]), bool(known[k])) for k in out]
    return []


def _is_far(value: float, count: int, known: bool, core: Array, counts: Array) -> bool:
    """Whether a value lies far outside the core, ascending values with their counts."""
    end = core[0] if value < core[0] else core[-1]
    gap, spread, size = abs(value - end), core[-1] - core[0], np.abs(core).max()
    tail = abs(core[np.searchsorted(np.cumsum(counts), counts.sum() / 2)] - end)
    if known:
        return bool(gap > (1 if count > 1 else 3) * tail and gap > 0.1 * size)
    if abs(value) < _LEAST:  # two equal extremes in a short record of rain are no code; 0 to 1e-6 and -9 are
        return bool(len(core) > 2 and gap > 100 * spread and abs(value) > 100 * size)
    return bool(gap > 3 * spread and gap > 10 * tail and abs(value) > 3 * size)
