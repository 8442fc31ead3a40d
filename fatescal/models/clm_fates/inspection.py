"""What can be known before any compute time is used: files, place, years, plant types and history fields of a
case.
"""

from __future__ import annotations

import difflib
import os
import re
import subprocess
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path

import numpy as np

from fatescal.base.errors import BadInput
from fatescal.base.types import Array
from fatescal.models.clm_fates import forcing, namelist, runconfig
from fatescal.models.clm_fates.definition import Checkout, require_keys
from fatescal.models.clm_fates.template import Template

NEEDED = ("fsurdat", "paramfile")  # of lnd_in
OPTIONAL = ("fsnowoptics", "fsnowaging")  # where it names them; other files that it names may be absent
MANY = 100  # history fields that a list of all of them has at least
MOST_NAMED = 12  # missing files that a message names
SAME_SITE = 0.01  # degrees between the case and its surface data


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
    site = _coordinates_of_case(template)
    lines = [f"place         {site[0]:.4f} N {site[1]:.4f} E"]
    for key in (*NEEDED, *[key for key in OPTIONAL if namelist.get(template.lnd_in, key) is not None]):
        with forcing.opened(template.path(key), f"lnd_in: {key}") as data:
            if key == "fsurdat":
                forcing.require_site("the surface data", template.path(key), data, site, SAME_SITE)
    weather = [stream for stream in template.streams if stream.is_weather]
    if not weather:
        raise BadInput(f"{template.run_directory}/datm.streams.xml has no stream of weather")
    lines += [forcing.describe(stream, site, first, start, end) for stream in weather]
    for stream in (stream for stream in template.streams if not stream.is_weather):
        for file in stream.files:
            with forcing.opened(file, f"stream {stream.name}") as data:
                if not stream.has_mesh:
                    names = [name for name, _ in stream.fields]
                    forcing.require_dimensions(stream.name, file, data, names)
    checkout = Checkout.of(template.files["lnd_in"])
    lines += require_keys(template.keys, template.files["lnd_in"], checkout)
    return lines + _require_fields(template, variables, checkout)


def require_files(template: Template, spared: Sequence[str] = ()) -> None:
    """Raise `BadInput` that names all files at once which the model would read and which are not there.

    Parameters
    ----------
    spared : sequence of str
        Keys of `lnd_in` whose files no member reads, since each gets its own.
    """
    named = {key: template.run_directory / value for key, value in namelist.files(template.lnd_in).items()}
    read = {f"lnd_in: {k}": p for k, p in named.items() if k not in spared and _is_read(template, k)}
    wanted = list(read.items())
    wanted += [(f"stream {stream.name}", file) for stream in template.streams for file in stream.files]
    missing = [f"{path} ({what})" for what, path in wanted if not path.is_file()]
    if missing:
        more = f", and {len(missing) - MOST_NAMED} more" if len(missing) > MOST_NAMED else ""
        raise BadInput(
            f"{len(missing)} input {'file is' if len(missing) == 1 else 'files are'} missing: "
            f"{', '.join(missing[:MOST_NAMED])}{more}",
            hint="./check_input_data --download in the case, or correct the paths",
        )


def _is_read(template: Template, key: str) -> bool:
    """Tell whether a run surely reads the file of a key; lnd_in names files of unused streams, too."""
    if key == "stream_fldfilename_prigentroughness":
        return namelist.get(template.lnd_in, "use_prigent_roughness") == ".true."
    return key == "stream_fldfilename_urbantv" or not key.startswith("stream_")


def require_libraries(executable: Path) -> None:
    """Raise `BadInput` where the system finds not all libraries of an executable; CIME loads modules before
    it starts one.

    Without `ldd`, or for a script, nothing is known.
    """
    try:
        libraries = subprocess.run(["ldd", str(executable)], capture_output=True, text=True).stdout
    except OSError:
        return
    missing = re.findall(r"^\s*(\S+) => not found", libraries, re.MULTILINE)
    if missing:
        raise BadInput(
            f"model: {executable} needs libraries that are not found here: {', '.join(missing)}",
            expected="the modules with which CIME compiled it",
            hint="`modules` of the machine file, or `. CASE/.env_mach_specific.sh` before fatescal starts",
        )


def _coordinates_of_case(template: Template) -> tuple[float, float]:
    """Return latitude and longitude [degrees north, east] of a single-point case."""
    text = template.files["nuopc.runconfig"]
    try:
        site = float(str(runconfig.get(text, "scol_lat"))), float(str(runconfig.get(text, "scol_lon")))
    except ValueError:
        site = -999.0, -999.0
    if not -90 <= site[0] <= 90:
        raise BadInput("the case is not of a single point", expected="PTS_LAT and PTS_LON", got=site)
    return site


def _require_fields(template: Template, variables: Sequence[str], checkout: Checkout) -> list[str]:
    """Compare the variables with the history fields that the case has listed, or that its source registers.

    Raises
    ------
    BadInput
        For a field that is in neither list.
    """
    listed: set[str] = set()
    for log in template.run_directory.glob("lnd.log*"):
        listed |= set(re.findall(r"^\s*\d+ (\w+) {2,}", log.read_text(errors="replace"), re.MULTILINE))
    has_run = len(listed) > MANY
    known = listed if has_run else checkout.fields
    named = f"history       {', '.join(variables)}"
    if len(known) <= MANY:
        return [f"{named} cannot be checked: the case has not run, and there is no source at {checkout.root}"]
    for name in variables:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            where = "lnd.log" if has_run else f"{checkout.root}/src"
            raise BadInput(
                f"observations.variables: the model has no history field {name}",
                hint=f"did you mean {near[0]}?" if near else f"a field in {where}",
            )
    return [] if has_run else [f"{named} are in the source; the first run shows whether they are switched on"]


def shares_of_pfts(template: Template, pfts: Sequence[str], pft_map: Array) -> dict[str, float]:
    """Return the share [1] of each plant functional type in the natural vegetation of the surface data.

    Parameters
    ----------
    pft_map : array (14, F)
        ``fates_hlm_pft_map``: CLM's types (without bare ground) to those of FATES.
    """
    with forcing.opened(template.path("fsurdat"), "lnd_in: fsurdat") as data:
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
