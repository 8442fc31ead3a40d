"""What all designs are: where the members of the first ensemble lie, in the coordinates u."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from fatescal.base.families import Choice
from fatescal.base.types import Array
from fatescal.parameters.space import ParameterSpace


class Design(Choice):
    """A design of the first ensemble.

    Attributes
    ----------
    of_prior : bool
        Whether the members are distributed as the prior says, as a Kalman update takes for granted.
    """

    of_prior: ClassVar[bool] = False

    def ensemble(self, space: ParameterSpace, n_members: int, seed: int, folder: Path) -> Array:
        """Return the coordinates (J, P) of the first ensemble.

        Parameters
        ----------
        space : ParameterSpace
            The P calibrated parameters.
        n_members : int
            J, without the default run.
        seed : int
            `run.seed` of the config; random numbers come from `random_streams.stream(seed, ...)`, so that
            they depend on nothing else.
        folder : Path
            The config's folder, which relative paths begin at.
        """
        raise NotImplementedError

    def files(self, folder: Path) -> list[Path]:
        """Return the files that decide the members."""
        return []

    @property
    def written(self) -> Any:
        """The design as a config has it: its kind alone where all options have their defaults."""
        options = self.model_dump(mode="json", exclude_defaults=True)
        return self.kind if set(options) <= {"kind"} else {"kind": self.kind, **options}
