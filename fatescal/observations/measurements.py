"""The observations of a site, as the config describes them: windows, errors, a summary of the file."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from fatescal.base.errors import BadInput
from fatescal.observations import fluxnet_units, options, quality, readers, units, windows
from fatescal.observations.observed_variable import ObservedVariable
from fatescal.observations.quality import QualityColumn
from fatescal.observations.window_means import Rows
from fatescal.observations.windows import Summary
from fatescal.storage.records import ObservationGrid, Observations

if TYPE_CHECKING:
    import pandas as pd


class ObservedSite(Protocol):
    """What the config of a site provides: its `observations`, its name, the paths it names."""

    @property
    def observations(self) -> options.ObservationsSection:
        """The section of the config."""

    @property
    def site(self) -> str:
        """The name of the site, '' where there is but one."""

    def path(self, text: str) -> Path:
        """Return a path that the config names."""

    def label(self, variable: str) -> str:
        """Return what an observed variable is called among those of all sites."""


@dataclass(frozen=True)
class Source:
    """What a file tells about its columns: its layout, the step of its rows, units by column."""

    layout: readers.Layout
    step: str  # 'hourly', 'daily', 'yearly' or '', as `fluxnet.step`
    step_description: str
    units: Mapping[str, str]

    @classmethod
    def of(cls, table: pd.DataFrame, layout: readers.Layout) -> Source:
        """Return it for a table that was read."""
        rows = Rows.of(table)
        step = fluxnet_units.step(rows.starts, rows.lengths)
        known = (
            {name: fluxnet_units.unit(name, step) for name in layout.names}
            if layout.format == "fluxnet"
            else {}
        )
        units = {name: unit for name, unit in known.items() if unit} if known else layout.units
        return cls(layout, step, rows.step_description, units)

    @property
    def format(self) -> str:
        """The format of the file."""
        return self.layout.format

    def why(self, column: str) -> str:
        """Why a column is taken to have its unit."""
        return (
            f" by its FLUXNET name and {self.step_description}"
            if self.format == "fluxnet" and column in self.units
            else ""
        )


def observe(
    chosen: ObservedSite, calendar: str
) -> tuple[ObservationGrid, Observations | None, tuple[Summary, ...], str]:
    """Return the windows to predict; of a file what was measured, what was dropped, how it was read."""
    section = chosen.observations

    def labelled(source: Source | None) -> list[ObservedVariable]:
        named = ((name, observed_variable(name, v, source)) for name, v in section.variables.items())
        return [replace(variable, name=chosen.label(name)) for name, variable in named]

    periods = (section.window, section.calibration, section.validation, calendar)
    if section.file is None:
        return windows.grid_of(labelled(None), *periods, section.fold), None, (), ""
    path = chosen.path(section.file)
    columns = [c for name, v in section.variables.items() for c in _columns(name, v)]
    if any(v.qc and v.qc.column is None for v in section.variables.values()):
        layout = readers.detect(path, section.format)
        columns += [_quality_column(name, v, layout) for name, v in section.variables.items() if v.qc]
    table, layout = readers.read(
        path, columns, section.time_column, section.time_zone, section.format,
        time_stamp=section.time_stamp, time_format=section.time_format,
        missing=section.missing, not_missing=section.not_missing,
    )  # fmt: skip
    source = Source.of(table, layout)
    variables = labelled(source)
    notes = [_quality_note(name, v, table, source) for name, v in section.variables.items() if v.qc]
    observed, summary = windows.build(
        table, variables, *periods, section.min_valid, section.fold, section.outliers
    )
    zone = (
        f"times of {section.time_zone} turned to UTC"
        if section.time_zone
        else "times as written (no time_zone)"
    )
    unit_notes = ", ".join(_unit_note(variable, source) for variable in variables)
    notes += [_error_note(v, table, source) for v in variables if v.error.measured]
    reading = "; ".join(
        [f"{path.name}: {layout.summary}, {source.step_description}", zone, unit_notes, *notes]
    )
    return observed, observed, tuple(summary), f"{chosen.site}: {reading}" if chosen.site else reading


def _unit_note(variable: ObservedVariable, source: Source) -> str:
    """Return a phrase: what a column is taken for, and why, with whatever may be a mistake."""
    unit, file_unit = variable.measured_in or variable.unit, source.units.get(variable.column)
    note = f"{variable.column} in {unit}"
    of_year = file_unit is not None and _sum_of_year(file_unit, source) == unit
    if file_unit is not None and not of_year and not units.same(file_unit, unit):
        note += f" (THE FILE SAYS {file_unit}{source.why(variable.column)})"
    elif file_unit is not None:
        note += source.why(variable.column)
    if variable.per_record:
        note += f" a row, summed over windows, compared in {variable.unit}"
    elif units.is_amount(variable.unit):
        note += " (taken as a state, its mean compared; sums over each row need `compare_in`, a rate)"
    elif variable.measured_in:
        note += f" compared in {variable.unit}"
    return note


def _quality_note(name: str, chosen: options.VariableSection, table: pd.DataFrame, source: Source) -> str:
    """Return what a variable's quality column is taken for; bounds that contradict it are refused."""
    bounds = _quality(name, chosen, source.layout)
    assert bounds is not None
    known = "flag" if bounds.column in source.layout.flags else ""
    known = known or fluxnet_units.quality(bounds.column, source.step, source.format == "fluxnet")
    return quality.verdict(bounds, table[bounds.column].to_numpy(), name, known)


def observed_variable(name: str, chosen: options.VariableSection, source: Source | None) -> ObservedVariable:
    """Return an observed variable, in the unit of its column in the `source` where the config gives none.

    Raises
    ------
    BadInput
        If neither gives a unit.
    """
    column = chosen.column or name
    unit = chosen.unit or (source.units.get(column) if source else None)
    if unit is None:
        raise _unit_needed(name, column, source)
    measured, summed = unit if chosen.compare_in not in (None, unit) else "", ""
    if source is not None and measured and not _sum_of_year(chosen.compare_in or "", source):
        summed = _sum_of_year(measured, source)
    return ObservedVariable(
        name=name,
        unit=chosen.compare_in or unit,
        error=chosen.error if source is None else chosen.error.with_units(source.units, column),
        column=column,
        measured_in=summed or measured,
        temperature=chosen.temperature or "",
        quality=_quality(name, chosen, source.layout if source else None),
        min_valid=chosen.min_valid,
    )


def _sum_of_year(unit: str, source: Source) -> str:
    """The amount of which a unit is one a year, in a table of years: each is divided by its own days;
    else ''.
    """
    match = (
        re.fullmatch(r"(.*\S)\s*(?:/\s*|\s)(?:y|yr|year)(?:\^?-1)?", unit)
        if source.step == "yearly"
        else None
    )
    return match[1] if match else ""


def _unit_needed(name: str, column: str, source: Source | None) -> BadInput:
    what = f"observations.variables.{name} needs `unit`: that of column {column!r} is not known by name"
    if source is not None and source.format == "fluxnet" and fluxnet_units.names(column):
        what += f" in a file with {source.step_description}, which is no step of FLUXNET"
    return BadInput(what, hint="unit: g C m-2 d-1")


def _columns(name: str, chosen: options.VariableSection) -> list[str]:
    """The columns that the config names for a variable."""
    measured = chosen.error.measured
    columns = [chosen.column or name, chosen.temperature, chosen.qc and chosen.qc.column]
    return [column for column in (*columns, measured and measured.column) if column]


def _quality_column(name: str, chosen: options.VariableSection, layout: readers.Layout) -> str:
    """The quality column of a variable: as the config names it, else as the file does."""
    assert chosen.qc is not None
    column = chosen.column or name
    if (quality_column := chosen.qc.column or layout.quality_of(column)) is None:
        raise BadInput(
            f"observations.variables.{name}.qc needs `column`: the file names no quality of {column!r}",
            expected=f"one of {', '.join(layout.names)}",
        )
    return quality_column


def _quality(
    name: str, chosen: options.VariableSection, layout: readers.Layout | None
) -> QualityColumn | None:
    """The bounds of a variable's quality column."""
    if chosen.qc is None or layout is None:
        return None
    bounds = {"low": chosen.qc.min, "high": chosen.qc.max}
    column = _quality_column(name, chosen, layout)
    return QualityColumn(column, **{key: value for key, value in bounds.items() if value is not None})


def _error_note(variable: ObservedVariable, table: pd.DataFrame, source: Source) -> str:
    """What a column of uncertainties is taken for."""
    measured, own = variable.error.measured, variable.measured_in or variable.unit
    assert measured is not None
    assumed = "" if measured.column in source.units else f" (assumed, that of {variable.column})"
    unit = measured.unit or f"{own}{assumed}"
    n_zero = int((table[measured.column].to_numpy() == 0).sum())
    zeros = f", {n_zero} of zero taken as missing" if n_zero else ""
    return f"{measured.column} the sd of each {variable.column}, independent, in {unit}{zeros}"
