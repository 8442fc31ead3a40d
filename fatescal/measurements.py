"""The observations of a site, as the config describes them: windows, errors, and in words what was read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from fatescal import observations, settings, tables, units
from fatescal.errors import BadInput
from fatescal.noise import ErrorModel, QuantileRule
from fatescal.observations import Quality, Summary, Variable
from fatescal.records import ObservationGrid, Observations
from fatescal.settings import Settings


def observe(
    chosen: Settings, calendar: str
) -> tuple[ObservationGrid, Observations | None, tuple[Summary, ...], str]:
    """Return the windows to predict, and from a file what was measured, what was dropped, how the file was read."""
    given = chosen.observations

    def labelled(told: Mapping[str, str]) -> list[Variable]:
        found = ((name, observed_variable(name, v, told)) for name, v in given.variables.items())
        return [replace(variable, name=chosen.label(name)) for name, variable in found]

    if given.file is None:
        variables = labelled({})
        periods = (given.window, given.calibration, given.validation, calendar)
        return observations.grid_of(variables, *periods, given.fold), None, (), ""
    path = chosen.path(given.file)
    layout = tables.detect(path, given.format)
    variables = labelled(layout.units)
    periods = (given.window, given.calibration, given.validation, calendar)
    columns = [v.column for v in variables]
    columns += [v.quality.column for v in variables if v.quality] + [
        v.temperature for v in variables if v.temperature
    ]
    table, layout = tables.read(
        path, columns, given.time_column, given.time_zone, given.format,
        time_stamp=given.time_stamp, time_format=given.time_format,
        missing=given.missing, not_missing=given.not_missing,
    )  # fmt: skip
    observed, summary = observations.build(table, variables, *periods, given.min_valid, given.fold)
    zone = (
        f"times of {given.time_zone} turned to UTC" if given.time_zone else "times as written (no time_zone)"
    )
    told = ", ".join(_unit_told(variable, layout.units) for variable in variables)
    step = observations.step_of(table)
    every = f"a row each {step / 3600:g} h" if step % 86400 else f"a row each {step // 86400} d"
    words = f"{path.name}: {layout.words}, {every}; {zone}; {told}"
    return observed, observed, tuple(summary), f"{chosen.site}: {words}" if chosen.site else words


def _unit_told(variable: Variable, told: Mapping[str, str]) -> str:
    """Return in words what a column is taken for, with whatever may be a mistake."""
    unit, said = variable.measured_in or variable.unit, told.get(variable.column)
    words = f"{variable.column} in {unit}"
    if said is not None and not units.same(said, unit):
        words += f" (THE FILE SAYS {said})"
    if variable.per_record:
        words += f" a row, summed over windows, compared in {variable.unit}"
    elif units.is_amount(variable.unit):
        words += " (taken as a state, its mean compared; sums over each row need `compare_in`, a rate)"
    elif variable.measured_in:
        words += f" compared in {variable.unit}"
    return words


def observed_variable(name: str, chosen: settings.Variable, told: Mapping[str, str]) -> Variable:
    """Return an observed variable; its unit is that `told` of its column where the config gives none.

    Raises
    ------
    BadInput
        If neither gives a unit.
    """
    column = chosen.column or name
    unit = chosen.unit or told.get(column)
    if unit is None:
        raise BadInput(
            f"observations.variables.{name} needs `unit`: that of column {column!r} is not known by name",
            hint="unit: g C m-2 d-1",
        )
    quality = None
    if chosen.qc is not None:
        bounds = {"low": chosen.qc.min, "high": chosen.qc.max}
        quality = Quality(chosen.qc.column, **{k: v for k, v in bounds.items() if v is not None})
    return Variable(
        name=name,
        unit=chosen.compare_in or unit,
        error=error_model(chosen.error),
        column=column,
        measured_in=unit if chosen.compare_in not in (None, unit) else "",
        temperature=chosen.temperature or "",
        quality=quality,
        min_valid=chosen.min_valid,
    )


def error_model(chosen: settings.Error) -> ErrorModel:
    """Return the error model of an observed variable."""
    given = {name: value for name, value in chosen if value is not None}
    if isinstance(chosen.random, settings.QuantileRule):
        given["random"] = QuantileRule(chosen.random.share, chosen.random.quantile)
    if chosen.discrepancy == "estimate":
        given |= {"discrepancy": 0.0, "estimate": True}
    return ErrorModel(**given)
