"""Daily files of the SMEAR stations, their header lines with #."""

from __future__ import annotations

from typing import ClassVar, Literal

from fatescal.observations.readers.base import Head
from fatescal.observations.readers.text_table import TextTable


class Smear(TextTable):
    """A column date, the units in a comment ``# units: ...``."""

    kind: Literal["smear"] = "smear"
    """Name of the format."""
    expected: ClassVar[str] = "a column date, and header lines with # that name SMEAR"

    def fits(self, head: Head) -> bool:
        """Return whether the comments name SMEAR."""
        return "date" in self.names(head) and any("SMEAR" in line for line in head.comments)

    def time_columns(self, names: list[str]) -> list[str]:
        """Return the date."""
        return ["date"]
