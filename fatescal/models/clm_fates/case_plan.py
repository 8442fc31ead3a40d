"""From a config to the case that `fatescal build` makes: the defaults, and what CIME would take without a
message.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date
from glob import glob
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from fatescal.base.errors import BadInput
from fatescal.models.base import Context

if TYPE_CHECKING:
    from fatescal.models.clm_fates.build_plan import Plan
    from fatescal.models.clm_fates.clm_options import BuildOptions, Cime, ClmFatesOptions
    from fatescal.models.clm_fates.site_folder import SiteFolder

ALWAYS = {  # XML variables of every case that members run from
    "NTASKS": "1",
    "CALENDAR": "NO_LEAP",
    "DATM_MODE": "CLMGSWP3v1",
    "CLM_FORCE_COLDSTART": "on",
    "DOUT_S": "FALSE",
    "NINST": "1",  # a multi-instance run sets as many as it has members
}
# What DATM calls the stream of a field.
STREAMS = {"Faxa_swdn": "Solar", "Faxa_precn": "Precip", "Sa_tbot": "TPQW"}
KEYS = {  # where the config, or the machine file, sets the arguments of create_newcase
    "compset": "model.build.compset",
    "res": "model.build.res",
    "mpilib": "model.build.mpilib",
    "machine": "cime.machine of the machine file",
    "compiler": "cime.compiler of the machine file",
    "project": "cime.project of the machine file",
    "output-root": "cime.output_root of the machine file",
    "DIN_LOC_ROOT": "cime.inputdata of the machine file",
}
NO_CLM51 = (5, 3, 14)  # the first CTSM without it


def site_folder(options: ClmFatesOptions, context: Context) -> Path | None:
    """Return the folder of the site, downloaded and unpacked where it is on the web."""
    site = options.site
    if site is None:
        return None
    if site.url is None:
        return context.path(str(site.path))
    from fatescal.models.clm_fates.site_folder import fetched

    return fetched(site.url, str(site.sha256), context.run / "site")


def decisive(options: ClmFatesOptions) -> dict[str, Any]:
    """Return the parts of a config that decide what is built."""
    kept = options.model_dump(
        mode="json", include={"source", "build", "site"}, exclude={"source": {"no_output_timeout"}}
    )
    return {**kept.pop("build"), **kept}


def plan(options: ClmFatesOptions, context: Context) -> Plan:
    """Return the case that a config wants on its machine.

    Raises
    ------
    BadInput
        For what is missing, and for what CIME would take without a message and be wrong.
    """
    from fatescal.models.clm_fates.build_plan import Plan
    from fatescal.models.clm_fates.site_folder import SiteFolder

    build, root, cime = _required(options, context)
    folder = site_folder(options, context)
    site = None if folder is None else SiteFolder.of(folder)
    of_site = _of_site(site, folder)
    inputs = {} if cime.inputdata is None else {"DIN_LOC_ROOT": cime.inputdata}
    xml = {**ALWAYS, **_times(options), **of_site, **inputs, **build.xml}
    mods = [context.path(path) for path in build.user_mods]
    if site is not None and site.user_mods is not None:
        mods.insert(0, site.user_mods)
    made = Plan(
        path=context.path(build.case),
        source=root,
        create=_create(build, cime),
        user_mods=tuple(mods),
        xml=xml,
        user_nl=_user_nl(options, context, root, site, xml["DATM_MODE"]),
        keys=dict.fromkeys(of_site, "model.site") | KEYS | _keys(build),
        config=decisive(options),
    )
    _refuse_traps(made, options)
    return made


def _required(options: ClmFatesOptions, context: Context) -> tuple[BuildOptions, Path, Cime]:
    """Return the case, the checkout and what CIME calls the machine, all of which must be given."""
    from fatescal.models.clm_fates.install import CREATE_NEWCASE

    cime = cast("Cime | None", context.machine.get("cime"))
    if options.build is None or options.source is None:
        raise BadInput("the config does not say what to build", expected="model.source and model.build")
    if cime is None:
        raise BadInput(
            "build needs to know what CIME calls this machine",
            expected="a machine file with `cime: {machine: fram, project: nn1234k}`",
            hint="--machine fram, or a copy of machines/template.yaml",
        )
    root = context.path(options.source.path)
    if not (root / CREATE_NEWCASE).is_file():
        raise BadInput(
            f"model.source: {root} has no {CREATE_NEWCASE}", hint="python -m fatescal install CONFIG"
        )
    return options.build, root, cime


def _create(build: BuildOptions, cime: Cime) -> dict[str, str]:
    """Return the options of create_newcase."""
    options = {
        "compset": build.compset,
        "res": build.res,
        "mpilib": build.mpilib,
        "driver": "nuopc",
        "machine": cime.machine,
        "compiler": cime.compiler,
        "project": cime.project,
        "output-root": cime.output_root,
    }
    return {name: value for name, value in options.items() if value is not None}


def _keys(build: BuildOptions) -> dict[str, str]:
    """Return where the config says what, by the names that CIME's errors use."""
    keys = {name: f"model.build.xml.{name}" for name in build.xml}
    for file in ("user_nl_clm", "user_nl_datm", "user_nl_datm_streams"):
        changes: Mapping[str, object] = getattr(build, file)
        keys |= {key: f"model.build.{file}.{key}" for key in changes}
    return keys


def _times(options: ClmFatesOptions) -> dict[str, str]:
    """Return what the case itself would run: spin-up and output. Members have times of their own."""
    first = options.start.replace(year=options.start.year - options.spinup.years)
    return {
        "RUN_STARTDATE": first.isoformat(),
        "STOP_OPTION": "ndays",
        "STOP_N": str(_days(first, options.end)),
    }


def _days(first: date, last: date) -> int:
    from fatescal.models.clm_fates.template import days

    return days(first, last)


def _of_site(site: SiteFolder | None, folder: Path | None) -> dict[str, str]:
    if site is None:
        return {}
    lat, lon = site.coordinates
    first, last = map(str, site.years)
    years = {"DATM_YR_START": first, "DATM_YR_END": last, "DATM_YR_ALIGN": first}
    return {
        "PTS_LAT": str(round(lat, 6)),
        "PTS_LON": str(round(lon, 6)),
        **years,
        "CLM_USRDAT_DIR": str(folder),
    }


def _user_nl(
    options: ClmFatesOptions, context: Context, root: Path, site: SiteFolder | None, mode: str
) -> dict[str, dict[str, Any]]:
    """Return the keys of each user_nl file: one tape with the observed variables, the files, then the
    config's own.
    """
    from fatescal.models.clm_fates.install import parameter_file

    build = options.build
    assert build is not None
    variables = list(dict.fromkeys(context.variables))
    clm: dict[str, Any] = {
        "hist_empty_htapes": True,
        "hist_fincl1": variables,
        "hist_nhtfrq": -24,
        "hist_mfilt": _days(options.start, options.end) + 1,
    }
    parameters = (
        parameter_file(root)[0] if options.parameter_file is None else context.path(options.parameter_file)
    )
    if (
        options.parameter_file is not None or parameters.suffix == ".nc"
    ):  # the JSON one is the model's default
        clm["fates_paramfile"] = str(parameters)
    streams: dict[str, Any] = {}
    if site is not None:
        clm["fsurdat"] = str(site.surface)
        for key, name in STREAMS.items():
            stream = f"{mode}.{name}"
            files = [str(path) for path in site.forcing[key]]
            streams |= {
                f"{stream}:datafiles": files,
                f"{stream}:meshfile": "none",
                f"{stream}:mapalgo": "none",
            }
    return {
        "user_nl_clm": clm | build.user_nl_clm,
        "user_nl_datm": dict(build.user_nl_datm),
        "user_nl_datm_streams": streams | {k: expanded(k, v) for k, v in build.user_nl_datm_streams.items()},
    }


def expanded(key: str, value: Any) -> Any:
    """Return the files, in order of their names, that a pattern such as ``/x/*.Solr.*.nc`` stands for."""
    if not key.endswith(":datafiles") or not isinstance(value, str) or "*" not in value:
        return value
    files = sorted(glob(value))
    if not files:
        raise BadInput(f"model.build.user_nl_datm_streams.{key}: no file is called {value}")
    return files


def _refuse_traps(made: Plan, options: ClmFatesOptions) -> None:
    """Raise `BadInput` for what CIME takes with a return code of 0, or refuses only after minutes."""
    compset, xml = made.create["compset"], made.xml
    tag = (options.source.tag if options.source is not None else None) or ""
    version = re.search(r"ctsm(\d+)\.(\d+)\.(?:dev)?(\d+)", tag)
    if "CLM51" in compset and version is not None and tuple(map(int, version.groups())) >= NO_CLM51:
        raise BadInput(f"model.build.compset: {tag} has no CLM51", expected="CLM60 or CLM50", got=compset)
    physics = re.search(r"CLM(\d)(\d)", compset)
    mode = xml.get("LND_TUNING_MODE")
    if mode is not None and physics is not None and not mode.startswith(f"clm{physics[1]}_{physics[2]}_"):
        raise BadInput(
            "model.build.xml.LND_TUNING_MODE is of another version of CLM than the compset",
            expected=f"clm{physics[1]}_{physics[2]}_..., for {physics[0]}",
            got=mode,
        )
    if "co2_ppmv" in made.user_nl["user_nl_clm"]:
        raise BadInput(
            "model.build.user_nl_clm.co2_ppmv would do nothing, without a word",
            hint="xml: {CCSM_CO2_PPMV: 389.8}",
        )
    if xml["NINST"] != "1":
        raise BadInput(
            "model.build.xml.NINST",
            expected="1: members run by themselves, or a run sets as many instances as it has members",
            got=xml["NINST"],
            hint="execution: multi-instance",
        )
    if xml["CALENDAR"] != "NO_LEAP":
        raise BadInput("model.build.xml.CALENDAR", expected="NO_LEAP", got=xml["CALENDAR"])
    if not made.user_mods and not {"PTS_LAT", "PTS_LON"} <= xml.keys():
        raise BadInput(
            "model.build does not say where the point is",
            expected="xml: {PTS_LAT: 61.8474, PTS_LON: 24.295}, or model.site",
        )
    _refuse_other_years(xml, options)
    _refuse_absent_files(made)


def _refuse_other_years(xml: Mapping[str, str], options: ClmFatesOptions) -> None:
    years = [int(xml[name]) for name in ("DATM_YR_START", "DATM_YR_END") if xml.get(name, "").isdecimal()]
    if len(years) == 2 and not (years[0] <= options.start.year and options.end.year <= years[1]):
        raise BadInput(
            "the forcing does not cover the output: the model would run, with the weather of other years",
            expected=f"model.start and model.end within {years[0]} to {years[1]}",
            got=f"{options.start} to {options.end}",
            hint="DATM_YR_START and DATM_YR_END, where there are files of more years",
        )


def _refuse_absent_files(made: Plan) -> None:
    """Raise `BadInput` that names all files of the config's own that are not there."""
    absent = [
        f"{made.key(key)}: there is no {path}"
        for values in made.user_nl.values()
        for key, value in values.items()
        for path in (map(str, value) if isinstance(value, list) else str(value).split(","))
        if path.startswith("/") and not Path(path).exists()
    ]
    if absent:
        raise BadInput(
            "; ".join(absent),
            hint="correct the path, or leave the key out where the model's own default will do",
        )
