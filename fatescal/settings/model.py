"""Section `model`: one class for each kind of forward model."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from fatescal.settings.base import Positive, Section


class Canopy(Section):
    """The embedded land model (`fatescal.forward.canopy`)."""

    kind: Literal["canopy"]
    forcing: str = "synthetic"
    start: date
    end: date
    spinup_years: Annotated[int, Field(ge=0)] = 1

    @model_validator(mode="after")
    def _in_order(self) -> Canopy:
        if self.end <= self.start:
            raise ValueError(f"model.end {self.end} is not after model.start {self.start}")
        return self


class Command(Section):
    """Any executable that reads a parameter file and leaves a netCDF file."""

    kind: Literal["command"]
    command: Annotated[list[str], Field(min_length=1)]
    parameters_file: str = "parameters.json"
    output: str = "output.nc"
    timeout: str | Positive | None = None
    calendar: str = "standard"


class ExternalModel(BaseModel):
    """A forward model from another package (entry point group `fatescal.forward_models`)."""

    model_config = ConfigDict(extra="allow", frozen=True)
    kind: str


def _model_kind(value: Any) -> Any:
    """Choose the model's settings by its kind, so that errors speak of that kind alone."""
    if not isinstance(value, dict) or "kind" not in value:
        raise ValueError("model needs `kind`: canopy, command or a kind from an installed package")
    known: dict[str, type[BaseModel]] = {"canopy": Canopy, "command": Command}
    return known.get(str(value["kind"]), ExternalModel).model_validate(value)


Model = Annotated[Canopy | Command | ExternalModel, BeforeValidator(_model_kind)]
