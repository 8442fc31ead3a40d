"""Whether a file system is full, which those who meet it seldom say."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

NEARLY_FULL = 16 * 2**20  # bytes that are left on a file system which counts as full


def require_space(folder: Path) -> None:
    """Raise ENOSPC where the file system is full: who met it (a model, MPI's part of HDF5) need not say
    so.
    """
    if shutil.disk_usage(folder).free < NEARLY_FULL:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder))


@contextmanager
def space_blamed(folder: Path) -> Iterator[None]:
    """Give a failure to write its reason, which HDF5 hides in its text, and MPI-IO does not hand on."""
    try:
        yield
    except OSError as error:
        if error.errno in (None, errno.ENOSPC):
            require_space(folder)
        raise
