"""A whole config."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from fatescal.settings.base import Section
from fatescal.settings.machine import Machine
from fatescal.settings.model import Model
from fatescal.settings.observations import Observations
from fatescal.settings.parameters import Correlations, Parameter
from fatescal.settings.stages import Calibrate, Emulate, Posterior, Sample


class Run(Section):
    """Name, place and seed of the run."""

    name: Annotated[str, Field(pattern=r"^[\w.-]+$")]
    directory: Path
    seed: Annotated[int, Field(ge=0)] = 1


class Settings(Section):
    """A whole config."""

    run: Run
    model: Model
    parameters: Annotated[dict[str, Parameter], Field(min_length=1)]
    correlations: Correlations | None = None
    observations: Observations
    calibrate: Calibrate
    emulate: Emulate = Emulate()
    sample: Sample = Sample()
    posterior: Posterior

    folder: Path = Field(default=Path(), exclude=True)  # of the config file
    machine: Machine = Field(default=Machine(), exclude=True)  # decides no result, so is not kept with it

    def path(self, text: str) -> Path:
        """Return a path of the config, relative ones from the config's folder."""
        return (self.folder / text).resolve()

    def on(self, machine: Machine) -> Settings:
        """Return the settings on a machine: a relative `run.directory` is below its scratch folder, if it has one."""
        directory = (machine.scratch or Path()) / self.run.directory
        run = self.run.model_copy(update={"directory": directory})
        return self.model_copy(update={"machine": machine, "run": run})

    def folded(self, number: int, n_folds: int) -> Settings:
        """Return the settings of one fold of a cross-validation, a run of its own below the run's directory."""
        words = f"fold-{number}-of-{n_folds}"
        run = {"name": f"{self.run.name}-{words}", "directory": self.run.directory / words}
        observations = {"fold": (number, n_folds)}
        return self.model_copy(
            update={
                "run": self.run.model_copy(update=run),
                "observations": self.observations.model_copy(update=observations),
            }
        )

    def plain(self) -> dict[str, Any]:
        """Return the settings as plain JSON-able values, without the config's folder."""
        return self.model_dump(mode="json")
