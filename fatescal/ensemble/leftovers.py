"""What interrupted attempts left beside the folders of members."""

from __future__ import annotations

import os
from collections import defaultdict
from pathlib import Path


class Leftovers:
    """The folders `NNNN.part-XXXXXXXX` and `NNNN.failed-N` of a stage, listed once for all its members.

    Listed for each member, 10,000 members would read 100 million names.
    """

    def __init__(self) -> None:
        self._stage: Path | None = None
        self._found: dict[str, list[Path]] = {}
        self._taken: set[str] = set()

    def take(self, folder: Path) -> list[Path]:
        """Return what is left of a member's earlier attempts.

        Parameters
        ----------
        folder : Path
            The folder that the member has when it is finished.
        """
        if folder.parent != self._stage or folder.name in self._taken:  # tried again by this rank
            self._list(folder.parent)
        self._taken.add(folder.name)
        return self._found.pop(folder.name, [])

    def _list(self, stage: Path) -> None:
        found = defaultdict(list)
        for entry in os.scandir(stage) if stage.is_dir() else ():
            name, _, rest = entry.name.partition(".")
            if rest.startswith(("part-", "failed-")):  # what is set aside (`before-N`) stays
                found[name].append(Path(entry.path))
        self._stage, self._found, self._taken = stage, dict(found), set()
