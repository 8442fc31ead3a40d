"""Models of other packages that were written before there was the class `Model`, and do not inherit it."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fatescal.models.base import Model
from fatescal.storage.inputs import Sources

if TYPE_CHECKING:
    import xarray as xr

NAMES = ("defaults", "units", "pfts", "numbers_pfts", "outputs", "period", "calendar", "needed_later")


class Adapted(Model):
    """An object with `description`, `run(theta, folder)`, `read` and whatever else of a model it has.

    What it lacks has the default of `Model`.

    Parameters
    ----------
    inner : object
        The model as its package makes it.
    """

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    @property
    def identity(self) -> Mapping[str, object]:
        return self._inner.description

    @property
    def source(self) -> Path | None:
        name = sys.modules[type(self._inner).__module__].__file__
        return None if name is None else Path(name)

    def files(self) -> Sources | None:
        return self._inner.files() if hasattr(self._inner, "files") else None

    def check(self) -> None:
        self._inner.check()

    def check_values(self, theta: Mapping[str, float]) -> None:
        if hasattr(self._inner, "check_values"):
            self._inner.check_values(theta)

    def describe(self, n_runs: int, n_warm_starts: int, n_waves: int) -> list[str]:
        has = hasattr(self._inner, "told")
        return list(self._inner.told(n_runs, n_warm_starts, n_waves)) if has else []

    def disk_estimate(self, n_runs: int, n_warm_starts: int) -> float | None:
        return self._inner.disk(n_runs, n_warm_starts) if hasattr(self._inner, "disk") else None

    def run(self, theta: Mapping[str, float], folder: Path, warm_start: Path | None = None) -> float | None:
        return self._inner.run(theta, folder)

    def read(self, folder: Path) -> xr.Dataset:
        return self._inner.read(folder)


def _forwarded(name: str) -> property:
    default = getattr(Model, name)

    def value(self: Adapted) -> Any:
        return getattr(self._inner, name) if hasattr(self._inner, name) else default.fget(self)

    return property(value, doc=default.__doc__)


for _name in NAMES:
    setattr(Adapted, _name, _forwarded(_name))
