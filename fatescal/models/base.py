"""What a model is: its options in the config, what the program gives it, and all that the program asks of it.

A model is two classes, or one. `ModelOptions` holds the keys of its section of the config; what it makes
from these and a `Context` is a `Model`, its own or one that is here already (`command.Command`).
"""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

from pydantic import ValidationError, model_validator

from fatescal.base.errors import did_you_mean
from fatescal.base.options import Section, merged
from fatescal.hpc.launch import HIDDEN_PREFIXES, never, require_launcher
from fatescal.models.verb import Verb
from fatescal.storage import atomic
from fatescal.storage.inputs import Sources

if TYPE_CHECKING:
    import xarray as xr

SPIN_UP = "spin-up"  # the folder, in that of the preparation, of the spin-up that all members share


@dataclass(frozen=True)
class Context:
    """What the program tells a model, beside its options.

    Attributes
    ----------
    folder : Path
        Where the config is: paths in it begin there.
    run : Path
        Where the run is, `run.directory`.
    preparation : Path
        The folder of what is made before all members at this site.
    variables : tuple of str
        What is compared with observations, by the model's names.
    timeout : str or float, optional
        The machine's time limit of one run, ``"12 h"`` or seconds; the model's own takes precedence.
    launcher : tuple of str
        Arguments put before a command that is a member.
    hide : tuple of str
        Prefixes of the environment variables that a member must not see.
    retries : int
        How often what another attempt may cure is tried again.
    stop : callable
        Called while a member runs; when it returns True the run is given up with `OutOfTime`.
    machine : mapping of str to Section
        The sections of the machine file that models have declared.
    """

    folder: Path
    run: Path
    preparation: Path
    variables: tuple[str, ...] = ()
    timeout: str | float | None = None
    launcher: tuple[str, ...] = ()
    hide: tuple[str, ...] = HIDDEN_PREFIXES
    retries: int = 1
    stop: Callable[[], bool] = never
    machine: Mapping[str, Section] = field(default_factory=dict)

    def path(self, text: str) -> Path:
        """Return a path of the config, relative ones from the config's folder."""
        return (self.folder / text).resolve()

    def launching(self, timeout: str | float | None = None) -> dict[str, Any]:
        """Return the keywords with which `launch` starts a member; the model's own `timeout` counts first.

        Raises
        ------
        BadInput
            If the machine's launcher is not found.
        """
        require_launcher(self.launcher)
        limit = self.timeout if timeout is None else timeout
        return {"timeout": limit, "hide": self.hide, "launcher": self.launcher, "stop": self.stop}


class ModelOptions(Section):
    """Section `model` of the config; a kind of model declares its `kind` as a literal, and its own keys."""

    machine_sections: ClassVar[Mapping[str, type[Section]]] = {}
    """Sections of the machine file that this kind reads, by name."""
    verbs: ClassVar[Sequence[Verb]] = ()
    """Verbs of the command line that this kind brings."""

    fallback: dict[str, Any] | None = None
    """Options that replace the model's own where a member has failed with those."""
    kind: str
    """Which model."""

    def make(self, context: Context) -> Model:
        """Return the model.

        Raises
        ------
        BadInput
            For options that cannot be.
        """
        raise NotImplementedError

    def located(self, context: Context) -> Self:
        """Return the options with what is looked up once (by another program, on the web); on root."""
        return self

    def sources(self, model: Model) -> Sources | None:
        """Return the `files` of the model that was made, by the keys under which this config names them."""
        return model.files()

    def conflict(self, other: ModelOptions) -> str:
        """Return why a site cannot have these options beside another with those, '' where it can."""
        return ""

    @property
    def runs_together(self) -> bool:
        """As `Model.runs_together`, before the model is made."""
        return False

    @property
    def warm_starts(self) -> bool:
        """As `Model.warm_starts`, where there is no model: in the report."""
        return False

    @property
    def alternative(self) -> Self | None:
        """The options with the fallback's; None where there is no fallback."""
        if self.fallback is None:
            return None
        return type(self).model_validate(merged(self.model_dump(exclude={"fallback"}), self.fallback))

    @model_validator(mode="after")
    def _alternative_is_possible(self) -> Self:
        known = [key for key in type(self).model_fields if key not in ("kind", "fallback")]
        for key in self.fallback or ():
            if key in ("kind", "fallback") or (key not in known and self.model_config["extra"] == "forbid"):
                hint = did_you_mean(key, known) or f"known here: {', '.join(known)}"
                raise ValueError(f"model.fallback.{key}: unknown key; {hint}")
        try:
            _ = self.alternative
        except ValidationError as error:
            mistake = error.errors()[0]
            where = ".".join(map(str, ("model.fallback", *mistake["loc"])))
            raise ValueError(f"{where}: {mistake['msg']}") from None
        return self


class Model(ABC):
    """A model of the land surface, one run per member folder.

    `identity`, `run` and `read` must be given; of all else the defaults here hold for a model of which
    nothing more is known. Class attributes, properties and cached properties may override them.
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

    def check(self) -> None:  # noqa: B027 - nothing to check is a default as any other
        """Raise `BadInput` for whatever would make every run fail."""

    def check_values(self, theta: Mapping[str, float]) -> None:  # noqa: B027
        """Raise `BadInput` for values the model must not get.

        Asked of the default, and of both ends of the priors.
        """

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

    def parameter_files(self, theta: Mapping[str, float], folder: Path) -> list[Path]:
        """Write parameters, `theta` as of `run`, as the model reads them into an empty folder; return the
        files."""
        path = folder / "parameters.json"
        atomic.write_json(path, dict(theta), indent=1)
        return [path]

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
