"""Tables of a run's folder as csv: written whole, numbers to their last bit."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from fatescal.storage import atomic


def write_csv(path: Path, header: Iterable[Any], rows: Iterable[Iterable[Any]]) -> None:
    """Write a table; numbers are read back as they were, a missing one is `nan`.

    Parameters
    ----------
    path : Path
        Of the file; its folder must exist.
    header : iterable
        Names of the columns.
    rows : iterable of iterables
        Cells: numbers, times or text.
    """

    def fill(part: Path) -> None:
        with open(part, "w", newline="", encoding="utf-8") as file:
            table = csv.writer(file, lineterminator="\n")
            table.writerow(str(name) for name in header)
            table.writerows([_cell(x) for x in row] for row in rows)

    atomic.write(path, fill)


def _cell(x: Any) -> str:
    """Return a cell as text.

    >>> _cell(0.1), _cell(np.float64("nan")), _cell(np.int64(3)), _cell("a")
    ('0.1', 'nan', '3', 'a')
    """
    return repr(float(x)) if isinstance(x, float | np.floating) else str(x)
