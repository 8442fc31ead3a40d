"""A design of one's own: the members that a csv file holds."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np

from fatescal.base.errors import BadInput
from fatescal.base.types import Array
from fatescal.parameters.designs.base import Design
from fatescal.parameters.space import ParameterSpace


class CsvDesign(Design):
    """The members that a csv file holds: a column for each parameter in its unit, a row for each member."""

    kind: Literal["csv"] = "csv"
    """members from a csv file; `design: FILE.csv` is short for it"""
    file: str
    """path of the file, relative to the config's folder"""

    example: ClassVar = {"kind": "csv", "file": "members.csv"}

    def ensemble(self, space: ParameterSpace, n_members: int, seed: int, folder: Path) -> Array:
        return read_ensemble(self.files(folder)[0], n_members, space)

    def files(self, folder: Path) -> list[Path]:
        return [(folder / self.file).resolve()]

    @property
    def written(self) -> str | dict[str, str]:
        return self.file if self.file.endswith(".csv") else {"kind": self.kind, "file": self.file}


def read_ensemble(path: Path, n_members: int, space: ParameterSpace) -> Array:
    """Return the coordinates (J, P) of the members that a csv file holds: a column per parameter, physical
    values.

    Other columns are passed over, as are lines that begin with #.

    Raises
    ------
    BadInput
        For a missing parameter, what is no number, a value outside its prior's bounds, another number of
        rows.
    """
    where = f"calibrate.design: {path}"
    try:
        with open(path, encoding="utf-8", newline="") as file:
            lines = [(i, line) for i, line in enumerate(file, 1) if line.strip() and not line.startswith("#")]
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{where} cannot be read: {getattr(error, 'strerror', None) or error}") from None
    table = list(csv.reader((line for _, line in lines), skipinitialspace=True))
    header = [name.strip() for name in table[0]] if table else []
    missing = [name for name in space.names if name not in header]
    if missing:
        raise BadInput(
            f"{where} has no column {', '.join(missing)}",
            expected=f"comma-separated columns {', '.join(space.names)}",
            got=", ".join(header) or "an empty file",
        )
    if len(table) - 1 != n_members:
        raise BadInput(
            f"{where} has {len(table) - 1} rows",
            expected=f"{n_members}, the members without the default run",
            hint=f"calibrate.members: {len(table)}",
        )
    columns = [header.index(name) for name in space.names]
    rows = [
        _numbers(row, columns, header, f"{where}, line {i}")
        for (i, _), row in zip(lines[1:], table[1:], strict=True)
    ]
    theta = np.array(rows)
    with np.errstate(invalid="ignore", divide="ignore"):
        outside = ~np.isfinite(space.margin_u(theta))
    if outside.any():
        j, p = np.argwhere(outside)[0]
        low, high = space.priors[p].support
        raise BadInput(
            f"{where}, line {lines[j + 1][0]}: {space.names[p]} is outside its prior's bounds",
            expected=f"between {low:g} and {high:g}",
            got=f"{theta[j, p]:g}",
        )
    return space.u(theta)


def _numbers(row: list[str], columns: list[int], header: list[str], where: str) -> list[float]:
    """Return the values of a row in some columns."""
    values = []
    for column in columns:
        text = row[column] if column < len(row) else ""
        try:
            value = float(text)
        except ValueError:
            value = np.nan
        if not np.isfinite(value):
            raise BadInput(f"{where}: {header[column]} is no number", got=repr(text))
        values.append(value)
    return values
