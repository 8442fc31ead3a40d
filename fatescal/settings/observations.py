"""Section `observations`: the evidence and its errors."""

from __future__ import annotations

from datetime import date
from typing import Annotated

from pydantic import Field, model_validator

from fatescal.settings.base import Finite, Positive, Section


class Error(Section):
    """Error of one window's value, in the variable's unit."""

    sd: Positive


class Variable(Section):
    """One observed variable and its counterpart in the model's output."""

    model: str
    unit: str
    error: Error
    column: str | None = None


class Scale(Section):
    """The truth as a multiple of the default."""

    scale: Positive


TruthValue = Annotated[Scale | Finite, Field(union_mode="left_to_right")]


class Synthetic(Section):
    """Observations made from a model run at `truth` plus noise of the error model."""

    truth: dict[str, Annotated[TruthValue | dict[str | int, TruthValue], Field(union_mode="left_to_right")]]


class Observations(Section):
    window: str = "1D"
    calibration: tuple[date, date]
    validation: tuple[date, date] | None = None
    variables: Annotated[dict[str, Variable], Field(min_length=1)]
    synthetic: Synthetic | None = None
    file: str | None = None
    time_column: str | None = None
    min_valid: Annotated[float, Field(gt=0, le=1)] = 0.5

    @model_validator(mode="after")
    def _one_source(self) -> Observations:
        if (self.synthetic is None) == (self.file is None):
            raise ValueError("give exactly one of `file` and `synthetic`")
        if self.file is not None and self.time_column is None:
            raise ValueError("`file` needs `time_column`, the name of the column with the time")
        for name, period in (("calibration", self.calibration), ("validation", self.validation)):
            if period is not None and period[1] < period[0]:
                raise ValueError(f"{name} period is reversed: {period[0]} to {period[1]}")
        return self
