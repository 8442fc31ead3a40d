"""How far the members of a stage are, as their markers tell."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from fatescal.base.errors import Status
from fatescal.ensemble.marker import MARKER, read_marker
from fatescal.storage.stage_graph import EFFECTS, PREPARATION, Reached


def begun(members: Path, finished: Iterable[str]) -> dict[str, Reached]:
    """Return the stages in `RUN/members` that are not finished but some of their members are.

    The preparation comes first. With the digests of the files that their members read.
    """
    stages = {}
    names = sorted(entry.name for entry in members.glob("*") if entry.name not in set(finished))
    for name in sorted(names, key=lambda name: name != PREPARATION):
        paths = [
            path
            for path in (members / name).rglob(MARKER)
            if "." not in str(path.parent.relative_to(members))
        ]
        inputs: dict[str, str] = {}
        if all(path.relative_to(members).parts[1] == "0000" for path in paths):
            paths = []  # the default run alone commits nobody: it is made again where something has changed
        for done in filter(None, (read_marker(path.parent) for path in paths)):
            model = done.get("model", {})
            inputs |= {**model.get("inputs", {}), **model.get("fallback", {}).get("inputs", {})}
        if paths or any((members / name).rglob("jobs/*/result.json")):
            stages[name] = Reached(files=inputs, finished=name in (PREPARATION, EFFECTS))
    return stages


@dataclass
class MemberProgress:
    """The finished members of a stage at a site, as the file system shows them to this rank: each marker
    is read once.
    """

    folder: Path
    site: str = ""
    seconds: dict[str, float] = field(default_factory=dict)

    def __call__(self) -> Mapping[str, float]:
        """Return how long each took [s], NaN of failed ones, by name."""
        for entry in os.scandir(self.folder):
            if entry.name.isdigit() and entry.name not in self.seconds:
                done = read_marker(Path(entry.path, self.site))
                if done is not None:
                    ok = done["status"] == Status.OK
                    self.seconds[entry.name] = float(done["seconds"]) if ok else float("nan")
        return self.seconds
