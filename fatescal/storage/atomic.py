"""The one way a file is written: whole or not at all, and on the disk before anything relies on it."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any


def write(path: Path, fill: Callable[[Path], object]) -> None:
    """Let `fill` write a hidden file beside `path`, and give it that name once it is on the disk.

    Readers see the old file or the new one, also after a kill or a power failure at any moment; when `fill`
    raises, the old file stays and the hidden one is removed.

    Parameters
    ----------
    path : Path
        The file to write; its folder exists.
    fill : callable
        Called with the path to write to, `.NAME.part` in the same folder.

    Raises
    ------
    OSError
        If the file cannot be written.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "note.txt"
    >>> write(path, lambda part: part.write_text("whole"))
    >>> path.read_text(), [file.name for file in path.parent.iterdir()]
    ('whole', ['note.txt'])
    """
    part = part_of(path)
    try:
        fill(part)
        publish(part, path)
    except BaseException:
        with suppress(OSError):
            part.unlink()
        raise


def part_of(path: Path) -> Path:
    """Return the hidden file beside `path` that is written before it gets that name."""
    return path.with_name(f".{path.name}.part")


def publish(part: Path, path: Path) -> None:
    """Give a file that is written completely its final name, once it is on the disk.

    Called by `write`; by itself only where the filling is a collective act of all ranks.
    """
    _sync(part)
    os.replace(part, path)
    try:
        _sync(path.parent)
    except OSError as error:  # some network file systems have no such thing for folders
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise


def write_text(path: Path, text: str) -> None:
    """Write `text` as UTF-8; see `write`."""
    write(path, lambda part: part.write_text(text, encoding="utf-8"))


def write_json(path: Path, content: Any, **options: Any) -> None:
    """Write what `json.dumps` makes of `content` with its `options`; see `write`."""
    write_text(path, json.dumps(content, **options))


def _sync(path: Path) -> None:
    """Have the system put a file, or a folder's list of names, on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
