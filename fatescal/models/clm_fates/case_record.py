"""What fatescal knows of a case that it made, kept in the case."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from fatescal.storage import atomic

RECORD = "fatescal_build.json"
LOG = "fatescal_build.log"


class CaseRecord:
    """What fatescal knows of a case it made, kept in it.

    Attributes
    ----------
    content : dict
        ``create``: `Plan.made_with`; ``before``: XML values as they were; ``edits``: changed source files, as
        they were built; ``pending``: steps to be done; ``user_files``: the files of ~/.cime that CIME copied,
        with digests; ``config``, once it has been built.
    """

    def __init__(self, case: Path) -> None:
        self.path = case / RECORD
        self.content: dict[str, Any] = {
            "pending": ["setup", "build", "namelists"],
            "before": {},
            "edits": {},
            "config": {},
        }
        if self.path.is_file():
            self.content |= json.loads(self.path.read_text())

    @property
    def pending(self) -> list[str]:
        """The steps that are not done."""
        return list(self.content["pending"])

    def keep(self, **changes: Any) -> None:
        """Write changed content."""
        self.content |= changes
        atomic.write_json(self.path, self.content, indent=1, sort_keys=True)

    @property
    def has_been_built(self) -> bool:
        """Whether a build has come to its end before."""
        return bool(self.content["config"])

    def need(self, *steps: str) -> None:
        """Write down that steps are to be done."""
        self.keep(pending=sorted({*self.pending, *steps}))

    def done(self, step: str) -> None:
        """Write down that a step is done."""
        self.keep(pending=[s for s in self.pending if s != step])
