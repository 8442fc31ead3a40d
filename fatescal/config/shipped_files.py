"""The files that come with fatescal beside its code: configs, machine files and job scripts."""

from __future__ import annotations

import shutil
from pathlib import Path

from fatescal.base.errors import BadInput

_OF_WHEEL = Path(__file__).parent / "shipped"  # copies that setup.py makes
SHIPPED = _OF_WHEEL if _OF_WHEEL.is_dir() else Path(__file__).parents[2]  # of a checkout
FOLDERS = {"config": "*.yaml", "machines": "*.yaml", "jobscripts": "*.sh"}


def shipped_files() -> list[Path]:
    """Return the paths of all shipped files, relative to `SHIPPED`."""
    return [
        path.relative_to(SHIPPED)
        for name, pattern in FOLDERS.items()
        for path in sorted((SHIPPED / name).glob(pattern))
    ]


def copy_shipped_files(folder: Path) -> list[Path]:
    """Copy the shipped files into a folder; return the paths of those that were not there, relative to it.

    A file that is there already is left as it is.

    Raises
    ------
    BadInput
        If the folder cannot be written.
    """
    copied = []
    try:
        for path in shipped_files():
            if not (folder / path).exists():
                (folder / path.parent).mkdir(parents=True, exist_ok=True)
                shutil.copy(SHIPPED / path, folder / path)
                copied.append(path)
    except OSError as error:
        raise BadInput(f"{folder} cannot be written: {error.strerror}", hint="another folder") from None
    return copied
