"""Cells of a table as numbers: decimal points or commas, what is missing."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from fatescal.base.errors import BadInput
from fatescal.base.types import Array
from fatescal.observations import missing_codes

if TYPE_CHECKING:
    import pandas as pd

_COMMA = re.compile(r"[+-]?\d*,\d+(?:[eE][+-]?\d+)?|[+-]?\d+")
_THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2}(?:,\d{3})+")


def numbers(
    text: pd.Series,
    path: str,
    absent: Sequence[float | str] = (),
    present: Sequence[float] = (),
) -> tuple[Array, list[str]]:
    """Return the numbers (N) of a column's cells, NaN where missing, and notes about them.

    Missing are the texts, fill values and codes of `missing_codes`, those that may be measurements where they
    lie far outside all other values. Cells with decimal commas are read where the whole column has no point.

    Parameters
    ----------
    absent : sequence
        Further numbers and texts that mean missing.
    present : sequence
        Numbers that are measurements although they look like a code.

    Raises
    ------
    BadInput
        For a cell that is no number, a comma that may separate decimals or thousands, a value that repeats
        far outside all others and is in neither list, a column without any value.
    """
    text = text.str.strip()
    codes = missing_codes.TEXTS | {str(code).lower() for code in absent}
    kept = ~text.str.lower().isin(codes).to_numpy(dtype=bool)
    cells = text.to_numpy(dtype=object)
    notes: list[str] = []
    if any("," in cell for cell in cells[kept]):
        cells, notes = _decimal_commas(text, kept, path)
    values = _parsed(cells, kept, str(text.name), path)
    return values, notes + take_out_codes(values, str(text.name), path, absent, present)


def take_out_codes(
    values: Array,
    name: str,
    path: str,
    absent: Sequence[float | str] = (),
    present: Sequence[float] = (),
) -> list[str]:
    """Put NaN for the numbers among `values` (N) that mean missing, and return notes about it.

    Parameters
    ----------
    name : str
        Of the column, for messages.
    absent, present
        As `numbers`.

    Raises
    ------
    BadInput
        For a value that repeats far outside all others, and a column without any value.
    """
    values[missing_codes.is_code(values, [code for code in absent if not isinstance(code, str)])] = np.nan
    measured = missing_codes.is_code(values, present)
    values[(missing_codes.fills(values) | missing_codes.is_code(values)) & ~measured] = np.nan
    notes = _take_out_suspects(values, measured, name, path)
    if np.isnan(values).all():
        taken = [note for note in notes if "taken as missing" in note]
        raise BadInput(
            f"{path}: column {name} has no valid value{''.join(f', {note}' for note in taken)}",
            hint="observations.not_missing: [values that were measured]" if taken else "",
        )
    return notes


def _parsed(cells: Array, kept: Array, name: str, path: str) -> Array:
    import pandas as pd

    values = np.full(len(cells), np.nan)
    values[kept] = pd.to_numeric(pd.Series(cells[kept], dtype=object), errors="coerce").to_numpy(dtype=float)
    bad = np.flatnonzero(kept & ~np.isfinite(values))
    if bad.size:
        raise BadInput(
            f"{path}: {name} is {cells[bad[0]]!r} in data row {bad[0] + 1}, and {bad.size - 1} more",
            expected="numbers with a decimal point; missing: empty, NaN or -9999",
            hint=f"observations.missing: [{cells[bad[0]]!r}] if it stands for a missing value",
        )
    return values


def _decimal_commas(text: pd.Series, kept: Array, path: str) -> tuple[Array, list[str]]:
    """Cells with their decimal commas turned to points, and a note about it."""
    cells = text.to_numpy(dtype=object)
    some = [cell for cell in cells[kept] if "," in cell]
    row = next((k for k in np.flatnonzero(kept) if not _COMMA.fullmatch(cells[k])), None)
    if row is not None:
        raise BadInput(
            f"{path}: {text.name} has commas ({some[0]!r}), but is {cells[row]!r} in data row {row + 1}",
            expected="numbers with a decimal point, or commas and no point in the whole column",
        )
    if all(_THOUSANDS.fullmatch(cell) for cell in some):
        raise BadInput(
            f"{path}: whether {some[0]!r} of {text.name} has decimals or thousands can't be told",
            expected="numbers with a decimal point",
        )
    cells[kept] = [cell.replace(",", ".") for cell in cells[kept]]
    return cells, [f"decimal commas in {text.name}"]


def _take_out_suspects(values: Array, measured: Array, name: str, path: str) -> list[str]:
    """Put NaN for known codes far outside all other values; return notes about it.

    Raises
    ------
    BadInput
        For other values that repeat there.
    """
    notes = []
    for value, count, known in missing_codes.suspects(np.where(measured, np.nan, values)):
        if not known:
            raise BadInput(
                f"{path}: {name} is {value:g} in {count} rows, suspected to be a missing value",
                hint=f"observations.missing: [{value:g}], or not_missing: [{value:g}] if it was measured",
            )
        values[values == value] = np.nan
        notes.append(f"{count} x {value:g} of {name} taken as missing")
    return notes
