"""Files of diive (Swiss FluxNet): names and units, a TIMESTAMP that says where it stands."""

from __future__ import annotations

from typing import ClassVar, Literal

from fatescal.observations.readers.base import Head
from fatescal.observations.readers.text_table import TextTable

_STAMPS = ("TIMESTAMP_START", "TIMESTAMP_MIDDLE", "TIMESTAMP_END")


class Diive(TextTable):
    """A row of units below the names, which give the timestamp's form as yyyy-mm-dd HH:MM:SS."""

    kind: Literal["diive"] = "diive"
    """Name of the format."""
    expected: ClassVar[str] = "a column TIMESTAMP_START, _MIDDLE or _END with the unit [yyyy-mm-dd HH:MM:SS]"

    def fits(self, head: Head) -> bool:
        """Return whether a timestamp's unit is the form it is written in."""
        units = dict(zip(self.names(head), self.below(head), strict=False))
        return any(units.get(name, "").strip("[]()").lower().startswith("yyyy") for name in _STAMPS)

    def time_columns(self, names: list[str]) -> list[str]:
        """Return the first of its timestamps."""
        return [next(name for name in _STAMPS if name in names)]
