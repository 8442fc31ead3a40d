"""What FLUXNET2015, ONEFlux and ICOS products mean by a column's name, which depends on the step of the file.

Pastorello et al. 2020, doi:10.1038/s41597-020-0534-3, and the data product's list of variables: half-hourly
and hourly fluxes of carbon are rates in moles of CO2, those of days, weeks and months daily means in grams
of C, those of years sums. Quality columns of half hours are flags (0 measured, 1 to 3 filled), of longer
steps the share of measured and well filled ones.
"""

from __future__ import annotations

import numpy as np

from fatescal.base.types import Array
from fatescal.observations import calendars, record_lengths

DAY = calendars.DAY
STEPS = ("hourly", "daily", "yearly")

# Names by their beginning, with the unit of files of half hours or hours, of days to months, and of years
UNITS = {
    ("GPP_", "NEE_", "RECO_"): ("umol CO2 m-2 s-1", "g C m-2 d-1", "g C m-2 y-1"),
    ("LE_", "H_", "G_", "NETRAD", "SW_", "LW_"): ("W m-2", "W m-2", "W m-2"),
    ("TA_", "TS_"): ("degC", "degC", "degC"),
}
NO_FLUX = ("_QC", "_N", "_METHOD")  # ends of the names of flags and counts


def step(starts: Array, lengths: Array) -> str:
    """Return 'hourly', 'daily' (days to months), 'yearly' or '' for rows at `starts` (N) of `lengths` [s].

    >>> days = np.arange("2011-01-01", "2011-02-05", 7, dtype="M8[D]").astype("M8[s]")
    >>> step(days, record_lengths.interval_lengths(days))
    'daily'
    """
    months = record_lengths.month_step(starts)
    if months:
        return {1: "daily", 12: "yearly"}.get(months, "")
    steps, counts = np.unique(lengths, return_counts=True)
    steps = steps[counts >= 0.01 * counts.sum()]
    if np.isin(steps, (1800, 3600)).all():
        return "hourly"
    weeks = (steps >= 7 * DAY) & (steps <= 9 * DAY)  # the last one of a year is longer
    return "daily" if (steps == DAY).all() or weeks.all() else ""


def names(name: str) -> bool:
    """Return whether a column's name is one of those whose units are known.

    >>> names("GPP_NT_VUT_REF"), names("NEE_VUT_REF_QC"), names("ET")
    (True, False, False)
    """
    return not name.endswith(NO_FLUX) and any(name.startswith(prefixes) for prefixes in UNITS)


def unit(name: str, step: str) -> str | None:
    """Return the unit of a column in a file of that `step`; None where name or step don't tell.

    >>> unit("NEE_VUT_REF", "hourly"), unit("NEE_VUT_REF", ""), unit("LE_F_MDS", "")
    ('umol CO2 m-2 s-1', None, 'W m-2')
    """
    known = next((u for prefixes, u in UNITS.items() if name.startswith(prefixes)), None)
    if known is None or not names(name):
        return None
    if len(set(known)) == 1:
        return known[0]
    return known[STEPS.index(step)] if step else None


def quality(name: str, step: str, fluxnet: bool) -> str:
    """Return 'flag' or 'share' for a quality column of a `fluxnet` file or with a name of its kind, else ''.

    >>> quality("NEE_VUT_REF_QC", "hourly", False), quality("NEE_VUT_REF_QC", "daily", True)
    ('flag', 'share')
    """
    if not (step and name.endswith("_QC") and (fluxnet or any(name.startswith(p) for p in UNITS))):
        return ""
    return "flag" if step == "hourly" else "share"
