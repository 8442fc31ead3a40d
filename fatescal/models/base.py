"""What a forward model must offer, and what it may offer beside."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np

from fatescal.storage.inputs import Sources
from fatescal.base.types import Array
from fatescal.storage.records import KalmanInfo, KalmanState, Observations, Surrogate, TrainingSet

if TYPE_CHECKING:
    import xarray as xr



@runtime_checkable
class ForwardModel(Protocol):
    """A model of the land surface, one run per member folder.

    Attributes
    ----------
    defaults : mapping of str to float
        The model's own value of every parameter it knows, named as in `parameters.json`.
    pfts : sequence of str
        Names of the plant functional types it knows; empty where it has none.
    calendar : str
        CF calendar of its output.
    description : mapping
        All that decides the output of a run beside `theta`: a finished member is reused only
        while this is unchanged.
    """

    @property
    def defaults(self) -> Mapping[str, float]: ...
    @property
    def pfts(self) -> tuple[str, ...]: ...
    @property
    def calendar(self) -> str: ...
    @property
    def description(self) -> Mapping[str, object]: ...

    def check(self) -> None:
        """Raise `BadInput` for whatever would make every run fail."""

    def run(self, theta: Mapping[str, float], folder: Path) -> float | None:
        """Run in `folder` (empty, exists); idempotent; raise `ModelFailed` when the model fails.

        Returns the seconds it took, where that is not the time of this call.
        """

    def read(self, folder: Path) -> xr.Dataset:
        """Return the output of a finished run: variables with ``units``, a ``time`` coordinate."""


@runtime_checkable
class ReadsFiles(Protocol):
    """A forward model that tells which files it reads; of others those count that their options name."""

    def files(self) -> Sources:
        """Return the files that decide the output of its runs, by the key of the config that names them.

        Keys begin with `model.`; a folder stands for all files below it. A file of which only a part counts
        is given as `inputs.Text`. Asked at every start: it must not depend on what runs have left.
        """


@runtime_checkable
class Foresighted(Protocol):
    """A forward model that can tell more than `check` does, before it runs."""

    def told(self, runs: int, warm: int, waves: int) -> list[str]:
        """Return lines for the user: what was looked at, and the cost of `runs` members, `waves` one after another.

        `warm` of them may start from their own state one iteration before.
        """

    def disk(self, runs: int, warm: int) -> float:
        """Return how many bytes they leave."""

    def check_values(self, theta: Mapping[str, float]) -> None:
        """Raise `BadInput` for values the model must not get."""


@runtime_checkable
class Batched(Protocol):
    """A forward model that runs many members at once, by means of its own (a job in the queue).

    `run` then only brings a member's output into its folder, or raises what became of it.
    """

    def run_together(
        self, batch: Mapping[str, Mapping[str, float]], folder: Path, default: Mapping[str, float]
    ) -> None:
        """Run the members (names -> parameters) to their ends; called on one rank, again after an interruption.

        What they share is made before, with the `default` parameters. What they leave is kept under `folder`, the
        stage's, until `run` asks for it.
        """


@runtime_checkable
class Prepared(Protocol):
    """A forward model with runs to make before its members (see `preparation`).

    Attributes
    ----------
    shares_spin_up : bool
        Whether all members start from one spin-up with default parameters.
    """

    @property
    def shares_spin_up(self) -> bool: ...

    def spin_up(self, theta: Mapping[str, float], folder: Path) -> None:
        """Run up to the first day of the output, in `folder`, and leave the state there."""

    def try_out(self, theta: Mapping[str, float], folder: Path) -> None:
        """Run the shortest time in which a parameter that matters must show, in `folder`."""

    def read(self, folder: Path) -> xr.Dataset:
        """Return the output of a `try_out`."""




