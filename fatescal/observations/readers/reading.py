"""The way in: a file's format, and its columns as numbers, indexed by the start of each row's interval."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fatescal.base.errors import BadInput, did_you_mean
from fatescal.observations.readers.base import Head, Layout, Reader, Request
from fatescal.observations.readers.layout import head_of
from fatescal.observations.readers.registry import READERS

if TYPE_CHECKING:
    import pandas as pd


def detect(path: str | Path, format: str | Reader | None = None) -> Layout:
    """Return the layout of a file, which is taken to be of `format` where that is given.

    Formats are those of `registry.READERS`; whatever else has names of columns is csv.

    Raises
    ------
    BadInput
        For a missing file, one that no format fits, one without names of columns, or one that lacks what the
        given format demands.
    """
    reader, head = _reader(Path(path), format)
    return reader.layout(head)


def read(
    path: str | Path,
    columns: Iterable[str],
    time_column: str | Sequence[str] | None = None,
    time_zone: str | None = None,
    format: str | Reader | None = None,
    *,
    time_stamp: str | None = None,
    time_format: str | None = None,
    missing: Sequence[float | str] = (),
    not_missing: Sequence[float] = (),
) -> tuple[pd.DataFrame, Layout]:
    """Return `columns` of a file, a float each, indexed by the ascending start of rows, and its layout.

    Only these columns are kept while reading. Times with an offset are turned to UTC, others are of
    `time_zone`; without one they are left as they are. What was guessed or assumed stands in the layout's
    notes.

    Parameters
    ----------
    columns : iterable of str
        Names of columns, which are also those of the result.
    time_column : str or sequence of str, optional
        The column of time, or several that make it up; see `time_columns`.
    format : str or Reader, optional
        A format by its name, or with its options; detected without it.
    time_stamp : {'start', 'middle', 'end'}, optional
        Where a stamp stands in its interval, where neither names nor format tell.
    time_format : str, optional
        The form of times, as strptime has it.
    missing, not_missing : sequence
        Values that mean missing, and that do not although they look so; see `numbers`.

    Raises
    ------
    BadInput
        As `detect`; for a missing column, an unreadable row, time or value, a time given twice, a date that
        can be read in several ways, a column without any value.
    """
    reader, head = _reader(Path(path), format)
    names = tuple(dict.fromkeys(columns))
    return reader.read(
        head, Request(names, time_column, time_zone, time_stamp, time_format, missing, not_missing)
    )


def _reader(path: Path, format: str | Reader | None) -> tuple[Reader, Head]:
    """The format of a file, and its beginning."""
    if isinstance(format, str):
        if format not in READERS:
            raise BadInput(f"format {format!r} is not known", hint=did_you_mean(format, READERS))
        format = READERS[format]()  # type: ignore[call-arg]  # each has its own kind
    head = head_of(path)
    for reader in [format] if format else [kind() for kind in READERS.values() if _has_defaults(kind)]:  # type: ignore[call-arg]
        if reader.fits(head):
            return reader, head
    if head.refusal is not None:
        raise head.refusal
    assert format is not None, "csv fits any text"
    raise BadInput(
        f"{path} is no {format.kind} file", expected=format.expected, got=", ".join(head.rows[0][:8])
    )


def _has_defaults(reader: type[Reader]) -> bool:
    """Whether a format can be detected: one with an option that must be given can't."""
    return not any(field.is_required() for field in reader.model_fields.values())
