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
    """Largest value that counts: of a flag, or of a gap-filled share."""
    min: Finite | None = None
    """Least value that counts: of a share of good data."""

    @model_validator(mode="after")
    def _bounded(self) -> QualitySection:
        if self.max is None and self.min is None:
            raise ValueError("qc needs `max` (flags, gap-filled shares) or `min` (shares of good data)")
        return self


class VariableSection(Section):
    """One observed variable and its counterpart in the model's output."""

    model: str
    """Name of the variable in the model's output."""
    unit: str | None = None
    """Unit of the column; may be left out where the format or the file's header tells it."""
    error: ErrorModel
    """Error of a window's value."""
    column: str | None = None
    """Name of the column; that of the variable without it."""
    compare_in: str | None = None
    """Unit of the comparison and of the error, where it is not the column's; a rate sums amounts."""
    temperature: str | None = None
    """Column of the temperature [degC] that latent heat is turned to water with."""
    qc: QualitySection | None = None
    """Which measurements count, by a column of their quality."""
    min_valid: Annotated[float, Field(gt=0, le=1)] | None = None
    """Share of a window that valid measurements must fill, of this variable."""


class SyntheticSection(Section):
    """Observations made from a model run at `truth` plus noise of the error model, or a multiple of it,
    or none.
    """

    truth: dict[str, Annotated[TruthValue | dict[str | int, TruthValue], Field(union_mode="left_to_right")]]
    """The true parameters, by name; the others have their defaults."""
    noise: Literal[False] | Positive | None = None
    """Multiple of the error model's noise, false for none; as the error model says without it."""
    seed: Annotated[int, Field(ge=0)] | None = None
    """Seed of the noise; that of the run without it."""


def _listed(value: object) -> object:
    """A single value as a list of it."""
    return value if isinstance(value, (list, tuple)) else [value]


class ObservationsSection(Section):
    window: str = "1D"
    """Averaging window: 1D, 7D, MS (month), 30min ..."""
    calibration: tuple[date, date]
    """First and last day of the calibration."""
    validation: tuple[date, date] | None = None
    """First and last day of the validation."""
    fold: tuple[int, int] | None = None
    """Fold i of k, as `--fold i/k` sets it."""
    variables: Annotated[dict[str, VariableSection], Field(min_length=1)]
    """The observed variables, by name."""
    synthetic: SyntheticSection | None = None
    """A known truth instead of a file."""
    file: str | None = None
    """The file of measurements."""
    format: Format | None = None
    """Format of the file by its name, or with its options `{kind: NAME, ...}`; detected without it."""
    time_column: str | Annotated[tuple[str, ...], Field(min_length=1)] | None = None
    """The column of the time; several make it up."""
    time_stamp: Literal["start", "middle", "end"] | None = None
    """Where the time stands in its interval."""
    time_format: str | None = None
    """Form of the times, as strptime has it, where the table does not tell."""
    time_zone: str | None = None
    """Zone of the times, as UTC+2; they are turned to UTC."""
    missing: Annotated[tuple[Finite | str, ...], BeforeValidator(_listed)] = ()
    """Values that mean missing."""
    not_missing: Annotated[tuple[Finite, ...], BeforeValidator(_listed)] = ()
    """Values that look as if they meant missing, and do not."""
    min_valid: Annotated[float, Field(gt=0, le=1)] = 0.5
    """Share of a window that valid measurements must fill."""
    outliers: Literal["refuse", "drop", "keep"] = "refuse"
    """What becomes of windows far outside all others of their variable."""

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
