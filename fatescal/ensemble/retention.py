"""What is kept of a finished member's folder where its output would fill the disk: its predictions alone.

The predictions stand in `predictions.npz` (whose format has checksums) before anything is removed, so that a
kill at any moment loses nothing; a member whose output is gone is read from there, and only for the same
windows.
"""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from fatescal.base.types import Array
from fatescal.storage import atomic

PREDICTIONS = "predictions.npz"


def save(folder: Path, predictions: Array, windows: str) -> None:
    """Write the predictions (D) of `windows` (a digest of them) into a member's folder, durably."""

    def write(part: Path) -> None:
        with open(part, "wb") as file:  # of a path without .npz numpy would write another file
            np.savez(file, predictions=predictions, windows=np.array(windows))

    atomic.write(folder / PREDICTIONS, write)


def load(folder: Path, windows: str) -> Array | None:
    """Return the predictions (D) kept in a folder; None where there are none, or of other windows, or
    damaged."""
    try:
        with np.load(folder / PREDICTIONS) as kept:
            return kept["predictions"] if str(kept["windows"]) == windows else None
    except (OSError, ValueError, KeyError, zipfile.BadZipFile):
        return None


def trim(folder: Path, spared: Iterable[str]) -> None:
    """Remove all from a folder but what matches one of the patterns `spared`."""
    stay = {path for pattern in spared for path in folder.glob(pattern)}
    for path in folder.iterdir():
        if path in stay:
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def size(folder: Path) -> int:
    """Return the bytes of all files below a folder."""
    return sum(path.lstat().st_size for path in folder.rglob("*"))
