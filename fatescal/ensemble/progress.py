"""How far the members of a stage are, as their markers tell."""

from __future__ import annotations

import contextlib
import logging
import math
import os
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fatescal.base.errors import Status
from fatescal.ensemble.marker import MARKER, Marked, MarkersOnce, read_marker
from fatescal.storage.stage_graph import EFFECTS, PREPARATION, Reached

log = logging.getLogger(__name__)
MINUTE = 60.0  # s between two lines of progress


def begun(members: Path, finished: Iterable[str], once: MarkersOnce | None = None) -> dict[str, Reached]:
    """Return the stages in `RUN/members` that are not finished but some of their members are.

    The preparation comes first. With the digests of the files that their members read.
    """
    stages, read = {}, once or MarkersOnce()
    names = sorted(entry.name for entry in members.glob("*") if entry.name not in set(finished))
    for name in sorted(names, key=lambda name: name != PREPARATION):
        special = name in (PREPARATION, EFFECTS)
        made = _of_any_depth(members / name) if special else read(members / name)
        inputs: dict[str, str] = {}
        if all(number == "0000" for number, _, _ in made):
            made = []  # the default run alone commits nobody: it is made again where something has changed
        for _, _, done in made:
            model = done.get("model", {})
            inputs |= {**model.get("inputs", {}), **model.get("fallback", {}).get("inputs", {})}
        if made or any((members / name).glob(f"{'**/' if special else ''}jobs/*/result.json")):
            stages[name] = Reached(files=inputs, finished=special)
    return stages


def _of_any_depth(folder: Path) -> list[Marked]:
    """Return what `markers` yields of a folder whose runs are at various depths."""
    inside = [path.parent.relative_to(folder) for path in folder.rglob(MARKER)]
    done = [(path, read_marker(folder / path)) for path in inside if "." not in str(path)]
    return [(path.parts[0], "", content) for path, content in done if content is not None]


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
        for entry in os.scandir(self.folder) if self.folder.is_dir() else ():
            if entry.name.isdigit() and entry.name not in self.seconds:
                done = read_marker(Path(entry.path, self.site))
                if done is not None:
                    ok = done["status"] == Status.OK
                    self.seconds[entry.name] = float(done["seconds"]) if ok else float("nan")
        return self.seconds


@contextlib.contextmanager
def reported(
    stage: str, n_members: int, sites: Sequence[MemberProgress], interval: float = MINUTE
) -> Iterator[None]:
    """Log every `interval` [s], while the body runs, how many members of a stage are finished.

    Parameters
    ----------
    stage : str
        Its name, for the log.
    n_members : int
        How many members there are at each site.
    sites : sequence of MemberProgress
        One for each site; a thread of this rank reads them.
    """
    done, begin = threading.Event(), time.monotonic()

    def watch() -> None:
        before = sum(len(site()) for site in sites)
        while not done.wait(interval):
            seconds = [value for site in sites for value in site().values()]
            log.info("%s", _line(stage, seconds, n_members * len(sites), before, time.monotonic() - begin))

    thread = threading.Thread(target=watch, name="progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _line(stage: str, seconds: Sequence[float], n: int, before: int, elapsed: float) -> str:
    """Return how far a stage is: `seconds` of its finished members (NaN: failed), `before` when it began.

    >>> _line("evaluation-01", [5.0, float("nan"), 6.0], 128, 3, 60.0)
    'evaluation-01: 3 of 128 members are finished, 1 failed'
    """
    n_failed = sum(map(math.isnan, seconds))
    text = f"{stage}: {len(seconds)} of {n} members are finished, {n_failed} failed"
    if len(seconds) == before:
        return text
    left = (n - len(seconds)) * elapsed / (len(seconds) - before)
    end = time.localtime(time.time() + left)
    return f"{text}, all about {time.strftime('%H:%M' if left < 43200 else '%d %b %H:%M', end)}"
