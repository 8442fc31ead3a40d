"""Tables of Campbell loggers: TOA5 and TOACI1."""

from __future__ import annotations

from typing import ClassVar, Literal

from fatescal.observations.readers.base import Head
from fatescal.observations.readers.text_table import TextTable


class TOA5(TextTable):
    """Rows of the logger, names, units and processing; a logger stamps a record when its interval ends."""

    kind: Literal["toa5"] = "toa5"
    """Name of the format."""
    above: ClassVar[int] = 1
    stamp: ClassVar[str] = "end"
    expected: ClassVar[str] = "a first line that begins with TOA5 or TOACI1"

    def fits(self, head: Head) -> bool:
        """Return whether the first cell names the format."""
        return bool(head.rows) and head.rows[0][0] in ("TOA5", "TOACI1")

    def time_columns(self, names: list[str]) -> list[str] | None:
        """Return TIMESTAMP, or TMSTAMP of old files."""
        stamps = [name for name in names if name in ("TIMESTAMP", "TMSTAMP")]
        return stamps[:1] or super().time_columns(names)
