"""What a format of tables is."""

from __future__ import annotations

from dataclasses import dataclass

from fatescal.observations.readers import time_columns


@dataclass(frozen=True)
class Head:
    """The beginning of a file.

    Attributes
    ----------
    comments : list of str
        Lines that begin with # above everything else.
    rows : list of list of str
        Cells of the lines that follow.
    """

    comments: list[str]
    rows: list[list[str]]


class Format:
    """A format of tables: how it is known, where its names stand, which columns hold the time.

    Attributes
    ----------
    above : int
        Rows above the one with the names of columns.
    stamp : str
        Where stamps of this format stand in their interval, 'start', 'middle' or 'end'; '' if any of these.
    expected : str
        What a file of the format has, for messages.
    """

    name = ""
    above = 0
    stamp = ""
    expected = ""

    def fits(self, head: Head) -> bool:
        """Return whether a file that begins so is of this format."""
        raise NotImplementedError

    def time_columns(self, names: list[str]) -> list[str] | None:
        """Return the columns of time among those of a file; None if the config must tell."""
        found = time_columns.sets_of(names)
        return found[0] if len(found) == 1 else None

    def names(self, head: Head) -> list[str]:
        """Return the names of the columns."""
        return head.rows[self.above] if len(head.rows) > self.above else []

    def below(self, head: Head) -> list[str]:
        """Return the cells of the row below the names."""
        return head.rows[self.above + 1] if len(head.rows) > self.above + 1 else []
