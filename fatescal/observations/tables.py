"""Tables for notebooks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd


def frame(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> pd.DataFrame:
    """Return a table of rows.

    Parameters
    ----------
    columns : sequence of str
        Their names.
    rows : iterable of sequences
        Of as many cells each.
    """
    import pandas as pd

    return pd.DataFrame.from_records([tuple(row) for row in rows], columns=list(columns))


def beside(tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Return the column `value` of several tables side by side, by all their other columns."""
    import pandas as pd

    columns = {name: t.set_index([c for c in t if c != "value"])["value"] for name, t in tables.items()}
    return pd.concat(columns, axis=1)
