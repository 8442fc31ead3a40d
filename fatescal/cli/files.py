"""The verb `files`: the configs, machine files and job scripts that come with fatescal."""

from __future__ import annotations

from pathlib import Path

from fatescal.config.shipped_files import SHIPPED, copy_shipped_files, shipped_files


def files(folder: Path | None) -> int:
    """Print the paths of the shipped files, or copy them into a folder; what is there is not overwritten."""
    if folder is None:
        for path in shipped_files():
            print(SHIPPED / path)
        return 0
    copied = copy_shipped_files(folder)
    for path in shipped_files():
        print(f"{folder / path}{'' if path in copied else ': is there already, left as it is'}")
    return 0
