"""What can be known before the first core-hour: files, place, years, plant types and history fields of a case."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fatescal.errors import BadInput
from fatescal.forward.clm_fates import namelist, runconfig
from fatescal.forward.clm_fates.streams import Stream
from fatescal.forward.clm_fates.template import Template
from fatescal.records import Array

if TYPE_CHECKING:
    import netCDF4

NEEDED = ("fsurdat", "paramfile")  # of lnd_in
WANTED = ("fsnowoptics", "fsnowaging")  # where it names them; other files that it names may be absent
SAME_PLACE = 0.01  # degrees between the case and its surface data
SAME_CELL = 0.5  # degrees between the case and the cell of its forcing


def inspect(template: Template, first: date, start: date, end: date, variables: Sequence[str]) -> list[str]:
    """Return lines for the user about a case; `first` is the first day of a spin-up.

    Raises
    ------
    BadInput
        For whatever would fail, or pass unnoticed and be wrong.
    """
    executable = template.executable
    if not (executable.is_file() and os.access(executable, os.X_OK)):
        raise BadInput(
            f"model: there is no executable {executable}",
            expected="cesm.exe, built for one process (MPILIB=mpi-serial)",
            hint="./case.build in the case",
        )
    calendar = runconfig.get(template.files["nuopc.runconfig"], "calendar")
    if calendar != "NO_LEAP":
        raise BadInput(
            f"the case runs with calendar {calendar}", expected="NO_LEAP", hint="./xmlchange CALENDAR=NO_LEAP"
        )
    place = _coordinates_of_case(template)
    lines = [f"place         {place[0]:.4f} N {place[1]:.4f} E"]
    wanted = [key for key in WANTED if namelist.get(template.lnd_in, key) is not None]
    for key in (*NEEDED, *wanted):
        with _opened(template.path(key), f"lnd_in: {key}") as data:
            if key == "fsurdat":
                _require_place("the surface data", template.path(key), data, place, SAME_PLACE)
    lines += [_weather(stream, place, first, start, end) for stream in template.streams if stream.is_weather]
    if not lines[1:]:
        raise BadInput(f"{template.run_directory}/datm.streams.xml has no stream of weather")
    for stream in template.streams:
        if not stream.is_weather:
            for file in stream.files:
                _opened(file, f"stream {stream.name}").close()
    _require_fields(template.run_directory, variables)
    return lines


def require_libraries(executable: Path) -> None:
    """Raise `BadInput` where the system finds not all libraries of an executable; CIME loads modules before it starts one.

    Without `ldd`, or for a script, nothing is known.
    """
    try:
        said = subprocess.run(["ldd", str(executable)], capture_output=True, text=True).stdout
    except OSError:
        return
    missing = re.findall(r"^\s*(\S+) => not found", said, re.MULTILINE)
    if missing:
        raise BadInput(
            f"model: {executable} needs libraries that are not found here: {', '.join(missing)}",
            expected="the modules with which CIME compiled it",
            hint="`modules` of the machine file, or `. CASE/.env_mach_specific.sh` before fatescal starts",
        )


def _opened(path: Path, what: str) -> netCDF4.Dataset:
    import netCDF4

    try:
        return netCDF4.Dataset(path)
    except OSError as error:
        raise BadInput(f"{what}: {path} cannot be opened: {error.strerror or error}") from None


def _coordinates_of_case(template: Template) -> tuple[float, float]:
    """Return latitude and longitude [degrees north, east] of a single-point case."""
    text = template.files["nuopc.runconfig"]
    try:
        place = float(str(runconfig.get(text, "scol_lat"))), float(str(runconfig.get(text, "scol_lon")))
    except ValueError:
        place = -999.0, -999.0
    if not -90 <= place[0] <= 90:
        raise BadInput("the case is not of a single point", expected="PTS_LAT and PTS_LON", got=place)
    return place


def _require_place(
    what: str, path: Path, data: netCDF4.Dataset, place: tuple[float, float], within: float
) -> None:
    if not {"LATIXY", "LONGXY"} <= set(data.variables):
        return
    there = float(np.squeeze(data["LATIXY"][:])), float(np.squeeze(data["LONGXY"][:]))
    apart = abs(there[0] - place[0]), abs((there[1] - place[1] + 180) % 360 - 180)
    if max(apart) > within:
        raise BadInput(
            f"{what} {path} is of another place",
            expected=f"{place[0]:g} N {place[1]:g} E, as PTS_LAT and PTS_LON of the case",
            got=f"{there[0]:g} N {there[1]:g} E",
        )


def _weather(stream: Stream, place: tuple[float, float], first: date, start: date, end: date) -> str:
    """Return a line about a stream of weather, whose files hold the years that the output is of."""
    held = set()
    for file in stream.files:
        with _opened(file, f"stream {stream.name}") as data:
            _require_place("the forcing", file, data, place, SAME_CELL)
            held |= set(_years(data, file).tolist())
    wanted = range(stream.year_first, stream.year_last + 1)
    lacking = [year for year in wanted if year not in held]
    if lacking:
        raise BadInput(
            f"stream {stream.name} has no file of {_spans(lacking)}",
            expected=f"{stream.year_first} to {stream.year_last}, its year_first to year_last",
            hint="DATM_YR_START and DATM_YR_END of the case",
        )
    other = [year for year in range(start.year, end.year + 1) if stream.year_read(year) != year]
    if other:
        raise BadInput(
            f"stream {stream.name} has no weather of {_spans(other)}: the model would run, with that of "
            f"{stream.year_read(other[0])} in {other[0]}",
            expected=f"model.start and model.end within {stream.year_first} to {stream.year_last}",
            hint="DATM_YR_START, DATM_YR_END and DATM_YR_ALIGN of the case",
        )
    line = (
        f"forcing       {stream.name}: {stream.year_first} to {stream.year_last}, {len(stream.files)} files"
    )
    if first < start:
        years = [stream.year_read(year) for year in range(first.year, start.year)]
        line += f"; the spin-up reads {_spans(years)}" if years else ""
    return line


def _years(data: netCDF4.Dataset, path: Path) -> Array:
    """Return the years of a forcing file's records."""
    import cftime

    try:
        time = data["time"]
        dates = cftime.num2date(time[[0, -1]], time.units, getattr(time, "calendar", "noleap"))
    except (IndexError, AttributeError, ValueError) as error:
        raise BadInput(f"{path} has no readable time axis: {error}") from None
    return np.arange(dates[0].year, dates[1].year + 1)


def _spans(years: Sequence[int]) -> str:
    """Return years in words.

    >>> _spans([2004, 2005, 2006, 2009])
    '2004-2006, 2009'
    """
    runs: list[list[int]] = []
    for year in years:
        if runs and year == runs[-1][-1] + 1:
            runs[-1].append(year)
        else:
            runs.append([year])
    return ", ".join(str(r[0]) if len(r) == 1 else f"{r[0]}-{r[-1]}" for r in runs)


def _require_fields(run_directory: Path, variables: Sequence[str]) -> None:
    """Compare the variables with the list of all history fields in `lnd.log`, where the case has run before."""
    import difflib

    listed: set[str] = set()
    for log in run_directory.glob("lnd.log*"):
        listed |= set(re.findall(r"^\s*\d+ (\w+) {2,}", log.read_text(errors="replace"), re.MULTILINE))
    for name in variables if len(listed) > 100 else ():
        if name not in listed:
            near = difflib.get_close_matches(name, listed, n=1)
            raise BadInput(
                f"observations.variables: the model has no history field {name}",
                hint=f"did you mean {near[0]}" if near else "lnd.log lists them all",
            )


def shares_of_pfts(template: Template, pfts: Sequence[str], pft_map: Array) -> dict[str, float]:
    """Return the share [1] of each plant functional type in the natural vegetation of the surface data.

    Parameters
    ----------
    pft_map : array (14, F)
        ``fates_hlm_pft_map``: CLM's types (without bare ground) to those of FATES.
    """
    with _opened(template.path("fsurdat"), "lnd_in: fsurdat") as data:
        clm = np.asarray(data["PCT_NAT_PFT"][:], float).reshape(len(data.dimensions["natpft"]))
    mapped = clm[1 : 1 + len(pft_map)] @ np.asarray(pft_map, float) / 100
    return dict(zip(pfts, mapped.tolist(), strict=True))


def require_present(names: Sequence[str], shares: Mapping[str, float]) -> None:
    """Raise `BadInput` when a calibrated plant functional type does not grow at the site."""
    for name in names:
        pft = next((p for p in shares if name.endswith(f"_{p}")), None)
        if pft is not None and shares[pft] <= 0:
            there = ", ".join(f"{p} ({100 * s:.0f} %)" for p, s in shares.items() if s > 0)
            raise BadInput(f"parameters.{name}: {pft} does not grow at the site", expected=f"one of {there}")
