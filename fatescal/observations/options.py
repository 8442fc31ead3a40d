"""Section `observations`: the data and their errors."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator

from fatescal.base.options import Finite, Positive, Section, wrong_name
from fatescal.observations.noise import ErrorModel
from fatescal.observations.readers.registry import Format
from fatescal.parameters.truth import TruthValue


class QualitySection(Section):
    """Measurements count where `column` is at most `max` (a flag, a gap-filled share) or at least `min`."""

    column: str | None = None
    """Column of the quality; without it that of the file for the variable, by attribute or name (NAME_qc)."""
    max: Finite | None = None
    min: Finite | None = None

    @model_validator(mode="after")
    def _bounded(self) -> QualitySection:
        if self.max is None and self.min is None:
            raise ValueError("qc needs `max` (flags, gap-filled shares) or `min` (shares of good data)")
        return self


class VariableSection(Section):
    """One observed variable and its counterpart in the model's output."""

    model: str
    unit: str | None = None  # of the column; may be left out where the format or the file's header tells
    error: ErrorModel
    column: str | None = None
    compare_in: str | None = (
        None  # unit of the comparison and of the error, if it isn't the column's; a rate sums amounts
    )
    temperature: str | None = None  # column of the latent heat's temperature [degC]
    qc: QualitySection | None = None
    min_valid: Annotated[float, Field(gt=0, le=1)] | None = None


class SyntheticSection(Section):
    """Observations made from a model run at `truth` plus noise of the error model, or a multiple of it,
    or none.
    """

    truth: dict[str, Annotated[TruthValue | dict[str | int, TruthValue], Field(union_mode="left_to_right")]]
    noise: Literal[False] | Positive | None = None  # None: as the error model says
    seed: Annotated[int, Field(ge=0)] | None = None  # of the noise; None: that of the run


def _listed(value: object) -> object:
    """A single value as a list of it."""
    return value if isinstance(value, (list, tuple)) else [value]


class ObservationsSection(Section):
    window: str = "1D"
    calibration: tuple[date, date]
    validation: tuple[date, date] | None = None
    fold: tuple[int, int] | None = None  # (i, k), as `--fold i/k` sets it
    variables: Annotated[dict[str, VariableSection], Field(min_length=1)]
    synthetic: SyntheticSection | None = None
    file: str | None = None
    format: Format | None = None
    """Format of the file by its name, or with its options `{kind: NAME, ...}`; found out without it."""
    time_column: str | Annotated[tuple[str, ...], Field(min_length=1)] | None = (
        None  # several make up the time
    )
    time_stamp: Literal["start", "middle", "end"] | None = None  # where it stands in its interval
    time_format: str | None = None  # as strptime has it, where the table does not tell
    time_zone: str | None = None
    missing: Annotated[tuple[Finite | str, ...], BeforeValidator(_listed)] = ()  # values that mean missing
    not_missing: Annotated[tuple[Finite, ...], BeforeValidator(_listed)] = ()  # ... that do not, but look so
    min_valid: Annotated[float, Field(gt=0, le=1)] = 0.5
    outliers: Literal["refuse", "drop", "keep"] = "refuse"  # windows far outside all others of their variable

    @field_validator("variables")
    @classmethod
    def _names_that_files_hold(cls, variables: dict[str, VariableSection]) -> dict[str, VariableSection]:
        for name in variables:
            if wrong := wrong_name(name):
                raise ValueError(
                    f"the variable's name {name!r} cannot be used: {wrong}; call it by letters and digits"
                )
        return variables

    @model_validator(mode="after")
    def _one_source(self) -> ObservationsSection:
        if (self.synthetic is None) == (self.file is None):
            raise ValueError("give exactly one of `file` and `synthetic`")
        measured = [name for name, v in self.variables.items() if v.error.measured is not None]
        if self.synthetic is not None and measured:
            raise ValueError(f"{measured[0]}: a synthetic truth has no column of uncertainties")
        unitless = [name for name, v in self.variables.items() if v.unit is None]
        if self.synthetic is not None and unitless:
            raise ValueError(f"{unitless[0]} needs a `unit`")
        if self.synthetic is not None:
            ruled = [name for name, v in self.variables.items() if v.error.rule]
            if ruled:
                raise ValueError(
                    f"{ruled[0]}: a synthetic truth has no measured quantile; give `random` a number"
                )
        for name, period in (("calibration", self.calibration), ("validation", self.validation)):
            if period is not None and period[1] < period[0]:
                raise ValueError(f"{name} period is reversed: {period[0]} to {period[1]}")
        return self
