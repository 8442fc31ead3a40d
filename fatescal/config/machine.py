"""A machine file (`machines/*.yaml`): what differs between clusters, and decides no result."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from fatescal.base.options import Number, Positive, Section, Whole
from fatescal.hpc.schedulers.registry import SCHEDULERS


class Cime(Section):
    """What CIME is told when a case is made (`fatescal build`)."""

    machine: str
    compiler: str | None = None
    project: str | None = None
    output_root: str | None = None
    inputdata: str | None = None


class Straggler(Section):
    """When a member is given up that takes much longer than the others of its batch
    (`fatescal.ensemble.stragglers`)."""

    factor: Annotated[Number, Field(gt=1, allow_inf_nan=False)] = 5.0
    share: Annotated[Number, Field(ge=0.5, lt=1)] = 0.8
    least: str | Positive = "1 min"


class Machine(Section):
    """What a run is told about the machine it is on; `machines/template.yaml` explains every key."""

    modules: str = ""  # loaded by the job scripts, before any Python
    scratch: Path | None = None
    launcher: tuple[str, ...] = ()
    hide: tuple[str, ...] | None = None
    timeout: str | Positive | None = None
    retries: Annotated[Whole, Field(ge=0)] = 1
    cime: Cime | None = None
    straggler: Straggler | None = None
    keep: Literal["all", "predictions"] = "all"

    @model_validator(mode="after")
    def _launcher_sees_its_variables(self) -> Machine:
        program = Path(self.launcher[0]).name if self.launcher else ""
        for prefix in {p for c in SCHEDULERS.values() if program in c.launchers for p in c.variables}:
            if self.hide is None or any(prefix.startswith(hidden) for hidden in self.hide):
                raise ValueError(
                    f"`launcher: [{program} ...]` needs the {prefix} variables: give `hide` without {prefix}"
                )
        return self
