"""The verb `init`: a commented config for a site, from what its table of observations holds."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fatescal.base.errors import BadInput
from fatescal.cli.demo_config import DEFAULT_CONFIG
from fatescal.observations import fluxnet_units, record_lengths, units
from fatescal.observations.readers.base import Layout
from fatescal.observations.readers.reading import detect, read
from fatescal.storage import atomic

if TYPE_CHECKING:
    import pandas as pd

HELD_OUT = 4  # one part in so many of the years is for validation


@dataclass(frozen=True)
class Wanted:
    """A variable that can be calibrated: its columns by preference, the model's name, units."""

    name: str
    columns: tuple[str, ...]
    model: str
    unit: str


WANTED = (
    Wanted(
        "GPP", (r"GPP_NT_VUT_REF", r"GPP_NT.*", r"GPP_DT.*", r"GPP(_f|_U\d+_f)?", r".*GPP.*"), "FATES_GPP",
        "g C m-2 d-1",
    ),
    Wanted("ET", (r"ET(_f)?", r"ET_.*", r"EVAPOTRANSPIRATION", r".*\bET\b.*"), "QFLX_EVAP_TOT", "mm d-1"),
    Wanted("LE", (r"LE_F_MDS", r"LE_CORR", r"LE(_f)?", r"LE_.*"), "EFLX_LH_TOT", "W m-2"),
)  # fmt: skip
TIME = r"date_?time|date|time|time_?stamp(_start)?|day"
OTHER = ("qc", "se", "sd", "fqc", "randunc", "unc", "joinunc", "orig", "n", "flag")  # ends of names beside


def init(observations: Path, to: Path | None, name: str | None) -> int:
    """Write a config for a site and print what its table of observations holds; return the exit code.

    Raises
    ------
    BadInput
        For a table that cannot be read or holds no flux, and a config that is there already.
    """
    layout = detect(observations)
    site = re.sub(r"[^\w.-]", "_", name or observations.name.split(".")[0])
    target = to or Path(f"{site}.yaml")
    if target.exists():
        raise BadInput(f"{target} is there already", hint="--to ANOTHER.yaml")
    found = [(wanted, column) for wanted in WANTED if (column := _column(wanted, layout.names)) is not None]
    if any(wanted.name == "ET" for wanted, _ in found):
        found = [pair for pair in found if pair[0].name != "LE"]
    if not found:
        raise BadInput(
            f"{observations} has no column that looks like GPP, ET or LE", got=", ".join(layout.names[:20]),
            hint="write the config by hand: docs/configuration.md",
        )  # fmt: skip
    time_column = next((name for name in layout.names if re.fullmatch(TIME, name, re.IGNORECASE)), None)
    table, layout = _read(observations, [column for _, column in found], time_column)
    told = dict(layout.units) | _by_step(table)
    start, end = (np.datetime64(t.to_datetime64(), "D") for t in (table.index[0], table.index[-1]))
    print(f"{observations}: {layout.summary}")
    print(f"{len(table)} rows from {start} to {end}")
    sections = []
    for wanted, column in found:
        values = table[column].to_numpy()
        ok = np.isfinite(values)
        unit = told.get(column, "")
        print(
            f"{wanted.name:4s} column {column}: {ok.mean():.0%} of the rows have a value, median "
            f"{np.median(values[ok]):.3g} {unit or '(unit not told by the file)'}"
        )
        sections.append(
            _variable(wanted, column, unit, layout, _error(table[column], unit or wanted.unit, wanted))
        )
    calibration, validation = _periods(start, end)
    file = _relative(observations, target)
    if time_column is not None and layout.format in ("csv", "netcdf"):
        file += f"\n  time_column: {time_column}"
    atomic.write_text(target, _text(site, file, sections, calibration, validation))
    print(f"config: {target.absolute()}")
    print(f"next: fill in what is marked TODO, then: fatescal check {target}")
    return 0


def _read(observations: Path, columns: Sequence[str], time_column: str | None) -> tuple[pd.DataFrame, Layout]:
    """Return the columns of the table; where its format does not say which is the time, by `time_column`."""
    try:
        return read(observations, columns)
    except BadInput:
        if time_column is None:
            raise
        return read(observations, columns, time_column)


def _by_step(table: pd.DataFrame) -> dict[str, str]:
    """Return the units that names of FLUXNET's columns have in a file of this step."""
    starts = table.index.to_numpy().astype("datetime64[s]")
    step = fluxnet_units.step(starts, record_lengths.interval_lengths(starts))
    known = ((column, fluxnet_units.unit(column, step)) for column in table.columns)
    return {column: unit for column, unit in known if unit is not None}


def _column(wanted: Wanted, names: Sequence[str]) -> str | None:
    """Return the column of a variable, None where there is none."""
    measured = [n for n in names if re.split(r"[_.]", n.lower())[-1] not in OTHER]
    for pattern in wanted.columns:
        for name in measured:
            if re.fullmatch(pattern, name, re.IGNORECASE):
                return name
    return None


def _error(values: pd.Series, unit: str, wanted: Wanted) -> float:
    """Return a first guess of the error sd of a daily mean, in the unit of the comparison.

    The robust spread of differences between neighbouring days, over the square root of 2. What the model
    cannot fit with any parameters is not in it.
    """
    days = values.to_numpy(float)
    which = values.index.to_numpy().astype("datetime64[D]").astype(int)
    ok = np.isfinite(days)
    numbers, inverse = np.unique(which[ok], return_inverse=True)
    means = np.bincount(inverse, days[ok]) / np.bincount(inverse)
    steps = np.diff(means)[np.diff(numbers) == 1]
    spread = float(np.median(np.abs(steps))) / 0.6745 / np.sqrt(2) if len(steps) else float(np.std(means))
    return abs(float(units.convert(spread, unit, wanted.unit) - units.convert(0.0, unit, wanted.unit)))


def _variable(wanted: Wanted, column: str, unit: str, layout: Layout, error: float) -> str:
    """Return a variable's lines of the config."""
    quality = layout.quality_of(column)
    told = unit or wanted.unit
    lines = [
        f"    {wanted.name}:",
        f"      column: {column!r}",
        f"      unit: {told}".ljust(40)
        + ("# as file or name say" if unit else "# TODO: the file does not tell its unit"),
    ]
    if told != wanted.unit:
        lines.append(f"      compare_in: {wanted.unit}")
    lines.append(f"      model: {wanted.model}".ljust(40) + "# the model's name of it")
    if quality is not None:
        lines.append("      # qc: ...".ljust(40) + f"# {quality} holds its quality: docs/formats.md")
    lines.append(
        f"      error: {{sd: {error:.2g}}}".ljust(40)
        + f"# [{wanted.unit}] the scatter of days; add what the model cannot fit"
    )
    return "\n".join(lines)


def _periods(start: np.datetime64, end: np.datetime64) -> tuple[str, str]:
    """Return calibration and validation: whole years, the last quarter held out; of a short table days."""
    first = start.astype("datetime64[Y]")
    first = first if start - first.astype("datetime64[D]") < np.timedelta64(15, "D") else first + 1
    last = (end + np.timedelta64(15, "D")).astype("datetime64[Y]") - 1
    years = int((last - first).astype(int)) + 1
    if years < 2:
        half = start + (end - start) * 3 // 4
        return f"[{start}, {half}]", f"[{half + 1}, {end}]"
    held = max(1, round(years / HELD_OUT))
    split = last - held
    return f"[{first}-01-01, {split}-12-31]", f"[{split + 1}-01-01, {last}-12-31]"


def _relative(observations: Path, target: Path) -> str:
    """Return the table's path as the config writes it: relative where it is beside or below."""
    try:
        return str(observations.absolute().relative_to(target.absolute().parent))
    except ValueError:
        return str(observations.absolute())


def _parameters() -> str:
    """Return the parameters of the demo, as an example: its section with comments."""
    text = DEFAULT_CONFIG.read_text(encoding="utf-8")
    return text[text.index("parameters:") : text.index("observations:")].rstrip()


def _text(site: str, file: str, variables: Sequence[str], calibration: str, validation: str) -> str:
    first, last = calibration[1:11], validation[-11:-1]
    body = "\n".join(variables)
    return f"""\
# Calibration at {site}, begun by fatescal init. Every key: docs/reference.md; TODO marks what only you know.
run:
  name: {site}
  directory: runs/{site:<25}# relative to this file
  seed: 1

model:                                  # the embedded model; others: docs/models.md
  kind: canopy
  forcing: TODO                         # netCDF file, folder or csv of half-hourly weather: docs/data.md
  start: {first}
  end: {last}

{_parameters()}

observations:
  file: {file}
  window: 1D                            # what is compared: daily means
  calibration: {calibration}
  validation:  {validation}   # held out: never used in the fit
  variables:
{body}

calibrate:  {{scheme: ienks, members: 64, iterations: 4}}      # about 64 model runs an iteration
emulate:    {{target: outputs}}
sample:     {{runs: 4, levels: auto, walkers: 4, max_steps: 20000, rhat: 1.01, ess: 400}}
posterior:  {{members: 64}}
"""
