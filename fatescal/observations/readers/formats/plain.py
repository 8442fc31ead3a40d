"""Tables with names of columns and nothing else that is known."""

from __future__ import annotations

from fatescal.observations.readers.formats.base import Format, Head


class Plain(Format):
    """Any table with names; units of a row below them or of a comment ``# units: GPP,NEE g C m-2 d-1``."""

    name = "csv"

    def fits(self, head: Head) -> bool:
        """Return True."""
        return True
