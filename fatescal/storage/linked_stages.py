"""All stages of a run as one HDF5 file of external links."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import h5py

from fatescal.storage import atomic


def link_stages(path: Path, stages: Mapping[str, Path]) -> None:
    """Write a file in which each stage is a group: a link to the stage's own file.

    Parameters
    ----------
    path : Path
        The file to write.
    stages : mapping of str to Path
        File of each stage, relative to the folder of `path`: the two may be moved together.
    """

    def fill(part: Path) -> None:
        with h5py.File(part, "w", track_order=True) as file:
            for key, stage in stages.items():
                file[key] = h5py.ExternalLink(str(stage), "/")

    atomic.write(path, fill)
