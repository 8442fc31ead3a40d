"""Tables of Campbell loggers: TOA5 and TOACI1."""

from __future__ import annotations

from fatescal.observations.readers.formats.base import Format, Head


class TOA5(Format):
    """Rows of the logger, names, units and processing; a logger stamps a record when its interval ends."""

    name = "toa5"
    above = 1
    stamp = "end"
    expected = "a first line that begins with TOA5 or TOACI1"

    def fits(self, head: Head) -> bool:
        """Return whether the first cell names the format."""
        return bool(head.rows) and head.rows[0][0] in ("TOA5", "TOACI1")

    def time_columns(self, names: list[str]) -> list[str] | None:
        """Return TIMESTAMP, or TMSTAMP of old files."""
        stamps = [name for name in names if name in ("TIMESTAMP", "TMSTAMP")]
        return stamps[:1] or super().time_columns(names)
