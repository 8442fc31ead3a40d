"""An observed variable: its measurements in the unit of the comparison, and their uncertainties."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from fatescal.base.errors import BadInput
from fatescal.base.types import Array
from fatescal.observations import units
from fatescal.observations.noise import ErrorModel
from fatescal.observations.quality import QualityColumn
from fatescal.observations.window_means import Rows

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class ObservedVariable:
    """An observed variable: its `column` in the table ('' for synthetic truth), unit and error model."""

    name: str
    unit: str
    error: ErrorModel
    column: str = ""
    measured_in: str = ""  # the unit of the column, where it is another one
    temperature: str = ""  # the column [degC] that latent heat is computed with
    quality: QualityColumn | None = None
    min_valid: float | None = None  # where it isn't that of all variables

    @property
    def per_record(self) -> bool:
        """Whether the column holds amounts, each over its record, of what is compared as a rate."""
        return bool(self.measured_in) and units.per_record(self.measured_in, self.unit)

    @property
    def rate(self) -> str:
        """The unit of the column, of its amounts per second of their record."""
        return units.per_second(self.measured_in) if self.per_record else self.measured_in


def measurements(variable: ObservedVariable, table: pd.DataFrame) -> tuple[Array, Array]:
    """Return the values (N) of a variable in its unit, NaN where not valid, and which (N) its quality
    refuses.

    Where latent heat needs a temperature that is missing, the value is missing too.
    """
    values = table[variable.column].to_numpy(dtype=float)
    refused = np.zeros(len(values), dtype=bool)
    if variable.quality is not None:
        good = variable.quality.keeps(table[variable.quality.column].to_numpy())
        refused = np.isfinite(values) & ~good
        values = np.where(good, values, np.nan)
    if variable.measured_in:
        temperature = table[variable.temperature].to_numpy() if variable.temperature else np.array(20.0)
        if np.nanmedian(temperature) > 100.0:
            raise BadInput(
                f"{variable.temperature}, the temperature of {variable.name}'s latent heat", expected="degC",
                got=f"a median of {np.nanmedian(temperature):g}",
            )  # fmt: skip
        if variable.per_record:
            values = values / Rows.of(table).lengths
        values = units.convert(values, variable.rate, variable.unit, temperature)
    return values, refused


def uncertainties(variable: ObservedVariable, table: pd.DataFrame) -> Array:
    """Return the uncertainty (N, 1 sd) of each measurement in the unit of the variable, NaN where unknown.

    Zeros without a column of uncertainties. An uncertainty of zero is none: of an infinite weight nothing is
    known.

    Raises
    ------
    BadInput
        For negative uncertainties, and a unit that does not fit.
    """
    measured = variable.error.measured
    if measured is None:
        return np.zeros(len(table))
    column = measured.column
    sds = table[column].to_numpy(dtype=float)
    if (negative := sds < 0).any():
        raise BadInput(
            f"{column}, the uncertainty of {variable.name}, is {sds[negative][0]:g} in the row of "
            f"{table.index[negative][0]}, and {negative.sum() - 1} more are negative",
            expected="standard deviations",
            hint=f"observations.missing: [{sds[negative][0]:g}] if it stands for a missing value",
        )
    sds = np.where(sds > 0, sds, np.nan)
    own = variable.measured_in or variable.unit
    if measured.unit:
        sds = sds * (units.convert(1.0, measured.unit, own) - units.convert(0.0, measured.unit, own))
    if not variable.measured_in:
        return sds
    temperature = table[variable.temperature].to_numpy() if variable.temperature else np.array(20.0)
    if variable.per_record:
        sds = sds / Rows.of(table).lengths
    zero = units.convert(0.0, variable.rate, variable.unit, temperature)
    return units.convert(sds, variable.rate, variable.unit, temperature) - zero


def with_numbers(variable: ObservedVariable, table: pd.DataFrame) -> ObservedVariable:
    """The variable with its quantile rule, if its error has one, applied to its measurements."""
    rule = variable.error.rule
    if rule is None:
        return variable
    years = table.index.to_numpy().astype("datetime64[Y]").astype(np.int64)
    sd = rule.random(measurements(variable, table)[0], years)
    return replace(variable, error=variable.error.with_random(sd))
