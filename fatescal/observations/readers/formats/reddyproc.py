"""Text files of REddyProc (Wutzler et al. 2018, doi:10.5194/bg-15-5015-2018)."""

from __future__ import annotations

from typing import ClassVar, Literal

from fatescal.observations.readers.base import Head
from fatescal.observations.readers.text_table import TextTable


class REddyProc(TextTable):
    """Year, DoY and Hour, the end of the interval, 0.5 to 24; a row of units, - or -- for none."""

    kind: Literal["reddyproc"] = "reddyproc"
    """Name of the format."""
    stamp: ClassVar[str] = "end"
    expected: ClassVar[str] = "columns Year, DoY, Hour and a row of units below that begins with - or --"

    def fits(self, head: Head) -> bool:
        """Return whether the columns of time and their units without a unit are there."""
        names, units = self.names(head), dict(zip(self.names(head), self.below(head), strict=False))
        return {"Year", "DoY", "Hour"} <= set(names) and units.get("Year", "").strip("[]") in ("-", "--")

    def time_columns(self, names: list[str]) -> list[str]:
        """Return year, day of the year and hour."""
        return ["Year", "DoY", "Hour"]
