"""Output files of EddyPro: full output, biomet, essentials."""

from __future__ import annotations

from typing import ClassVar, Literal

from fatescal.observations.readers.base import Head
from fatescal.observations.readers.text_table import TextTable


class EddyPro(TextTable):
    """Rows of groups (full output alone), names, units; date and time end the averaging period."""

    kind: Literal["eddypro"] = "eddypro"
    """Name of the format."""
    stamp: ClassVar[str] = "end"
    expected: ClassVar[str] = "columns date, time and DOY, and a row of units as [yyyy-mm-dd] below the names"

    def fits(self, head: Head) -> bool:
        """Return whether there is a row of groups and the columns of time, or these with EddyPro's units."""
        if self.rows_above(head):
            return {"date", "time"} <= set(self.names(head))
        units = dict(zip(self.names(head), self.below(head), strict=False))
        return "time" in units and units.get("date", "").strip("[]") == "yyyy-mm-dd"

    def rows_above(self, head: Head) -> int:
        """Return 1 for the full output, which has a row of groups."""
        return int(bool(head.rows) and head.rows[0][0] == "file_info")

    def time_columns(self, names: list[str]) -> list[str]:
        """Return date and time."""
        return ["date", "time"]
