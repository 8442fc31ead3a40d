"""What a reader of measurements is: a class for each format, its options those of `observations.format`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from fatescal.base.errors import BadInput, did_you_mean
from fatescal.base.options import Section

if TYPE_CHECKING:
    import pandas as pd

QUALITY_ENDS = ("_qc", "_QC")  # of the names of quality columns: FLUXNET, PLUMBER2


@dataclass(frozen=True)
class Head:
    """The beginning of a file.

    Attributes
    ----------
    path : Path
        The file.
    first : bytes
        Its first bytes, as they are stored.
    comments : sequence of str
        Lines of a text that begin with # above everything else.
    rows : list of list of str
        Cells of the lines that follow; empty where the file is no text.
    separator : str
        What separates the cells.
    lines : sequence of int
        Number of each row's line, from 0.
    stored : sequence of str
        Notes on compression and encoding.
    refusal : BadInput, optional
        Why the file can't be read as a text.
    """

    path: Path
    first: bytes
    comments: Sequence[str] = ()
    rows: list[list[str]] = field(default_factory=list)
    separator: str = ","
    lines: Sequence[int] = ()
    stored: Sequence[str] = ()
    refusal: BadInput | None = None


@dataclass(frozen=True)
class Layout:
    """What a file tells of itself.

    Attributes
    ----------
    format : str
        The kind of its reader.
    names : tuple of str
        The columns that can be read.
    units : mapping
        Unit of each column, as far as the file or its format tells.
    notes : tuple of str
        What was guessed or assumed, for the user.
    written : str
        How it is stored, for the user.
    quality : mapping
        The quality column of a column, where the file names it.
    flags : frozenset of str
        Quality columns that the file declares to be flags.
    """

    format: str
    names: tuple[str, ...]
    units: Mapping[str, str]
    notes: tuple[str, ...] = ()
    written: str = ""
    quality: Mapping[str, str] = field(default_factory=dict)
    flags: frozenset[str] = frozenset()

    @property
    def summary(self) -> str:
        """The layout as a user reads it."""
        return ", ".join((self.format, self.written, *self.notes))

    def column(self, name: str) -> int | None:
        """Return the index of a column, its name written with or without quotes; None if there is none.

        Raises
        ------
        BadInput
            If several columns are called so.
        """
        for spelling in (name, name.strip().strip("\"'")):
            if (count := self.names.count(spelling)) > 1:
                raise BadInput(f"{count} columns are called {spelling!r}", hint="give them different names")
            if count:
                return self.names.index(spelling)
        return None

    def index(self, name: str, path: str) -> int:
        """Return the index of a column.

        Raises
        ------
        BadInput
            If there is none of that name; the nearest one is offered.
        """
        index = self.column(name)
        if index is None:
            raise BadInput(
                f"{path} has no column {name!r}",
                expected=f"one of {', '.join(self.names)}",
                hint=did_you_mean(name, self.names, cutoff=0.4),
            )
        return index

    def spelled(self, name: str) -> str:
        """Return the name of a column of time as the file spells it, where capitals alone differ."""
        alike = [other for other in self.names if other.lower() == name.lower()]
        return alike[0] if self.column(name) is None and len(alike) == 1 else name

    def quality_of(self, column: str) -> str | None:
        """Return the quality column of a column: as the file names it, else by its name; None without one."""
        named = (column + end for end in QUALITY_ENDS)
        return self.quality.get(column) or next((name for name in named if name in self.names), None)


@dataclass(frozen=True)
class Request:
    """What is wanted of a file, and what the config tells of it: see `reading.read`."""

    columns: Sequence[str]
    time_column: str | Sequence[str] | None = None
    time_zone: str | None = None
    time_stamp: str | None = None
    time_format: str | None = None
    missing: Sequence[float | str] = ()
    not_missing: Sequence[float] = ()


class Reader(Section):
    """A format of measurements. A subclass has `kind: Literal["name"] = "name"`, and its options as fields.

    Attributes
    ----------
    kind : str
        Its name in a config, and that of its entry point where another package brings it.
    expected : str
        What a file of the format has, for messages.
    """

    kind: str
    expected: ClassVar[str] = ""

    def fits(self, head: Head) -> bool:
        """Return whether a file that begins so is of this format."""
        raise NotImplementedError

    def layout(self, head: Head) -> Layout:
        """Return what a file tells of itself; raises `BadInput` for one that lacks what is needed."""
        raise NotImplementedError

    def read(self, head: Head, request: Request) -> tuple[pd.DataFrame, Layout]:
        """Return the requested columns, float64, indexed by the ascending start of rows, and the layout.

        Times are in UTC where the file or `request.time_zone` tells, else as written; NaN is missing. What
        is guessed or assumed stands in the layout's notes; what can't be known raises `BadInput`.
        """
        raise NotImplementedError

    def plain(self) -> str | dict[str, Any]:
        """Return it as a config has it: its name, with the options that differ from their defaults."""
        changed = self.model_dump(mode="json", exclude_defaults=True)
        return {"kind": self.kind, **changed} if changed else self.kind
