"""Run directories of CTSM for tests: real ones, their paths turned to the real inputs, and the stand-in
executable.
"""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from pathlib import Path

import netCDF4
import standin_door

SAMPLES = {"A": "ctsm5.4_run", "B": "ctsm5.1_run"}
FATES = {
    "A": "fates_params_default_sci.1.92.7_api.46.0.0.json",
    "B": "fates_params_default_sci.1.68.2_api.30.0.0.cdl",
}
SURFDATA = "surfdata_0.9x1.25_hist_16pfts_Irrig_CMIP6_simyr2000_HYY_c230403.nc"


@dataclass(frozen=True)
class Case:
    """A template run directory and its executable."""

    run_directory: Path
    executable: Path
    version: str


def write_case(folder: Path, data: Path, version: str, years: tuple[int, int] = (2004, 2010)) -> Case:
    """Write the run directory of a version, as CIME leaves it, with the monthly forcing of `years`."""
    from fatescal.models.clm_fates import cdl

    run = folder / "run"
    write_run_directory(run, data, version, years)
    fates = data / "fates" / FATES[version]
    parameters = folder / ("fates.json" if version == "A" else "fates.nc")
    if version == "A":
        shutil.copy(fates, parameters)
    else:
        cdl.convert(fates, parameters)
    lnd_in = (run / "lnd_in").read_text()
    (run / "lnd_in").write_text(
        re.sub(r"fates_paramfile = '.*'", f"fates_paramfile = '{parameters}'", lnd_in)
    )
    known = data / "ctsm" / SAMPLES[version] / "lnd_in"
    return Case(run, install(folder / "bld", version, known), version)


def write_run_directory(run: Path, data: Path, version: str, years: tuple[int, int]) -> None:
    """Write the eight files of a real run directory, their paths turned to the real inputs."""
    run.mkdir(parents=True)
    sample = data / "ctsm" / SAMPLES[version]
    for name in ("datm_in", "drv_flds_in", "drv_in", "nuopc.runconfig", "nuopc.runseq"):
        shutil.copy(sample / name, run)
    (run / "fd.yaml").write_text("field_dictionary:\n  version_number: 0.0.0\n")
    lnd_in = (sample / "lnd_in").read_text()
    for old, new in _inputs(data).items():
        lnd_in = re.sub(f"'/[^']*/{re.escape(old)}'", f"'{new}'", lnd_in)
    (run / "lnd_in").write_text(lnd_in)
    (run / "datm.streams.xml").write_text(_streams((sample / "datm.streams.xml").read_text(), data, years))


def install(folder: Path, version: str, lnd_in: Path) -> Path:
    """Write the executable `folder`/cesm.exe, which starts the stand-in; return its path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "cesm.exe"
    standin_door.open_door()
    path.write_text(standin_door.script("standin_cesm", version, lnd_in))
    path.chmod(0o755)
    return path


def _inputs(data: Path) -> dict[str, Path]:
    found = {path.name: path for path in (data / "ctsm" / "inputs").glob("*.nc")}
    return found | {SURFDATA: data / "hyytiala" / "case_input" / SURFDATA}


def _streams(text: str, data: Path, years: tuple[int, int]) -> str:
    for word in ("Solr", "Prec", "TPQWL"):
        months = sorted((data / "hyytiala" / "datm").glob(f"*.{word}.*.nc"))
        files = [path for path in months if years[0] <= _year(path) <= years[1]]
        lines = "\n".join(f"      <file>{path}</file>" for path in files)
        text = re.sub(rf"(?:\s*<file>[^<]*\.{word}\.[^<]*</file>)+", f"\n{lines}", text)
    for old, new in _inputs(data).items():
        text = re.sub(f"<file>[^<]*/{re.escape(old)}</file>", f"<file>{new}</file>", text)
    text = text.replace("<year_last>2005</year_last>", f"<year_last>{years[1]}</year_last>")
    return text.replace("<year_first>2004</year_first>", f"<year_first>{years[0]}</year_first>")


def _year(path: Path) -> int:
    return int(path.name[-10:-6])


def write_site(folder: Path, data: Path, years: tuple[int, ...]) -> Path:
    """Write the folder of a site: Hyytiala moved to 62 N."""
    (folder / "datmdata").mkdir(parents=True)
    (folder / "user_mods").mkdir()
    shutil.copy(data / "ctsm" / "inputs" / "surfdata_HYY_ctsm54.nc", folder / "surfdata_62N.nc")
    with netCDF4.Dataset(folder / "surfdata_62N.nc", "a") as surface:
        surface["LATIXY"][:] = 62.0
    for path in (data / "hyytiala" / "datm").glob("*.nc"):
        if path.name[-10:-6] in map(str, years):
            shutil.copy(path, folder / "datmdata")
    return folder


COMPSETS = {
    "A": "2000_DATM%GSWP3v1_CLM60%FATES-SP_SICE_SOCN_SROF_SGLC_SWAV",
    "B": "2000_DATM%GSWP3v1_CLM51%FATES_SICE_SOCN_SROF_SGLC_SWAV",
}


XML = {
    "PTS_LAT": 61.8474,
    "PTS_LON": 24.295,
    "DATM_YR_START": 2004,
    "DATM_YR_END": 2010,
    "DATM_YR_ALIGN": 2004,
}
