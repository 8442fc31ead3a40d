"""The marker of a finished member: `member.json`, which says with what it was run and how it ended."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import stat
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fatescal.base.errors import BadInput
from fatescal.storage import atomic

MARKER = "member.json"
Marked = tuple[str, str, dict[str, Any]]  # number, site and content of a marker


def read_marker(folder: Path | str) -> dict[str, Any] | None:
    try:
        with open(os.path.join(folder, MARKER), "rb") as file:  # a Path would take as long as the reading
            content = json.loads(file.read())
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError, ValueError):
        return None
    return (
        content
        if isinstance(content, dict) and {"fingerprint", "status", "seconds"} <= set(content)
        else None
    )


def markers(stage: Path) -> Iterator[Marked]:
    """Yield number, site ('' of one alone) and content of the marker of every finished member of a stage.

    One file is opened for each; the folders that models make are not walked through.

    Parameters
    ----------
    stage : Path
        `RUN/members/STAGE`.
    """
    for member in os.scandir(stage) if stage.is_dir() else ():
        if not member.name.isdigit():
            continue
        done = read_marker(member.path)
        if done is not None:
            yield member.name, "", done
            continue
        with suppress(OSError):  # it has vanished, or is being written
            for site in os.scandir(member.path):
                done = read_marker(site.path) if "." not in site.name else None
                if done is not None:
                    yield member.name, site.name, done


@dataclass
class MarkersOnce:
    """`markers`, each stage read once: what tells several things of one moment of a run."""

    read: dict[Path, list[Marked]] = field(default_factory=dict)

    def __call__(self, stage: Path) -> list[Marked]:
        """Return what `markers` yields."""
        if stage not in self.read:
            self.read[stage] = list(markers(stage))
        return self.read[stage]


def marked_folders(stage: Path) -> Iterator[Path]:
    """Yield the folders of the finished members of a stage (`RUN/members/STAGE`), at all sites."""
    for pattern in (f"[0-9]*/{MARKER}", f"[0-9]*/*/{MARKER}"):
        for marker in stage.glob(pattern):
            if "." not in str(marker.parent.relative_to(stage)):  # no attempt under way
                yield marker.parent


def mark_folder(part: Path, content: Mapping[str, object]) -> None:
    """Write the marker into a member's folder, made anew where the model has removed it."""
    if part.is_symlink() or not part.is_dir():
        remove(part)
        part.mkdir(parents=True)
    if not os.access(part, os.R_OK | os.W_OK | os.X_OK):
        part.chmod(stat.S_IRWXU)
    marker = part / MARKER
    if marker.is_symlink() or marker.is_dir():
        remove(marker)
    atomic.write_json(marker, content, indent=1, default=str)


def remove(path: Path) -> None:
    """Remove a folder, a file or a link, also where a model has closed folders within."""
    if path.is_dir() and not path.is_symlink():
        for inner in (path, *(p for p in path.rglob("*") if p.is_dir() and not p.is_symlink())):
            with suppress(PermissionError):
                inner.chmod(stat.S_IRWXU)
        shutil.rmtree(path)
    elif os.path.lexists(path):
        path.unlink()


def fingerprint(parameters: Mapping[str, float], description: Mapping[str, object]) -> str:
    text = json.dumps([dict(parameters), dict(description)], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def foreign(
    folder: Path,
    done: Mapping[str, Any],
    parameters: Mapping[str, float],
    identity: Mapping[str, object],
    stage: str,
) -> BadInput:
    """Return the error of a finished run in `folder` with other parameters, or by another model."""
    run = next((above.parent for above in folder.parents if above.name == "members"), folder.parent)
    before = {"parameters": done.get("parameters", {}), **done.get("model", {})}
    now = json.loads(json.dumps({"parameters": dict(parameters), **identity}, default=str))
    names = [key for key in _differing(before, now) if "model" in done or key.startswith("parameters.")]
    what = (
        f"it differs in {', '.join(names[:5])}" if names else "it is of another model, or version of fatescal"
    )
    return BadInput(
        f"{folder} was run with other parameters or by another model than those of today ({what})",
        expected="what is finished of a stage to be of one model",
        hint=f"put back what has changed; or another run.directory; or, to run it again: "
        f"fatescal reset {run} --from {stage}",
    )


def _differing(before: object, now: object, where: str = "") -> list[str]:
    """Return the dotted keys in which two descriptions differ."""
    if not (isinstance(before, Mapping) and isinstance(now, Mapping)):
        return [] if before == now else [where]
    keys = dict.fromkeys([*before, *now])
    return [
        k for key in keys for k in _differing(before.get(key), now.get(key), f"{where}.{key}".lstrip("."))
    ]
