"""A machine file (`machines/*.yaml`): what differs between clusters, and decides no result."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field, model_validator

from fatescal.settings.base import Positive, Section


class Cime(Section):
    """What CIME is told when a case is made (`fatescal build`)."""

    machine: str
    compiler: str | None = None
    project: str | None = None
    output_root: str | None = None
    inputdata: str | None = None


class Machine(Section):
    """What a run is told about the machine it is on; `machines/template.yaml` explains every key."""

    modules: str = ""  # loaded by the job scripts, before any Python
    scratch: Path | None = None
    launcher: tuple[str, ...] = ()
    hide: tuple[str, ...] | None = None
    timeout: str | Positive | None = None
    retries: Annotated[int, Field(ge=0)] = 1
    cime: Cime | None = None

    @model_validator(mode="after")
    def _launcher_sees_its_variables(self) -> Machine:
        srun = bool(self.launcher) and Path(self.launcher[0]).name == "srun"
        if srun and (self.hide is None or any("SLURM_".startswith(prefix) for prefix in self.hide)):
            raise ValueError("`launcher: [srun ...]` needs the SLURM_ variables: give `hide` without SLURM_")
        return self
