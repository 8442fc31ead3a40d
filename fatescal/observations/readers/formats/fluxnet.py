"""Files of FLUXNET2015, ONEFlux and ICOS (Pastorello et al. 2020, doi:10.1038/s41597-020-0534-3)."""

from __future__ import annotations

from typing import ClassVar, Literal

from fatescal.observations.readers.base import Head
from fatescal.observations.readers.text_table import TextTable


class Fluxnet(TextTable):
    """TIMESTAMP names a day, month or year; TIMESTAMP_START is that of a half-hour, hour or week."""

    kind: Literal["fluxnet"] = "fluxnet"
    """Name of the format."""
    expected: ClassVar[str] = "a column TIMESTAMP or TIMESTAMP_START"

    def fits(self, head: Head) -> bool:
        """Return whether one of its columns of time is there."""
        return bool({"TIMESTAMP", "TIMESTAMP_START"} & set(self.names(head)))

    def time_columns(self, names: list[str]) -> list[str]:
        """Return the start of the interval, or TIMESTAMP."""
        return ["TIMESTAMP_START" if "TIMESTAMP_START" in names else "TIMESTAMP"]
