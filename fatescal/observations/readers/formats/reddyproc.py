"""Text files of REddyProc (Wutzler et al. 2018, doi:10.5194/bg-15-5015-2018)."""

from __future__ import annotations

from fatescal.observations.readers.formats.base import Format, Head


class REddyProc(Format):
    """Year, DoY and Hour, the end of the interval, 0.5 to 24; a row of units, - or -- for none."""

    name = "reddyproc"
    stamp = "end"
    expected = "columns Year, DoY, Hour and a row of units below the names that begins with - or --"

    def fits(self, head: Head) -> bool:
        """Return whether the columns of time and their units without a unit are there."""
        names, units = self.names(head), dict(zip(self.names(head), self.below(head), strict=False))
        return {"Year", "DoY", "Hour"} <= set(names) and units.get("Year", "").strip("[]") in ("-", "--")

    def time_columns(self, names: list[str]) -> list[str]:
        """Return year, day of the year and hour."""
        return ["Year", "DoY", "Hour"]
