"""Tables with names of columns and nothing else that is known."""

from __future__ import annotations

from typing import Literal

from fatescal.observations.readers.base import Head
from fatescal.observations.readers.text_table import TextTable


class Plain(TextTable):
    """Any table with names; units of a row below them or of a comment ``# units: GPP,NEE g C m-2 d-1``."""

    kind: Literal["csv"] = "csv"
    """Name of the format."""

    def fits(self, head: Head) -> bool:
        """Return whether it is a text."""
        return bool(head.rows)
