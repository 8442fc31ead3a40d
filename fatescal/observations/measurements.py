"""The observations of a site, as the config describes them: windows, errors, and in words what was read."""

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
    """What is asked of the config of a site: its `observations`, its name, the paths it names."""

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
    step_words: str
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
        told = {name: unit for name, unit in known.items() if unit} if known else layout.units
        return cls(layout, step, rows.step_in_words, told)

    @property
    def format(self) -> str:
        """The format of the file."""
        return self.layout.format

    def why(self, column: str) -> str:
        """Why a column is taken to have its unit."""
        return (
            f" by its FLUXNET name and {self.step_words}"
            if self.format == "fluxnet" and column in self.units
            else ""
        )


def observe(
    chosen: ObservedSite, calendar: str
) -> tuple[ObservationGrid, Observations | None, tuple[Summary, ...], str]:
    """Return the windows to predict; of a file what was measured, what was dropped, how it was read."""
    given = chosen.observations

    def labelled(source: Source | None) -> list[ObservedVariable]:
        named = ((name, observed_variable(name, v, source)) for name, v in given.variables.items())
        return [replace(variable, name=chosen.label(name)) for name, variable in named]

    periods = (given.window, given.calibration, given.validation, calendar)
    if given.file is None:
        return windows.grid_of(labelled(None), *periods, given.fold), None, (), ""
    path = chosen.path(given.file)
    columns = [c for name, v in given.variables.items() for c in _columns(name, v)]
    if any(v.qc and v.qc.column is None for v in given.variables.values()):
        layout = readers.detect(path, given.format)
        columns += [_quality_column(name, v, layout) for name, v in given.variables.items() if v.qc]
    table, layout = readers.read(
        path, columns, given.time_column, given.time_zone, given.format,
        time_stamp=given.time_stamp, time_format=given.time_format,
        missing=given.missing, not_missing=given.not_missing,
    )  # fmt: skip
    source = Source.of(table, layout)
    variables = labelled(source)
    judged = [_quality_told(name, v, table, source) for name, v in given.variables.items() if v.qc]
    observed, summary = windows.build(table, variables, *periods, given.min_valid, given.fold, given.outliers)
    zone = (
        f"times of {given.time_zone} turned to UTC" if given.time_zone else "times as written (no time_zone)"
    )
    told = ", ".join(_unit_told(variable, source) for variable in variables)
    judged += [_error_told(v, table, source) for v in variables if v.error.measured]
    words = "; ".join([f"{path.name}: {layout.words}, {source.step_words}", zone, told, *judged])
    return observed, observed, tuple(summary), f"{chosen.site}: {words}" if chosen.site else words


def _unit_told(variable: ObservedVariable, source: Source) -> str:
    """Return in words what a column is taken for, and why, with whatever may be a mistake."""
    unit, said = variable.measured_in or variable.unit, source.units.get(variable.column)
    words = f"{variable.column} in {unit}"
    of_year = said is not None and _sum_of_year(said, source) == unit
    if said is not None and not of_year and not units.same(said, unit):
        words += f" (THE FILE SAYS {said}{source.why(variable.column)})"
    elif said is not None:
        words += source.why(variable.column)
    if variable.per_record:
        words += f" a row, summed over windows, compared in {variable.unit}"
    elif units.is_amount(variable.unit):
        words += " (taken as a state, its mean compared; sums over each row need `compare_in`, a rate)"
    elif variable.measured_in:
        words += f" compared in {variable.unit}"
    return words


def _quality_told(name: str, chosen: options.VariableSection, table: pd.DataFrame, source: Source) -> str:
    """Return what a variable's quality column is taken for; bounds that contradict it are refused."""
    bounds = _quality(name, chosen, source.layout)
    assert bounds is not None
    known = "flag" if bounds.column in source.layout.flags else ""
    known = known or fluxnet_units.quality(bounds.column, source.step, source.format == "fluxnet")
    return quality.judged(bounds, table[bounds.column].to_numpy(), name, known)


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
        what += f" in a file with {source.step_words}, which is no step of FLUXNET"
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
    if (found := chosen.qc.column or layout.quality_of(column)) is None:
        raise BadInput(
            f"observations.variables.{name}.qc needs `column`: the file names no quality of {column!r}",
            expected=f"one of {', '.join(layout.names)}",
        )
    return found


def _quality(
    name: str, chosen: options.VariableSection, layout: readers.Layout | None
) -> QualityColumn | None:
    """The bounds of a variable's quality column."""
    if chosen.qc is None or layout is None:
        return None
    bounds = {"low": chosen.qc.min, "high": chosen.qc.max}
    column = _quality_column(name, chosen, layout)
    return QualityColumn(column, **{key: value for key, value in bounds.items() if value is not None})


def _error_told(variable: ObservedVariable, table: pd.DataFrame, source: Source) -> str:
    """What a column of uncertainties is taken for."""
    measured, own = variable.error.measured, variable.measured_in or variable.unit
    assert measured is not None
    assumed = "" if measured.column in source.units else f" (assumed, that of {variable.column})"
    unit = measured.unit or f"{own}{assumed}"
    n_zero = int((table[measured.column].to_numpy() == 0).sum())
    zeros = f", {n_zero} of zero taken as missing" if n_zero else ""
    return f"{measured.column} the sd of each {variable.column}, independent, in {unit}{zeros}"
