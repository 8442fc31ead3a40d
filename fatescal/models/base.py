"""What a model is: all that the program asks of one, each with a default, and what it is told in return."""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

from fatescal.storage.inputs import Sources

if TYPE_CHECKING:
    import xarray as xr

SPIN_UP = "spin-up"  # the folder, in that of the preparation, of the spin-up that all members share


class Model(ABC):
    """A model of the land surface, one run per member folder.

    `identity`, `run` and `read` must be given; of all else the defaults here hold for a model of which nothing
    more is known. An attribute may be overridden by a class attribute, a property or a cached property.
    """

    @property
    def defaults(self) -> Mapping[str, float]:
        """The model's own value of every parameter it knows, by its name; empty where it tells none."""
        return {}

    @property
    def units(self) -> Mapping[str, str]:
        """The unit of every parameter that has one."""
        return {}

    @property
    def pfts(self) -> tuple[str, ...]:
        """Names of the plant functional types it knows; empty where it has none."""
        return ()

    @property
    def numbers_pfts(self) -> bool:
        """Whether a config may call these by their number, from 1."""
        return False

    @property
    def outputs(self) -> Mapping[str, str]:
        """The unit of every variable that it writes, by name; empty where that is not known before a run."""
        return {}

    @property
    def period(self) -> tuple[date, date] | None:
        """The first and the last day of the output; None where they are not known before a run."""
        return None

    @property
    def calendar(self) -> str:
        """CF calendar of the output."""
        return "standard"

    @property
    @abstractmethod
    def identity(self) -> Mapping[str, object]:
        """All that decides the output of a run beside its parameters and the content of its `files`.

        It can be written as JSON; a finished member is reused only while it is unchanged.
        """

    def files(self) -> Sources | None:
        """Return the files that decide the output of its runs, by the key of the config that names them.

        Keys begin with `model.`; a folder stands for all files below it. A file of which only a part counts
        is given as `inputs.Text`. Asked at every start: it must not depend on what runs have left. None: the
        model does not tell, and those count that its options name, with `source`.
        """
        return None

    @property
    def source(self) -> Path | None:
        """The file of the model's own source."""
        name = sys.modules[type(self).__module__].__file__
        return None if name is None else Path(name)

    def check(self) -> None:
        """Raise `BadInput` for whatever would make every run fail."""

    def check_values(self, theta: Mapping[str, float]) -> None:
        """Raise `BadInput` for values the model must not get: asked of the default, and far into the priors."""

    def describe(self, n_runs: int, n_warm_starts: int, n_waves: int) -> list[str]:
        """Return lines for the user: what `check` looked at, and the cost of the runs.

        Parameters
        ----------
        n_runs : int
            How many members will run, `n_waves` of them one after another.
        n_warm_starts : int
            How many of them have the same member in an iteration before theirs.
        """
        return []

    def disk_estimate(self, n_runs: int, n_warm_starts: int) -> float | None:
        """Return how many bytes they leave; None where that is known only once some have run."""
        return None

    @abstractmethod
    def run(self, theta: Mapping[str, float], folder: Path, warm_start: Path | None = None) -> float | None:
        """Run one member.

        Parameters
        ----------
        theta : mapping of str to float
            All parameters that the config names, and those that follow from them.
        folder : Path
            Where to run: it exists, is empty, and is renamed when the run is complete.
        warm_start : Path, optional
            The finished folder of the same member one iteration before, for a model with `warm_starts`.

        Returns
        -------
        float or None
            The seconds it took, where that is not the time of this call.

        Raises
        ------
        ModelFailed
            When the model fails, with the cause.
        """

    @abstractmethod
    def read(self, folder: Path) -> xr.Dataset:
        """Return the output of a finished run: variables with ``units``, a ``time`` coordinate."""

    @property
    def warm_starts(self) -> bool:
        """Whether a member starts from its own state one iteration before."""
        return False

    @property
    def needed_later(self) -> tuple[str, ...]:
        """Patterns of the files of a finished member from which another one starts."""
        return ()

    @property
    def makes_effect_runs(self) -> bool:
        """Whether `effect_run` is cheaper than a member, and made for each parameter before all members."""
        return False

    def effect_run(self, theta: Mapping[str, float], folder: Path) -> None:
        """Run the shortest time in which a parameter that matters must show, in `folder`."""
        raise NotImplementedError

    @property
    def shares_spin_up(self) -> bool:
        """Whether `spin_up` is called once, with default parameters, for all members to start from."""
        return False

    def spin_up(self, theta: Mapping[str, float], folder: Path) -> None:
        """Run up to the first day of the output, in `folder`, and leave the state there."""
        raise NotImplementedError

    @property
    def runs_together(self) -> bool:
        """Whether members run many at once by means of the model's own (a job in the queue).

        Then `run_together` and `collect` are called in place of `run`.
        """
        return False

    def run_together(
        self, batch: Mapping[str, Mapping[str, float]], folder: Path, default: Mapping[str, float]
    ) -> None:
        """Run members to their ends; called on one rank, again after an interruption.

        Parameters
        ----------
        batch : mapping of str to mapping
            Parameters of each member, by its name.
        folder : Path
            The stage's; what the members leave is kept below it until `collect` asks for it.
        default : mapping of str to float
            The parameters with which is made, before, what all members share.
        """
        raise NotImplementedError

    def collect(self, name: str, theta: Mapping[str, float], stage: Path, folder: Path) -> float:
        """Bring what `run_together` left of a member in the folder of its stage into a folder of its own.

        Returns
        -------
        float
            The seconds that it took.

        Raises
        ------
        ModelFailed
            With what became of it.
        """
        raise NotImplementedError
