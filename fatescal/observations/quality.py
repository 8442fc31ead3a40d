"""Quality columns: flags (small ones are good) and shares of good data, distinguished by their values."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fatescal.base.errors import BadInput
from fatescal.base.types import Array


@dataclass(frozen=True)
class QualityColumn:
    """Measurements are valid where `column`, a flag or a share, is within `low` and `high`."""

    column: str
    low: float = -np.inf
    high: float = np.inf

    @property
    def bounds(self) -> str:
        """The bounds as they stand in a config: 'min: 0.5'."""
        bounds = [("min", self.low), ("max", self.high)]
        return ", ".join(f"{key}: {value:g}" for key, value in bounds if np.isfinite(value))

    def keeps(self, values: Array) -> Array:
        """Return which of the column's `values` (N) are good."""
        return (values >= self.low) & (values <= self.high)


def kind(values: Array) -> str:
    """Return what the values (N) of a quality column are: 'flag', 'share', 'percent', 'binary' or 'unknown'.

    A few values above 1 don't make a share of gap-filled half-hours another thing (SMEAR II has some).

    >>> columns = [0.0, 3.0, 1.0], [0.0, 0.02, 1.0], [0.0, 1.0, np.nan], [0.0, 87.5], [0.5, 1.5]
    >>> [kind(np.array(values)) for values in columns]
    ['flag', 'share', 'binary', 'percent', 'unknown']
    """
    values = values[np.isfinite(values)]
    if not len(values) or values.min() < 0 or values.max() > 100:
        return "unknown"
    whole = bool((values == np.rint(values)).all())
    if whole and values.max() <= 9:
        return "flag" if values.max() > 1 else "binary"
    if values.max() > 9:
        return "percent"
    return "share" if np.quantile(values, 0.99) <= 1 else "unknown"


def verdict(quality: QualityColumn, values: Array, variable: str, known: str = "") -> str:
    """Return a phrase: what a quality column is taken for and what its bounds keep.

    Parameters
    ----------
    values : (N,) array
        The whole column.
    variable : str
        The observed variable, for the message.
    known : str
        'flag' or 'share' where the column's name and the file's step tell, as in FLUXNET files, or the file
        itself, as attributes of netCDF; else ''. Flags may be large whole numbers then (101 in PLUMBER2).

    Raises
    ------
    BadInput
        For bounds that contradict the column: `min` alone on a flag, `max` alone on a share of good data.
    """
    by_values = kind(values)
    whole = bool((values[np.isfinite(values)] % 1 == 0).all())
    may_be_known = by_values == "binary" or (
        known == "flag" and whole and by_values in ("percent", "unknown")
    )
    meant = known if known and may_be_known else by_values
    where = f"observations.variables.{variable}.qc: `{quality.bounds}` on {quality.column}"
    if meant == "flag":
        _refuse_for_flag(quality, values, where)
    elif meant == "share":
        _refuse_for_share(quality, values, where, known == "share")
    elif meant == "percent" and (0 < quality.low <= 1 or 0 < quality.high < 1):
        raise BadInput(
            f"{where}, whose values go to {np.nanmax(values):g}",
            expected="bounds in percent",
            hint="min: 50, not 0.5",
        )
    kept = int(quality.keeps(values).sum())
    counts = f"`{quality.bounds}` keeps {kept} of {np.isfinite(values).sum()} rows"
    if meant == "binary":
        good = "0" if quality.keeps(np.zeros(1))[0] else "1"
        what = "HOLDS ONLY 0 AND 1, A FLAG (0 GOOD) OR A SHARE (1 GOOD)"
        return f"{quality.column} {what}: {counts}, THOSE WITH {good}"
    if meant == "unknown":
        return f"{quality.column} IS NEITHER A FLAG NOR A SHARE BY ITS VALUES: {counts}"
    kinds = {
        "flag": f"a flag ({_listed(values)})",
        "share": "a share (0 to 1)",
        "percent": "a share in percent",
    }
    return f"{quality.column} is {kinds[meant]}: {counts}"


def _refuse_for_flag(quality: QualityColumn, values: Array, where: str) -> None:
    if quality.low > 0 and not np.isfinite(quality.high):
        raise BadInput(
            f"{where}, a flag with the values {_listed(values)}: larger ones are filled or worse data",
            expected="`max`, the worst flag that is used",
            hint=f"qc: {{column: {quality.column}, max: 0}}, or max: 1 for well filled ones too; if large "
            f"flags are good ones here, both bounds: min: {quality.low:g}, max: {np.nanmax(values):g}",
        )


def _refuse_for_share(quality: QualityColumn, values: Array, where: str, good: bool) -> None:
    """Refuse bounds that make no sense for a share, which is of `good` data where that is known."""
    if good and np.isfinite(quality.high) and not np.isfinite(quality.low):
        raise BadInput(
            f"{where}, the share of measured and well filled data (1 is good): it would keep the worst",
            expected="`min`, the least share that is used",
            hint=f"qc: {{column: {quality.column}, min: 0.5}}",
        )
    if quality.low > 1:
        raise BadInput(f"{where}, a share from 0 to 1: no row is kept", hint="min: 0.5")
    if np.isfinite(quality.high) and quality.high >= 1 and quality.keeps(values[np.isfinite(values)]).all():
        raise BadInput(
            f"{where}, a share from 0 to 1 and no flag: every row is kept",
            hint="max: 0.2 for a share of gap-filled data, min: 0.8 for a share of good data",
        )


def _listed(values: Array) -> str:
    return ", ".join(f"{value:g}" for value in np.unique(values[np.isfinite(values)]))
