"""The versions of all that can change a result's bits."""

from __future__ import annotations

import platform
import subprocess
from importlib.metadata import version
from pathlib import Path

from fatescal import __version__


def versions() -> dict[str, str]:
    """Return the versions of all that can change a result's bits."""
    packages = (
        "numpy",
        "scipy",
        "numba",
        "h5py",
        "mpi4py",
        "xarray",
        "netCDF4",
        "arviz-stats",
    )
    return {
        "fatescal": __version__,
        "git": _git_hash(),
        "python": platform.python_version(),
        **{name: version(name) for name in packages},
    }


def _git_hash() -> str:
    """Return the commit fatescal runs from, `unknown` outside a checkout."""
    folder = Path(__file__).parent
    try:
        described = subprocess.run(
            ["git", "-C", str(folder), "describe", "--always", "--dirty", "--exclude=*"],
            capture_output=True,
            text=True,
            timeout=5,
        )
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"
    return described.stdout.strip() or "unknown"
