"""Output files of EddyPro: full output, biomet, essentials."""

from __future__ import annotations

from fatescal.observations.readers.formats.base import Format, Head


class EddyPro(Format):
    """Rows of groups, names and units; date and time are the end of the averaging period."""

    name = "eddypro"
    stamp = "end"
    expected = "columns date, time and DOY, and a row of units as [yyyy-mm-dd] below the names"
    above = 1

    def fits(self, head: Head) -> bool:
        """Return whether the row of groups is there, and the columns of time."""
        return (
            bool(head.rows) and head.rows[0][0] == "file_info" and {"date", "time"} <= set(self.names(head))
        )

    def time_columns(self, names: list[str]) -> list[str]:
        """Return date and time."""
        return ["date", "time"]


class EddyProBiomet(EddyPro):
    """The same without the row of groups."""

    above = 0

    def fits(self, head: Head) -> bool:
        """Return whether names and units of the columns of time are EddyPro's."""
        units = dict(zip(self.names(head), self.below(head), strict=False))
        return "time" in units and units.get("date", "").strip("[]") == "yyyy-mm-dd"
