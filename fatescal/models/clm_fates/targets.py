"""Where the calibrated parameters stand: the FATES parameter file, keys of `lnd_in`, or CLM's parameter file.

A name is looked for in that order: what is a key of the namelist is not read from CLM's file any more, or not
yet, though versions of the file hold it all the same (``maximum_leaf_wetted_fraction``).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from fatescal.base.errors import ModelFailed, Status
from fatescal.models.clm_fates import namelist, parameter_file
from fatescal.models.clm_fates.template import Template

BEYOND = 10.0  # times the smallest and largest default of any plant type


@dataclass(frozen=True)
class Targets:
    """The three files."""

    fates: parameter_file.ParameterFile
    scalars: Mapping[str, float]
    clm: parameter_file.ParameterFile

    @classmethod
    def of(cls, template: Template, fates: Path | None) -> Targets:
        """Return the targets of a case; `fates` replaces its FATES parameter file."""
        return cls(
            parameter_file.read(fates or template.path("fates_paramfile")),
            namelist.numbers(template.lnd_in),
            parameter_file.read(template.path("paramfile")),
        )

    @property
    def pfts(self) -> tuple[str, ...]:
        """FATES's plant functional types."""
        return self.fates.pfts

    @cached_property
    def defaults(self) -> dict[str, float]:
        """Every parameter and its value: the first place that knows a name counts."""
        return {**self.clm.defaults, **self.scalars, **self.fates.defaults}

    @cached_property
    def units(self) -> dict[str, str]:
        """The unit of every parameter that has one."""
        return {**self.clm.units, **self.fates.units}

    @cached_property
    def identity(self) -> str:
        """A digest of the two files."""
        contents = b"\0".join(hashlib.sha256(f.path.read_bytes()).digest() for f in (self.fates, self.clm))
        return hashlib.sha256(contents).hexdigest()

    def write(self, theta: Mapping[str, float], folder: Path) -> dict[str, namelist.Value]:
        """Write a member's own files.

        Returns the changes of `lnd_in` that point there, or are the value itself.

        Raises
        ------
        ModelFailed
            For a value without meaning, which the model would run with and report success.
        """
        self.require_possible(theta)
        changes: dict[str, namelist.Value] = {}
        for key, file in (("fates_paramfile", self.fates), ("paramfile", self.clm)):
            mine = {name: value for name, value in theta.items() if self._owner(name) is file}
            if mine or key == "fates_paramfile":
                target = folder / f"{key}{file.path.suffix}"
                file.write(target, mine)
                changes[key] = str(target)
        return changes | {name: value for name, value in theta.items() if self._owner(name) is self.scalars}

    def files(self, theta: Mapping[str, float], folder: Path) -> list[Path]:
        """Write parameters for use in a case by hand: the parameter files, and `user_nl_clm` that names them.

        Parameters
        ----------
        theta : mapping of str to float
            By flat name.
        folder : Path
            Where to write; paths in `user_nl_clm` are relative to it.

        Raises
        ------
        ModelFailed
            As `write`.
        """
        changes = self.write(theta, folder)
        written = [Path(value) for value in changes.values() if isinstance(value, str)]
        named = {k: Path(v).name if isinstance(v, str) else v for k, v in changes.items()}
        lines = [f"{key} = {namelist.fortran(value)}\n" for key, value in named.items()]
        note = folder / "user_nl_clm"
        note.write_text("! Parameters by fatescal; give whole paths of the files.\n" + "".join(lines))
        return [*written, note]

    def require_possible(self, theta: Mapping[str, float]) -> None:
        """Raise `ModelFailed` for a value that no plant type comes near.

        The model would run, and report success.

        It must be finite, have the sign that the parameter has in the file, and be within `BEYOND` times the
        smallest and largest value there.
        """
        for name, value in theta.items():
            low, high = self._range(name)
            if not low <= value <= high:
                raise ModelFailed(
                    Status.MODEL_ERROR,
                    f"{name} = {value:g} is not possible. Expected {low:g} to {high:g}: the sign of the "
                    f"values in the parameter file, within {BEYOND:g} times the range of all plant types "
                    "there",
                )

    def _range(self, name: str) -> tuple[float, float]:
        owner = self._owner(name)
        family = owner.family(name) if isinstance(owner, parameter_file.ParameterFile) else [owner[name]]
        values = np.asarray(family)
        least, most = float(np.abs(values).min()) / BEYOND, float(np.abs(values).max()) * BEYOND
        if (values > 0).all():
            return least, most
        if (values < 0).all():
            return -most, -least
        return (-most, most) if most > 0 else (-math.inf, math.inf)

    def _owner(self, name: str) -> parameter_file.ParameterFile | Mapping[str, float]:
        if name in self.fates.defaults:
            return self.fates
        return self.scalars if name in self.scalars else self.clm
