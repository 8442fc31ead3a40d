"""Daily files of the SMEAR stations, their header lines with #."""

from __future__ import annotations

from fatescal.observations.readers.formats.base import Format, Head


class Smear(Format):
    """A column date, the units in a comment ``# units: ...``."""

    name = "smear"
    expected = "a column date, and header lines with # that name SMEAR"

    def fits(self, head: Head) -> bool:
        """Return whether the comments name SMEAR."""
        return "date" in self.names(head) and any("SMEAR" in line for line in head.comments)

    def time_columns(self, names: list[str]) -> list[str]:
        """Return the date."""
        return ["date"]
