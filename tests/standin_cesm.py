"""A stand-in for CTSM's `cesm.exe` at one point: its files, its refusals, its exit codes; not its science.

Started as `standin_cesm.py VERSION LND_IN` in a run directory, by the little script that `ctsm_case.install`
writes under the name ``cesm.exe``. VERSION is ``A`` (ctsm5.4, FATES JSON parameter file) or ``B`` (ctsm5.1,
netCDF); LND_IN is a namelist of the real model, whose keys (and the history keys) are the ones that it knows.
It reads the eight files the real model reads, runs the embedded land model over the forcing that the streams
name, and leaves logs, history, restart files and pointers as the real one does; refusals carry the real ones'
words (quoted from the logs of real failures) and exit codes.

Fluxes are the embedded model's. That model cannot start from a state, so what a restart file remembers is one
slow pool per run, which starts at 0.5, follows relative Vcmax with an e-folding time of `MEMORY` days and
scales GPP.

Faults on demand, by environment: ``STANDIN_CRASH``, ``STANDIN_HANG``, ``STANDIN_TRUNCATE``, each
``parameter pft low high``: members whose value lies between fail in the middle of the run, hang there, or end
well but leave a torn history file. ``STANDIN_LOG`` names a file that gets a line per run.
"""

from __future__ import annotations

import json
import os
import re
import resource
import sys
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator, Mapping
from datetime import date
from pathlib import Path
from typing import Any, Literal, NoReturn

import netCDF4
import numpy as np

from fatescal.models.canopy.canopy_model import Canopy
from fatescal.models.canopy.defaults import COLUMN_PARAMETERS, PFT_PARAMETERS
from fatescal.models.canopy.weather import VARIABLES, Weather, noleap_date, noleap_day

INPUTS = {  # a missing one ends the run with this exit code
    **dict.fromkeys(("nuopc.runconfig", "nuopc.runseq", "fd.yaml", "datm.streams.xml"), 1),
    **dict.fromkeys(("drv_in", "drv_flds_in", "datm_in", "lnd_in"), 2),
}
MEMORY = 200.0  # d
FIELDS = {  # column of the embedded model's output, or None; unit, factor, long name
    "FATES_GPP": ("gpp", "kg m-2 s-1", 1.0, "gross primary production in kg carbon per m2 per second"),
    "QFLX_EVAP_TOT": ("evaporation", "kg m-2 s-1", 1.0, "qflx_evap_soi + qflx_evap_can + qflx_tran_veg"),
    "EFLX_LH_TOT": ("evaporation", "W/m^2", 2.501e6, "total latent heat flux [+ to atm]"),
    "FSH": ("sensible", "W/m^2", 1.0, "sensible heat"),
    "TSA": (None, "K", 1.0, "2m air temperature"),
    "TLAI": (None, "m", 1.0, "TLAI weights for SP mode"),
    "FATES_LAI": (None, "m2 m-2", 1.0, "total leaf area index per m2 land area"),
}
HISTORY_KEYS = {"hist_empty_htapes", *(f"hist_fincl{n}" for n in range(1, 11)), "hist_mfilt", "hist_nhtfrq"}
FILL = 1e36
SOURCE = "/src/CTSM"
PIO = f"{SOURCE}/libraries/parallelio/src/clib/pioc_support.c"


class Logs:
    """The logs of the components, where nuopc.runconfig wants them."""

    def __init__(self, runconfig: Mapping[str, Mapping[str, str]]) -> None:
        self._files = {
            name: open(Path(block["diro"]) / block["logfile"], "w", buffering=1)  # noqa: SIM115
            for name, block in ((n, runconfig[f"{n.upper()}_modelio"]) for n in ("med", "atm", "lnd", "drv"))
        }

    def __call__(self, component: str, *lines: str) -> None:
        self._files[component].write("".join(f"{line}\n" for line in lines))


def end(code: int) -> NoReturn:
    """End like Fortran's stop."""
    sys.stdout.flush()
    sys.stderr.write("#0  0x7f9027245249 in ???\n" if code else "")
    sys.stderr.flush()
    os._exit(code)


BACKTRACE = (
    "\nProgram received signal SIGABRT: Process abort signal.\n\nBacktrace for this error:\n"
    + "".join(f"#{i}  0x7ff4164218c2 in ???\n" for i in range(40))
)


def abort(message: str) -> NoReturn:
    """End as parallel I/O does: SIGABRT, a word at the head of standard error alone."""
    die(f"Abort with message {message} in file {PIO} at line 2858")


def die(message: str) -> NoReturn:
    """End by SIGABRT: a message at the head of standard error, then addresses."""
    sys.stderr.write(f"{message}\n{BACKTRACE}")
    sys.stderr.flush()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.abort()


def esmf_abort(
    logs: Logs, *lines: str, code: int = 1, pet: str = "Unknown error submitted to shr_abort_abort."
) -> NoReturn:
    """End by shr_abort: words in lnd.log, a line in PET0.ESMF_LogFile."""
    logs("lnd", *lines)
    Path("PET0.ESMF_LogFile").write_text(
        f"20261122 085759.846 ERROR            PET0 {pet}\n"
        "20261122 085800.093 INFO             PET0  Finalizing ESMF with endflag==ESMF_END_ABORT\n"
    )
    end(code)


def read_runconfig(path: Path) -> dict[str, dict[str, str]]:
    """Return the blocks of an ESMF resource file."""
    blocks: dict[str, dict[str, str]] = {}
    block: dict[str, str] = {}
    for line in path.read_text().splitlines():
        if re.fullmatch(r"\w+::", line.strip()):
            block = blocks.setdefault(line.strip()[:-2], {})
        elif "=" in line:
            key, value = line.split("=", 1)
            block[key.strip()] = value.strip()
    return blocks


def read_namelist(path: Path) -> dict[str, list[str]]:
    """Return key: values of all groups of a namelist; quotes taken off. ValueError for a malformed line."""
    values = {}
    for line in path.read_text().splitlines():
        text = line.strip()
        if not text or text[0] in "!&/":
            continue
        key, equals, value = text.partition("=")
        if not equals or value.count("'") % 2:
            raise ValueError(text)
        words = re.findall(r"'[^']*'|[^,\s][^,]*", value)
        values[key.strip().lower()] = [w.strip().strip("'") for w in words]
    return values


def getfil(logs: Logs, path: str, namelist_key: str) -> Path:
    """Return an input file of the land model, which must exist."""
    if not Path(path).is_file():
        logs("lnd", "(GETFIL): attempting to find local file ", os.path.basename(path))
        pet = f"{SOURCE}/src/utils/fileutils.F90:111 GETFIL: FAILED to get {path}"
        esmf_abort(
            logs,
            f"(GETFIL): failed getting file from full path: {path}",
            f" GETFIL: FAILED to get {path}",
            pet=pet,
        )
    return Path(path)


def open_netcdf(path: Path) -> netCDF4.Dataset:
    try:
        return netCDF4.Dataset(path)
    except OSError:
        abort("NetCDF: Unknown file format" if path.exists() else "No such file or directory")


# ---- forcing


def read_streams(path: Path, variables: set[str]) -> Iterator[tuple[ElementTree.Element, list[str]]]:
    """Yield each stream, with those of its variables that are asked for; all its files must exist."""
    for stream in ElementTree.parse(path).getroot():
        names = [line.text.split()[0] for line in stream.find("datavars") if line.text]  # type: ignore[union-attr]
        for file in stream.find("datafiles"):  # type: ignore[union-attr]
            if not Path(file.text.strip()).is_file():  # type: ignore[union-attr]
                abort("No such file or directory")
        yield stream, [name for name in names if name in variables]


def read_weather(path: Path, version: str, start: date, end_: date) -> Weather:
    """Return the weather of a run: years outside the stream's are taken from within, silently."""
    values: dict[str, np.ndarray] = {}
    for stream, names in read_streams(path, set(VARIABLES)):
        if not names:
            continue
        first, last, align = (int(stream.findtext(f"year_{w}") or 0) for w in ("first", "last", "align"))
        needed = {first + (y - align) % (last - first + 1) for y in range(start.year, end_.year + 1)}
        years: dict[int, dict[str, np.ndarray]] = {}
        for file in stream.find("datafiles"):  # type: ignore[union-attr]
            for year, pieces in _years_of(Path(file.text.strip()), names, version, needed):  # type: ignore[union-attr]
                known = years.setdefault(year, {})
                known.update(
                    {n: np.concatenate([known[n], p]) if n in known else p for n, p in pieces.items()}
                )
        for name in names:
            cycled = (
                first + (year - align) % (last - first + 1) for year in range(start.year, end_.year + 1)
            )
            values[name] = np.concatenate([years[year][name] for year in cycled])
    values["QBOT"] = np.maximum(values["QBOT"], 1e-5)
    return Weather(noleap_day(date(start.year, 1, 1)), values, {}).period(start, end_)


def _years_of(
    path: Path, names: list[str], version: str, needed: set[int]
) -> Iterator[tuple[int, dict[str, np.ndarray]]]:
    """Yield the records of the needed years; variables are read with start (1, 1, n), count (1, 1, 1)."""
    with netCDF4.Dataset(path) as data:
        if any(data[name].shape[1:] != (1, 1) for name in names):
            die("free(): invalid pointer" if version == "A" else "corrupted size vs. prev_size")
        origin = date.fromisoformat(data["time"].units.split()[2])
        days = noleap_day(origin) + np.floor(np.asarray(data["time"][:], float) + 1e-3).astype(int)
        if not needed & set(np.unique(days // 365).tolist()):
            return
        columns = {name: np.asarray(data[name][:], float).reshape(len(days)) for name in names}
    for year in np.unique(days // 365):
        yield int(year), {name: column[days // 365 == year] for name, column in columns.items()}


# ---- parameters


def read_json_parameters(logs: Logs, path: Path) -> dict[str, Any]:
    """Return the parameters of version A's file, refused as its Fortran reader refuses them."""
    logs("lnd", " Reading FATES parameters")
    if not path.is_file():
        esmf_abort(logs, f" ERROR: Could not open parameter file: {path}", " IOSTAT value:            2")
    text = path.read_bytes().decode("latin-1")
    if '"dimensions"' not in text:
        esmf_abort(logs, ' JSONFindTagPos, tag:"dimensions" not found?')
    try:
        content = json.loads(text)
    except json.JSONDecodeError:
        tag = re.findall(r'"(fates_\w+)"', text)[-1]
        esmf_abort(logs, f' JSONFindTagPos, tag:"{tag}"no separator found?')
    for name, parameter in content["parameters"].items():
        shape = [content["dimensions"][d] for d in parameter["dims"] if d != "scalar"]
        if shape and np.shape(parameter["data"]) != tuple(shape):
            size = f"{len(shape)}d parameter size does not match dimension size"
            esmf_abort(
                logs, f" {size}", "           " + "           ".join(map(str, [1, *shape])), f" {name}"
            )
    return {name: parameter["data"] for name, parameter in content["parameters"].items()}


def read_netcdf_parameters(logs: Logs, path: Path) -> dict[str, Any]:
    """Return the parameters of version B's file."""
    with open_netcdf(getfil(logs, str(path), "fates_paramfile")) as data:
        data.set_auto_mask(False)
        found = {name: variable[:] for name, variable in data.variables.items()}
        found["fates_pftname"] = [name.strip() for name in netCDF4.chartostring(data["fates_pftname"][:])]
    return found


def theta_of(logs: Logs, version: str, lnd: Mapping[str, list[str]], model: Canopy) -> np.ndarray:
    """Return the embedded model's parameters, from the three places the real model has them in."""
    path = Path(lnd["fates_paramfile"][0])
    given = read_json_parameters(logs, path) if version == "A" else read_netcdf_parameters(logs, path)
    ball_berry = (
        lnd["fates_stomatal_model"][0] == "ballberry1987"
        if version == "A"
        else float(np.squeeze(given["fates_leaf_stomatal_model"])) == 1
    )
    values = dict(model.defaults)
    for parameter in PFT_PARAMETERS:
        if parameter.name == "fates_leaf_stomatal_slope_ballberry" and not ball_berry:
            continue
        _require(logs, version, parameter.name, given)
        per_pft = np.asarray(given[parameter.name], float).reshape(-1)
        for pft in model.pfts:
            values[f"{parameter.name}_{pft}"] = per_pft[list(given["fates_pftname"]).index(pft)]
    with open_netcdf(getfil(logs, lnd["paramfile"][0], "paramfile")) as data:
        for parameter in COLUMN_PARAMETERS:
            if parameter.name in data.variables:
                if data[parameter.name].size != 1:
                    end(139)  # a wrong shape kills it without a word
                values[parameter.name] = float(np.squeeze(data[parameter.name][:]))
    if "maximum_leaf_wetted_fraction" in lnd:
        values["maximum_leaf_wetted_fraction"] = float(lnd["maximum_leaf_wetted_fraction"][0])
    if not np.isfinite(list(values.values())).all():
        place = f"ERROR in {SOURCE}/src/fates/biogeochem/EDPhysiologyMod.F90 at line 1953"
        esmf_abort(logs, " error in validate treelai  0.2  0.0  0.2", " ENDRUN: ", f" {place}", pet=place)
    for name in values:  # nonsense runs, and is reported as success
        if name.startswith("fates_leaf"):
            values[name] = max(values[name], 1e-6)
    return np.array(list(values.values()))


def _require(logs: Logs, version: str, name: str, given: Mapping[str, Any]) -> None:
    if name in given:
        return
    if version == "A":
        esmf_abort(
            logs,
            f" Error finding parameter by name,scanned          {len(given)}  parameters",
            f" Cant find: {name}",
        )
    word = f"ERROR: clmfates_interface::ReadParametereadNcdio:: - Error reading.  Var:{name}"
    logs("lnd", f" check_var: variable {name} is not on dataset", " ENDRUN:", f" {word}")
    sys.stderr.write("MPI_Abort: error code = 1001\n")
    end(233)


# ---- history and restart


def create_netcdf(path: Path, version: str) -> netCDF4.Dataset:
    """Return a new file, CDF-5 or CDF-2."""
    form: Literal["NETCDF3_64BIT_DATA", "NETCDF3_64BIT_OFFSET"]
    form = "NETCDF3_64BIT_DATA" if version == "A" else "NETCDF3_64BIT_OFFSET"
    return netCDF4.Dataset(path, "w", format=form)


class Tape:
    """One history tape: its records, in files of `mfilt` each, named by the end of their first record."""

    def __init__(
        self, stem: str, version: str, fields: list[str], frequency: int, mfilt: int, origin: date
    ) -> None:
        self.fields, self._frequency = fields, frequency
        self._stem, self._version, self._mfilt = stem, version, mfilt
        self._origin = noleap_day(origin)
        self._file: netCDF4.Dataset | None = None
        self.path = Path()
        self._n = 0

    def intervals(self, n_days: int) -> list[tuple[int, int]]:
        """Return begin and end [d] of every record of a run; version B begins with one of no length."""
        if self._frequency == -24:
            whole = [(day, day + 1) for day in range(n_days)]
            return [(0, 0), *whole] if self._version == "B" else whole
        ends = [d for d in range(1, n_days + 1) if noleap_date(self._origin + d).day == 1]
        return list(zip([0, *ends], ends, strict=False))

    def write(self, begin: int, end_: int, values: Mapping[str, float]) -> None:
        if self._file is None or self._n == self._mfilt:
            self._create(end_)
        assert self._file is not None
        time_ = (begin + end_) / 2 if self._version == "A" else end_
        for name, value in {"time": time_, "time_bounds": (begin, end_), **values}.items():
            self._file[name][self._n] = value
        self._n += 1

    def close(self) -> None:
        if self._file is not None:
            self._file.close()

    def _create(self, day: int) -> None:
        self.close()
        self._n = 0
        self.path = Path(f"{self._stem}.{noleap_date(self._origin + day)}-00000.nc")
        kind = "f8" if self._version == "A" else "f4"
        data = self._file = create_netcdf(self.path, self._version)
        data.title, data.source = "CLM History file information", "stand-in for cesm.exe (tests of fatescal)"
        data.case_id = self.path.name.split(".")[0]
        bounds = "nbnd" if self._version == "A" else "hist_interval"
        for name, size in (("time", None), (bounds, 2), ("lndgrid", 1)):
            data.createDimension(name, size)
        time_ = data.createVariable("time", kind, ("time",))
        time_.units, time_.calendar = f"days since {noleap_date(self._origin)} 00:00:00", "noleap"
        time_.bounds = "time_bounds"
        data.createVariable("time_bounds", "f8", ("time", bounds))
        for name in self.fields:
            field = data.createVariable(name, kind, ("time", "lndgrid"), fill_value=FILL)
            _, field.units, _, field.long_name = FIELDS[name]
            field.cell_methods = "time: mean"


def tapes(logs: Logs, version: str, case: str, lnd: Mapping[str, list[str]], start: date) -> list[Tape]:
    """Return the history tapes the namelist asks for."""
    empty = lnd.get("hist_empty_htapes", [".false."])[0].strip(".").lower().startswith("t")
    made = []
    for number in range(1, 11):
        fields = list(lnd.get(f"hist_fincl{number}", []))
        fields += [] if number > 1 or empty else [f for f in FIELDS if f not in fields]
        unknown = [f for f in fields if f not in FIELDS]
        if unknown:
            word = f"htapes_fieldlist ERROR: {unknown[0]} in fincl({number}) not found"
            esmf_abort(logs, f" {word}", pet=word)
        if not fields:
            continue
        frequency = int(lnd["hist_nhtfrq"][number - 1]) if number <= len(lnd["hist_nhtfrq"]) else -24
        if frequency not in (0, -24):
            raise NotImplementedError("the stand-in writes daily and monthly means only")
        mfilt = int(lnd["hist_mfilt"][number - 1]) if number <= len(lnd["hist_mfilt"]) else 30
        suffix = f"h{number - 1}" + ("a" if version == "A" else "")
        made.append(Tape(f"{case}.clm2.{suffix}", version, fields, frequency, mfilt, start))
    return made


def write_restart(case: str, version: str, day: date, pool: float, tapes_: list[Tape]) -> None:
    stamp = f"{day}-00000"
    suffix = f".{stamp}" if version == "A" else ""
    restarts = {
        "lnd": f"./{case}.clm2.r.{stamp}.nc",
        "cpl": f"{case}.cpl.r.{stamp}.nc",
        "atm": f"{case}.datm.r.{stamp}.nc",
    }
    for component, name in restarts.items():
        with create_netcdf(Path(name), version) as data:
            data.createDimension("gridcell", 1)
            data.createVariable("pool", "f8", ("gridcell",))[:] = pool
        Path(f"rpointer.{component}{suffix}").write_text(f"{name:<256}\n")
    for number in range(len(tapes_)):
        Path(f"{case}.clm2.rh{number}{'a' if version == 'A' else ''}.{stamp}.nc").write_bytes(b"CDF\5")


# ---- the run


def period(clock: Mapping[str, str]) -> tuple[date, date]:
    """Return first and last day of the run."""
    ymd, n = clock["start_ymd"].zfill(8), int(clock["stop_n"])
    start = date(int(ymd[:-4]), int(ymd[-4:-2]), int(ymd[-2:]))
    match clock["stop_option"]:
        case "nyears" | "nyear":
            length = 365 * n
        case "ndays" | "nday":
            length = n
        case other:
            raise NotImplementedError(f"the stand-in knows no stop_option {other}")
    return start, noleap_date(noleap_day(start) + length - 1)


def restarts_at_end(config: Mapping[str, Mapping[str, str]]) -> bool:
    """Tell whether a restart is written when the run ends (other times are left out)."""
    clock = config["CLOCK_attributes"]
    asked = {**config["ALLCOMP_attributes"], **clock}.get("write_restart_at_endofrun", ".false.")
    option, stop = clock["restart_option"].rstrip("s"), clock["stop_option"].rstrip("s")
    days = {"nyear": 365, "nday": 1}
    due = option in days and int(clock["stop_n"]) * days[stop] % (int(clock["restart_n"]) * days[option]) == 0
    return due or option == "end" or asked.strip(".").lower().startswith("t")


def stricken(fault: str, theta: Mapping[str, float]) -> bool:
    """Tell whether this member has been asked to fail so."""
    asked = os.environ.get(f"STANDIN_{fault}", "").split()
    return bool(asked) and float(asked[2]) < theta[f"{asked[0]}_{asked[1]}"] < float(asked[3])


def initial_pool(logs: Logs, finidat: str) -> float:
    if not finidat.strip():
        return 0.5
    logs("lnd", f"Reading initial conditions from file {finidat}")
    with open_netcdf(getfil(logs, finidat, "finidat")) as data:
        return float(data["pool"][0])


def simulate(model: Canopy, theta: np.ndarray, pool: float) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Return the daily fields, and the pool (days + 1)."""
    daily = model.simulate(theta)
    vcmax = theta[: len(model.pfts)] / list(model.defaults.values())[: len(model.pfts)]
    target = float(np.clip(model.site.share @ vcmax, 0.1, 3.0))
    pools = target + (pool - target) * (1 - 1 / MEMORY) ** np.arange(model.n_days + 1)
    series = {n: daily[c][0] * factor for n, (c, _, factor, _) in FIELDS.items() if c is not None}
    series["FATES_GPP"] = series["FATES_GPP"] * (1 + 0.2 * (pools[:-1] - 1))
    doy = (noleap_day(model.start) + np.arange(model.n_days)) % 365
    series["TLAI"] = series["FATES_LAI"] = (model.site.monthly_to_daily(model.site.lai) @ model.site.share)[
        doy
    ]
    series["TSA"] = model.weather.values["TBOT"].reshape(model.n_days, -1).mean(axis=1)
    return series, pools


def main(version: str, known_lnd_in: Path) -> None:
    for name, code in INPUTS.items():
        if not Path(name).is_file():
            sys.stderr.write(f"Fortran runtime error: File '{name}' does not exist\n")
            end(code)
    config = read_runconfig(Path("nuopc.runconfig"))
    logs = Logs(config)
    sys.stderr.write(" (t_initf) Read in prof_inparm namelist from: drv_in\n")
    attributes, clock = config["ALLCOMP_attributes"], config["CLOCK_attributes"]
    case = attributes["case_name"]
    start, last = period(clock)
    logs("drv", f" driver start_ymd:   {clock['start_ymd']}")
    list(read_streams(Path("datm.streams.xml"), set()))
    lnd = _land_namelist(logs, known_lnd_in)
    _note(case, clock, lnd)
    model = Canopy("synthetic", date(start.year, 1, 1), date(last.year, 12, 31), spinup_years=0)
    theta = theta_of(logs, version, lnd, model)
    getfil(logs, lnd["fsurdat"][0], "fsurdat")
    n_days = noleap_day(last) - noleap_day(start) + 1
    made = tapes(logs, version, case, lnd, start)
    if attributes["start_type"] != "startup":
        raise NotImplementedError("the stand-in only starts up")
    pool = initial_pool(logs, (lnd.get("finidat") or [" "])[0])
    profiled = "med_phases_profile" in Path("nuopc.runseq").read_text()
    if version == "B" and profiled and clock["calendar"] == "NO_LEAP":
        abort("calendars of alarm and clock differ")
    model.weather = read_weather(Path("datm.streams.xml"), version, model.start, model.end)
    series, pools = simulate(model, theta, pool)
    before = noleap_day(start) - noleap_day(model.start)
    series = {name: values[before : before + n_days] for name, values in series.items()}
    named = dict(zip(model.names, theta.tolist(), strict=True))
    _integrate(logs, start, n_days, made, series, named, profiled)
    if restarts_at_end(config):
        write_restart(case, version, noleap_date(noleap_day(last) + 1), pools[n_days], made)
    _finish(logs, made, torn=stricken("TRUNCATE", named))


def _land_namelist(logs: Logs, known: Path) -> dict[str, list[str]]:
    logs(
        "lnd",
        " Attempting to initialize the land model .....",
        "",
        " Attempting to initialize run control settings .....",
        " Read in clm_inparm namelist from: lnd_in",
    )
    try:
        lnd = read_namelist(Path("lnd_in"))
        unknown = set(lnd) - set(read_namelist(known)) - HISTORY_KEYS
    except ValueError as error:
        unknown = {str(error)}
    if unknown:
        word = f"ERROR reading clm_inparm namelistERROR in {SOURCE}/src/main/controlMod.F90 at line 383"
        esmf_abort(logs, " ENDRUN:", f" {word}", pet=word)
    if lnd.get("fates_history_dimlevel", ["1"])[0] == "0":
        word = f"ERROR in {SOURCE}/src/main/histFileMod.F90 at line 836"
        esmf_abort(logs, " ENDRUN:", f" {word}", pet=word)
    return lnd


def _note(case: str, clock: Mapping[str, str], lnd: Mapping[str, list[str]]) -> None:
    if "STANDIN_LOG" in os.environ:
        with open(os.environ["STANDIN_LOG"], "a") as log:
            years, finidat = f"{clock['stop_n']} {clock['stop_option']}", lnd["finidat"][0].strip()
            log.write(f"{case} {clock['start_ymd']} {years} {finidat or 'cold'} {os.getcwd()}\n")


def _integrate(
    logs: Logs,
    start: date,
    n_days: int,
    made: list[Tape],
    series: Mapping[str, np.ndarray],
    theta: Mapping[str, float],
    profiled: bool,
) -> None:
    """Write the records of all tapes, and a line a day; fail or hang half-way where asked to."""
    due = {id(tape): tape.intervals(n_days) for tape in made}
    for day in range(n_days + 1):
        for tape in made:
            for begin, end_ in (i for i in due[id(tape)] if i[1] == day):
                window = slice(begin, end_) if end_ > begin else slice(0, 1)
                values = {n: float(np.mean(series[n][window])) for n in tape.fields}
                if end_ == begin and "FATES_GPP" in values:
                    values["FATES_GPP"] = 0.0
                tape.write(begin, end_, values)
                logs(
                    "lnd",
                    f" hist_htapes_wrapup : Writing current time sample to local history file ./{tape.path} "
                    f"at nstep =        {48 * day}",
                )
        if profiled and day:
            logs(
                "med",
                f"Model Date: {noleap_date(noleap_day(start) + day)}T00:00:00 wall clock = "
                "2026-11-22T09:00:00 avg dt =     0.53 s/day, dt =     0.70 s/day, rate =   339.04 ypd",
            )
        if 2 * day == n_days or 2 * day == n_days - 1:
            _strike(logs, made, theta)


def _strike(logs: Logs, made: list[Tape], theta: Mapping[str, float]) -> None:
    if stricken("CRASH", theta):
        place = f"ERROR in {SOURCE}/src/biogeophys/BalanceCheckMod.F90 at line 742"
        esmf_abort(logs, " ENDRUN: ", f" {place}", pet=place)
    if stricken("HANG", theta):
        for tape in made:
            tape.close()
        while True:
            time.sleep(60)


def _finish(logs: Logs, made: list[Tape], torn: bool) -> None:
    for tape in made:
        tape.close()
        if torn:
            with open(tape.path, "r+b") as file:
                file.truncate(tape.path.stat().st_size // 2)
    logs("lnd", "(lnd_comp_nuopc) CTSM: end of main integration loop")
    logs("atm", " datm : end of main integration loop")
    logs("drv", "  SUCCESSFUL TERMINATION OF CESM")
    logs("med", "  SUCCESSFUL TERMINATION OF CMEPS")
    print("  max rss=86110208.0 MB")


def program(arguments: list[str]) -> int:
    main(arguments[0], Path(arguments[1]))
    return 0


if __name__ == "__main__":
    program(sys.argv[1:])
