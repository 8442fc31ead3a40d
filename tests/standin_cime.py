"""A stand-in for CIME: its commands, refusals, files, CaseStatus and return codes; it compiles nothing.

`create_newcase`, `xmlchange`, `xmlquery`, `case.setup`, `preview_namelists`, `case.build`, `case.submit` (and
the `case.run`, `case.st_archive` that it submits) of a checkout that `install` has been run in. They behave
as those of ctsm5.4 (version ``A``) or ctsm5.1 (``B``) were seen to: the same return codes, words of success,
traps. Run directory files come from the real samples (`ctsm_case`), changed by the user_nl_* files and the
XML variables that matter at one point; the executable is the stand-in `cesm.exe`. One dying instance of a
multi- instance case takes all others with it.

Copies of the machine's description: create_newcase and ``case.setup --reset`` copy
`~/.cime/config_machines.xml` into ``env_mach_specific.xml`` and the ``*.cmake`` of that folder into
``cmake_macros``; a changed original changes nothing before that. ``case.setup --reset`` marks the model as
not built.

Input data: `preview_namelists` lists files in ``Buildconf/*.input_data_list``, `check_input_data` names those
that are not there (return code 1), with ``--download`` after fetching them from the folder
``STANDIN_INPUT_SERVER``; `case.submit` refuses to run without them, also where a single point never reads
them. `install` creates those files.

``STANDIN_CIME_DIE`` ends a command in its middle, with its name: ``case.build``; ``STANDIN_BUILD_FAIL`` makes
the compiler fail: in a model component, or with the value ``pio`` in a shared library;
``STANDIN_BUILD_SECONDS`` is how long it takes. A `case.build` whose starter is killed goes on. The word
BROKEN in ``env_mach_specific.xml`` fails every build.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from xml.etree import ElementTree

import standin_door

COMPONENTS = ("CPL", "ATM", "LND", "ICE", "OCN", "ROF", "GLC", "WAV", "ESP")
PER_COMPONENT = ("NTASKS", "NTHRDS", "ROOTPE", "PSTRID")
PER_JOB = ("JOB_WALLCLOCK_TIME", "JOB_QUEUE")
JOBS = ("case.run", "case.st_archive")
STOP = [
    "none",
    "never",
    "nsteps",
    "nseconds",
    "nminutes",
    "nhours",
    "ndays",
    "nmonths",
    "nyears",
    "date",
    "end",
]
LOGICAL = ["TRUE", "FALSE"]
TUNING = {"A": ("clm4_5", "clm5_0", "clm6_0"), "B": ("clm4_5", "clm5_0", "clm5_1")}
FORCINGS = ("CRUv7", "GSWP3v1", "cam6.0", "CRUJRA2024b", "1PT")
COMMANDS = (
    *("xmlchange", "xmlquery", "case.setup", "preview_namelists", "case.build", "case.submit"),
    "check_input_data",
)
DATA = "/cluster/work/users/me/ctsm/inputdata"  # in the samples
FATES_SP = """
! Turn FATES-SP mode on
use_fates_sp = .true.
! Some settings that will be set when FATES-SP mode is turned on
soil_decomp_method = 'None'
use_lch4 = .false.
fates_spitfire_mode = 0
use_fates_fixed_biogeog = .true.
use_fates_nocomp = .true.
"""
HEAD = "!" + 72 * "-" + "\n! Users should add all user specific namelist changes below in the form of \n"
LINE = " ---------------------------------------------------\n"
ALSO_KNOWN = re.compile(
    r"hist_(fincl|fexcl)\d+|hist_\w+|use_init_interp|co2_ppmv|finidat|flanduse_timeseries"
)


class Refused(Exception):
    """What CIME ends with: rc 1 and one ERROR line."""


# ---- XML files of a case


def variables(version: str) -> Iterator[tuple[str, str, str, str, list[str] | None]]:
    """Yield file, name, type, default and valid values of the variables that the stand-in knows."""
    tuning = [f"{physics}_{forcing}" for physics in TUNING[version] for forcing in FORCINGS]
    for name in ("CASE", "CASEROOT", "COMPSET", "GRID", "MACH", "SRCROOT", "CIMEROOT", "USER", "PROJECT"):
        yield "env_case.xml", name, "char", "UNSET", None
    yield "env_build.xml", "CIME_OUTPUT_ROOT", "char", "UNSET", None
    yield "env_build.xml", "EXEROOT", "char", "$CIME_OUTPUT_ROOT/$CASE/bld", None
    yield "env_build.xml", "COMPILER", "char", "gnu", None
    yield "env_build.xml", "MPILIB", "char", "mpi-serial", None
    yield "env_build.xml", "DEBUG", "logical", "FALSE", LOGICAL
    yield "env_build.xml", "CLM_CONFIG_OPTS", "char", "-bgc fates", None
    yield "env_build.xml", "BUILD_COMPLETE", "logical", "FALSE", LOGICAL
    for name in PER_COMPONENT:
        yield "env_mach_pes.xml", name, "integer", "0" if name == "ROOTPE" else "1", None
    yield "env_mach_pes.xml", "NINST", "integer", "1", None
    yield "env_mach_pes.xml", "MULTI_DRIVER", "logical", "TRUE" if version == "A" else "FALSE", LOGICAL
    yield "env_batch.xml", "BATCH_SYSTEM", "char", "none", None
    yield "env_batch.xml", "JOB_WALLCLOCK_TIME", "char", "0:20:00", None
    yield "env_batch.xml", "JOB_QUEUE", "char", "", None
    run = "env_run.xml"
    yield run, "RUNDIR", "char", "$CIME_OUTPUT_ROOT/$CASE/run", None
    yield run, "DOUT_S", "logical", "TRUE", LOGICAL
    yield run, "DOUT_S_ROOT", "char", "$CIME_OUTPUT_ROOT/archive/$CASE", None
    yield run, "DIN_LOC_ROOT", "char", "UNSET", None
    yield run, "STOP_OPTION", "char", "ndays", STOP
    yield run, "STOP_N", "integer", "5", None
    yield run, "REST_OPTION", "char", "$STOP_OPTION", STOP
    yield run, "REST_N", "integer", "$STOP_N", None
    yield run, "RUN_TYPE", "char", "startup", ["startup", "hybrid", "branch"]
    yield run, "RUN_STARTDATE", "char", "2000-01-01", None
    yield run, "CONTINUE_RUN", "logical", "FALSE", LOGICAL
    yield run, "RESUBMIT", "integer", "0", None
    yield run, "JOB_IDS", "char", "", None
    yield run, "CALENDAR", "char", "NO_LEAP", ["NO_LEAP", "GREGORIAN"]
    yield run, "CCSM_CO2_PPMV", "real", "367.0", None
    yield run, "CLM_CO2_TYPE", "char", "constant", ["constant", "diagnostic", "prognostic"]
    modes = ["CLMGSWP3v1", "CLMCRUJRA2024b", "CLM1PT", "CLM_QIAN"]
    yield run, "DATM_MODE", "char", "CLMGSWP3v1", modes
    for name in ("DATM_YR_START", "DATM_YR_END", "DATM_YR_ALIGN"):
        yield run, name, "integer", {"DATM_YR_END": "2004"}.get(name, "1991"), None
    yield run, "LND_TUNING_MODE", "char", tuning[-1], tuning
    yield run, "CLM_FORCE_COLDSTART", "char", "off", ["on", "off"]
    yield run, "CLM_BLDNML_OPTS", "char", "", None
    yield run, "CLM_NML_USE_CASE", "char", "2000_control", None
    for name in ("CLM_USRDAT_DIR", "CLM_USRDAT_NAME", "LND_DOMAIN_MESH", "ATM_DOMAIN_MESH", "MASK_MESH"):
        yield run, name, "char", "UNSET", None
    for name in ("PTS_LON", "PTS_LAT"):
        yield run, name, "real", "-999.99", None


class Case:
    """A case directory."""

    def __init__(self, root: Path) -> None:
        self.root = root
        files = [path for path in sorted(root.glob("env_*.xml")) if path.name != "env_mach_specific.xml"]
        self.trees = {path.name: ElementTree.parse(path) for path in files}
        if not self.trees:
            raise Refused(f"Directory {root} does not appear to be a valid case directory")
        self.checkout = json.loads((Path(self["CIMEROOT"]) / "standin.json").read_text())

    @property
    def version(self) -> str:
        return str(self.checkout["version"])

    def entry(self, name: str) -> ElementTree.Element | None:
        for tree in self.trees.values():
            found = tree.getroot().find(f"entry[@id='{name}']")
            if found is not None:
                return found
        return None

    def __getitem__(self, name: str) -> str:
        """Return a value, `$VARIABLES` in it resolved; of a variable of each component, LND's."""
        entry = self.entry(name)
        assert entry is not None, name
        value = entry.get("value") if len(entry.findall("value")) == 0 else _of(entry, "LND", "case.run").text
        return re.sub(r"\$(\w+)", lambda m: self[m[1]], value or "")

    def set(self, name: str, value: str, *, force: bool = False, subgroup: str | None = None) -> None:
        """Set a variable, as checked as xmlchange checks."""
        component = None
        entry = self.entry(name)
        if (
            entry is None
            and name.rpartition("_")[0] in PER_COMPONENT
            and name.rpartition("_")[2] in COMPONENTS
        ):
            name, _, component = name.rpartition("_")
            entry = self.entry(name)
        if entry is None:
            raise Refused(f"No variable {name} found in case")
        if not force and not value.startswith("$"):
            _require_valid(name, entry, value)
            value = value.upper() if entry.get("type") == "logical" else value
        targets = [
            child for child in entry.findall("value") if (component or subgroup) in (None, child.get("of"))
        ]
        for child in targets:
            child.text = value
        if not targets:
            entry.set("value", value)

    def write(self) -> None:
        for name, tree in self.trees.items():
            ElementTree.indent(tree)
            tree.write(self.root / name, encoding="unicode", xml_declaration=True)

    def status(self, message: str, said: str = "") -> None:
        """Append to CaseStatus."""
        with (self.root / "CaseStatus").open("a") as file:
            now = datetime.now()
            file.write(f"{now:%Y-%m-%d %H:%M:%S}: {message}{said}\n{LINE}")

    @contextmanager
    def phase(
        self, name: str, ends: Callable[[], str] = str, *, job: str = "", late: bool = False
    ) -> Iterator[None]:
        """Write beginning and end of a phase into CaseStatus; `late` writes the beginning at the end."""
        if not late:
            self.status(f"{name} starting ", job)
        try:
            yield
        except Refused as error:
            if late:
                self.status(f"{name} starting ", job)
            self.status(f"{name} error ", f"\nERROR: {error}")
            raise
        if late:
            self.status(f"{name} starting ", job)
        self.status(f"{name} success ", ends())

    @property
    def n_instances(self) -> int:
        return int(self["NINST"])

    @property
    def suffixes(self) -> list[str]:
        """What the files of each instance have behind their names."""
        n = self.n_instances
        return [""] if n == 1 else [f"_{i + 1:04d}" for i in range(n)]

    def lock(self, name: str) -> None:
        (self.root / "LockedFiles").mkdir(exist_ok=True)
        self.write()
        shutil.copy(self.root / name, self.root / "LockedFiles" / name)

    def require_unchanged(self) -> None:
        """Refuse what differs from the locked files."""
        for name in ("env_mach_pes.xml", "env_build.xml"):
            locked = self.root / "LockedFiles" / name
            if not locked.is_file():
                continue
            old, new = (_values(tree.getroot()) for tree in (ElementTree.parse(locked), self.trees[name]))
            changed = [key for key in new if old.get(key) != new[key] and key != "BUILD_COMPLETE"]
            if changed:
                sys.stderr.write(f"Detected diff in locked file '{name}'\n")
                for key in changed:
                    sys.stderr.write(f"\t'{key}' has changed from '{old.get(key)}' to '{new[key]}'\n")
                if name == "env_mach_pes.xml":
                    raise Refused("For your changes to take effect, run:\n./case.setup --reset\n")
                self.set("BUILD_COMPLETE", "FALSE")
                self.write()
                raise Refused("For your changes to take effect, run:\n./case.build --clean-all\n./case.build")


def _of(entry: ElementTree.Element, *kinds: str) -> ElementTree.Element:
    return next(child for child in entry.findall("value") if child.get("of") in kinds)


def _values(root: ElementTree.Element) -> dict[str, str]:
    return {
        str(e.get("id")): ",".join([e.get("value") or "", *(c.text or "" for c in e.findall("value"))]).strip(
            ","
        )
        for e in root.findall("entry")
    }


def _require_valid(name: str, entry: ElementTree.Element, value: str) -> None:
    kind = str(entry.get("type"))
    convert = {"integer": int, "real": float}.get(kind)
    try:
        if convert is not None:
            convert(value)
    except ValueError:
        word = "int" if kind == "integer" else kind
        raise Refused(
            f"Entry {name} was listed as type {word} but value '{value}' is not valid {word}"
        ) from None
    if kind == "logical" and value.upper() not in LOGICAL:
        raise Refused(
            f"Entry {name} was listed as type logical but had val '{value}' instead of TRUE or FALSE"
        )
    valid = (entry.get("valid") or "").split(",") if entry.get("valid") else None
    if valid and kind != "logical" and value not in valid:
        raise Refused(f"Did not find {value} in valid values for {name}: {valid}")


# ---- create_newcase


def create_newcase(source: Path, arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(prog="create_newcase")
    for flag in (
        "case",
        "compset",
        "res",
        "machine",
        "compiler",
        "mpilib",
        "driver",
        "project",
        "output-root",
    ):
        parser.add_argument(f"--{flag}", required=flag in ("case", "compset", "res"))
    parser.add_argument("--run-unsupported", action="store_true")
    parser.add_argument("--handle-preexisting-dirs", choices=("a", "r", "u"))
    parser.add_argument("--user-mods-dirs", nargs="*", default=[])
    for flag in ("walltime", "queue", "pecount", "ninst"):
        parser.add_argument(f"--{flag}")
    parser.add_argument("--multi-driver", action="store_true")
    given = parser.parse_args(arguments)
    root = Path(given.case).absolute()
    checkout = json.loads((source / "cime" / "standin.json").read_text())
    if root.exists():
        raise Refused(f"Case directory {root} already exists")
    if "USER" not in os.environ:
        raise Refused("Undefined env var 'USER'")
    machine = checkout["machines"].get(given.machine)
    if machine is None:
        raise Refused(f"No machine {given.machine} found")
    compiler = given.compiler or machine["compilers"][0]
    if compiler not in machine["compilers"]:
        raise Refused(f"Compiler {compiler} not supported on machine {given.machine}")
    if given.res != "CLM_USRDAT":
        raise Refused(f"no alias {given.res} defined")
    physics = _physics(checkout["version"], given.compset)
    if not given.run_unsupported:
        raise Refused(
            "This compset and grid combination is not scientifically supported, use --run-unsupported to run "
            "it"
        )
    output = given.output_root or machine["output_root"]
    _clear(Path(output) / root.name, given.handle_preexisting_dirs)
    root.mkdir(parents=True)
    _write_entries(root, checkout["version"], machine, {
        "CASE": root.name, "CASEROOT": str(root), "COMPSET": given.compset, "GRID": given.res,
        "MACH": given.machine, "SRCROOT": str(source), "CIMEROOT": str(source / "cime"),
        "USER": os.environ["USER"], "PROJECT": given.project or "", "CIME_OUTPUT_ROOT": output,
        "COMPILER": compiler, "MPILIB": given.mpilib or machine.get("mpilib", "openmpi"),
        "DIN_LOC_ROOT": machine.get("inputdata", "/cluster/inputdata"),
        "LND_TUNING_MODE": f"{physics}_GSWP3v1",
    })  # fmt: skip
    if "FATES-SP" in given.compset:
        (root / "user_nl_clm").write_text(FATES_SP)
    for command in COMMANDS:
        path = root / command
        path.write_text(_script(command))
        path.chmod(0o755)
    case = Case(root)
    if given.ninst:
        case.set("NINST", given.ninst)
        case.write()
    for folder in given.user_mods_dirs:
        _apply_user_mods(root, Path(folder))
    copy_machine(root)
    print(f" Creating Case directory {root}")


def copy_machine(root: Path) -> None:
    """Copy what the user's own description of the machine says, where the case has no copy yet."""
    own = Path(os.environ.get("HOME", "/")) / ".cime"
    specific, macros = root / "env_mach_specific.xml", root / "cmake_macros"
    if not specific.exists():
        text = (own / "config_machines.xml").read_text() if (own / "config_machines.xml").is_file() else ""
        specific.write_text(f'<file id="env_mach_specific.xml" version="2.0"><!-- {text} --></file>')
    macros.mkdir(exist_ok=True)
    for path in sorted(own.glob("*.cmake")):
        if not (macros / path.name).exists():
            shutil.copy(path, macros)


def _physics(version: str, compset: str) -> str:
    found = re.fullmatch(r"\w+_DATM%GSWP3v1_CLM(\d)(\d)%FATES(?:-SP)?(?:_S\w{3})*", compset)
    if found is None:
        raise Refused(f"Could not find a compset match for either alias or longname in {compset}")
    physics = f"clm{found[1]}_{found[2]}"
    if physics not in TUNING[version]:
        raise Refused(
            f"Could not find a component match for CLM{found[1]}{found[2]}%FATES in compset {compset}"
        )
    return physics


def _clear(output: Path, how: str | None) -> None:
    if not output.exists():
        return
    if how is None:
        raise Refused(f"EOF when reading a line: (r)eplace, (a)bort, or (u)se existing {output}")
    if how == "a":
        raise Refused("Create case aborted, exiting")
    if how == "r":
        shutil.rmtree(output)


def _write_entries(root: Path, version: str, machine: dict, values: dict[str, str]) -> None:
    files: dict[str, ElementTree.Element] = {}
    for file, name, kind, default, valid in variables(version):
        head = files.setdefault(file, ElementTree.Element("file", {"id": file, "version": "2.0"}))
        entry = ElementTree.SubElement(head, "entry", {"id": name, "type": kind})
        if valid:
            entry.set("valid", ",".join(valid))
        value = values.get(name, machine.get("batch", "none") if name == "BATCH_SYSTEM" else default)
        groups = COMPONENTS if name in PER_COMPONENT else JOBS if name in PER_JOB else ()
        for group in groups:
            ElementTree.SubElement(entry, "value", {"of": group}).text = value
        if not groups:
            entry.set("value", value)
    for file, head in files.items():
        ElementTree.ElementTree(head).write(root / file, encoding="unicode", xml_declaration=True)


def _apply_user_mods(root: Path, folder: Path) -> None:
    if not folder.is_dir():
        raise Refused(f"User mods directory {folder} does not exist")
    for path in sorted(folder.glob("user_nl_*")):
        target = root / path.name
        with target.open("a") as file:
            file.write(path.read_text())
    commands = folder / "shell_commands"
    if commands.is_file():
        shutil.copy(commands, root)
        (root / "shell_commands").chmod(0o755)
        done = subprocess.run(["./shell_commands"], cwd=root, capture_output=True, text=True)
        if done.returncode:
            raise Refused(f"Command: './shell_commands' failed with error '{done.stderr.strip()}'")


# ---- xmlchange, xmlquery


def xmlchange(root: Path, arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(prog="xmlchange")
    parser.add_argument("settings", nargs="*")
    for flag in ("--id", "--val", "--subgroup"):
        parser.add_argument(flag)
    parser.add_argument("--force", "-f", action="store_true")
    parser.add_argument("--noecho", action="store_true")
    given = parser.parse_args(arguments)
    case = Case(root)
    pairs = [(given.id, given.val)] if given.id else []
    for settings in given.settings:
        for setting in re.split(r"(?<!\\),", settings):
            name, equals, value = setting.replace("\\,", ",").partition("=")
            if not equals:
                raise Refused(f"Expected `=` in {setting}")
            pairs.append((name, value))
    try:
        for name, value in pairs:
            case.set(name, value, force=given.force, subgroup=given.subgroup)
    finally:
        case.write()
    case.status("xmlchange success ", f"<command> ./xmlchange {' '.join(arguments)}  </command>")


def xmlquery(root: Path, arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(prog="xmlquery")
    parser.add_argument("variables", nargs="+")
    parser.add_argument("--value", "-value", action="store_true")
    parser.add_argument("--no-resolve", action="store_true")
    parser.add_argument("--subgroup")
    given = parser.parse_args(arguments)
    case = Case(root)
    names = given.variables[0].split(",") if len(given.variables) == 1 else given.variables
    told = []
    for name in names:
        entry = case.entry(name)
        base, _, component = name.rpartition("_")
        if entry is None and base in PER_COMPONENT and component in COMPONENTS:
            wanted = case.entry(base)
            assert wanted is not None
            told.append((name, str(_of(wanted, component).text)))
        elif entry is None:
            raise Refused(f" No results found for variable {name}")
        elif name in PER_COMPONENT:
            told.append((name, str([f"{c.get('of')}:{c.text}" for c in entry.findall("value")])))
        elif name in PER_JOB:
            jobs = [c for c in entry.findall("value") if given.subgroup in (None, c.get("of"))]
            told += [(name, c.text or "") for c in jobs]
        else:
            value = case[name]
            if given.no_resolve and "$" in (entry.get("value") or ""):
                value = str(entry.get("value"))
            told.append((name, str(float(value)) if entry.get("type") == "real" else value))
    if given.value:
        sys.stdout.write(",".join(value for _, value in told))
    else:
        print("\n".join(f"\t{name}: {value}" for name, value in told))


# ---- case.setup


def case_setup(root: Path, arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(prog="case.setup")
    case = Case(root)
    for flag in ("--reset", "--clean", "--keep", *(["--disable-git"] if case.version == "A" else [])):
        parser.add_argument(flag, action="store_true")
    given = parser.parse_args(arguments)
    with case.phase("case.setup"):
        if not given.reset:
            case.require_unchanged()
        else:
            (root / "env_mach_specific.xml").unlink(missing_ok=True)
            for name in ("cmake_macros", "Buildconf"):
                shutil.rmtree(root / name, ignore_errors=True)
            case.set("BUILD_COMPLETE", "FALSE")
            case.write()
        copy_machine(root)
        if case.n_instances > 1 and case["MULTI_DRIVER"] == "FALSE" and case.version == "A":
            raise Refused("NINST > 1 needs MULTI_DRIVER=TRUE")
        for component in ("clm", "cpl", "datm", "datm_streams"):
            _write_user_nl(case, component)
        (root / "Macros.make").write_text("# of the stand-in\n")
        (root / "Buildconf").mkdir(exist_ok=True)
        for folder in (case["RUNDIR"], case["EXEROOT"]):
            Path(folder).mkdir(parents=True, exist_ok=True)
        _write_job_scripts(case)
        case.lock("env_mach_pes.xml")
    if case.version == "A" and not given.disable_git and not (root / ".git").exists():
        subprocess.run(["git", "init", "-q", str(root)], check=True)
        case.status("  local git repository created")


def _write_user_nl(case: Case, component: str) -> None:
    """Write what does not exist; of each instance its own, from the plain one where that exists."""
    plain = case.root / f"user_nl_{component}"
    samples = Path(case.checkout["data"]) / "ctsm" / "cime"
    text = HEAD
    if component == "datm_streams":
        text = "".join(re.findall(r"^!.*\n", (samples / "user_nl_datm_streams").read_text(), re.MULTILINE))
    case_suffixes = [""] if component == "cpl" and case.n_instances > 1 else case.suffixes
    for suffix in case_suffixes:
        path = case.root / f"user_nl_{component}{suffix}"
        if not path.exists():
            path.write_text(plain.read_text() if plain.exists() else text)


def _write_job_scripts(case: Case) -> None:
    for job, name in (("case.run", ".case.run"), ("case.st_archive", "case.st_archive")):
        script = case.root / name
        script.write_text(
            f"#!/bin/sh\n#SBATCH --job-name={job.removeprefix('case.')}.{case['CASE']}\n"
            f"#SBATCH --nodes=1\n#SBATCH --ntasks={case.n_instances * int(case['NTASKS'])}\n"
            f"#SBATCH --output={job.removeprefix('case.')}.{case['CASE']}.%j\n"
            f"cd {shlex.quote(str(case.root))} && exec {shlex.quote(sys.executable)} "
            f"{shlex.quote(str(Path(__file__).resolve()))} {job}\n"
        )
        script.chmod(0o755)


# ---- preview_namelists


def preview_namelists(root: Path, arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(prog="preview_namelists")
    parser.add_argument("--component")
    parser.parse_args(arguments)
    write_namelists(Case(root))


def write_namelists(case: Case) -> None:
    """Write the run directory's files from XML variables and user_nl_* files."""
    if not (case.root / "Macros.make").exists():
        raise Refused("must invoke case.setup script before creating the namelists")
    run = Path(case["RUNDIR"])
    run.mkdir(parents=True, exist_ok=True)
    material = _material(case)
    for component, place in (("datm", "components/cdeps/datm"), ("clm", "."), ("drv", "components/cmeps")):
        print(f"Create namelist for component {component}")
        print(f"   Calling {(Path(case['SRCROOT']) / place / 'cime_config' / 'buildnml').resolve()}")
    print(
        f"NOTE: LND_TUNING_MODE is {case['LND_TUNING_MODE']} which is NOT tuned, but is based on "
        "clm5_0_GSWP3v1"
    )
    for suffix in case.suffixes:
        (run / f"lnd_in{suffix}").write_text(_lnd_in(case, material["lnd_in"], suffix))
        (run / f"datm_in{suffix}").write_text(_datm_in(case, material["datm_in"], suffix))
        streams = _streams(case, material["datm.streams.xml"], suffix)
        (run / f"datm.streams{suffix}.xml").write_text(streams)
        (run / f"nuopc.runconfig{suffix}").write_text(_runconfig(case, material["nuopc.runconfig"]))
    for name in ("drv_in", "drv_flds_in", "nuopc.runseq", "fd.yaml", "nuopc.runconfig"):
        own = case.root / name  # a run sequence of the user's goes before CIME's
        text = own.read_text() if name == "nuopc.runseq" and own.exists() else material[name]
        (run / name).write_text(_runconfig(case, text) if name == "nuopc.runconfig" else text)
    print("Writing nuopc_runconfig for components ['CPL', 'ATM', 'LND']")
    _write_input_lists(case, run)


def _write_input_lists(case: Case, run: Path) -> None:
    """List the files that the namelists name, and one that no namelist does, as the component's own
    lists do.
    """
    folder = case.root / "Buildconf"
    folder.mkdir(exist_ok=True)
    land, weather = [], []
    for suffix in case.suffixes:
        land += re.findall(r"^ (\w+) = '(/[^']*)'", (run / f"lnd_in{suffix}").read_text(), re.MULTILINE)
        found = re.findall(r"<file>([^<]+)</file>", (run / f"datm.streams{suffix}.xml").read_text())
        weather += [(f"file{i}", path) for i, path in enumerate(found)]
    land.append(("megan", f"{case['DIN_LOC_ROOT']}/atm/cam/chem/trop_mozart/emis/megan21.nc"))
    for name, files in (("ctsm", land), ("datm", weather)):
        lines = dict.fromkeys(f"{key} = {path}\n" for key, path in files)
        (folder / f"{name}.input_data_list").write_text("".join(lines))


def absent_inputs(case: Case, *, download: bool) -> bool:
    """Print which files of the lists are not there; tell whether any is missing after all."""
    root, absent = Path(case["DIN_LOC_ROOT"]), False
    for listing in sorted((case.root / "Buildconf").glob("*.input_data_list")):
        print(f"Loading input file list: 'Buildconf/{listing.name}'")
        for line in listing.read_text().splitlines():
            key, _, path = line.partition(" = ")
            if Path(path).exists():
                continue
            print(f"Model {listing.name.split('.')[0]} missing file {key} = '{path}'")
            server = os.environ.get("STANDIN_INPUT_SERVER")
            inside = Path(path).is_relative_to(root)
            source = Path(server) / Path(path).relative_to(root) if server and inside else None
            if download and source is not None and source.is_file():
                print(f"Trying to download file: '{source}' to path '{path}' using WGET protocol.")
                Path(path).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(source, path)
            elif download and not inside:  # such a file does not count, though it is not there
                print(f"    Cannot download file since it lives outside of the input_data_root '{root}'")
            else:
                absent = True
    return absent


def check_input_data(root: Path, arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(prog="check_input_data")
    parser.add_argument("--download", action="store_true")
    given = parser.parse_args(arguments)
    case = Case(root)
    if not (root / "Buildconf").is_dir():
        raise Refused("Invalid data_list_dir directory: 'Buildconf'")
    absent = absent_inputs(case, download=given.download)
    if absent and given.download:
        raise Refused("Could not find all inputdata on any server")
    if absent:
        sys.stdout.flush()
        sys.exit(1)


def _material(case: Case) -> dict[str, str]:
    """Return the files of the real run directory, their paths turned to what exists here."""
    import tempfile

    from ctsm_case import write_run_directory

    with tempfile.TemporaryDirectory() as scratch:
        made = Path(scratch) / "run"
        write_run_directory(made, Path(case.checkout["data"]), case.version, (2004, 2010))
        found = {path.name: path.read_text() for path in made.iterdir()}
    if case.version == "B":  # as a case of that version has it; fatescal must take it out
        sequence = found["nuopc.runseq"]
        if "med_phases_profile" not in sequence:
            write = "  MED med_phases_restart_write        \n"
            found["nuopc.runseq"] = sequence.replace(
                write, write + "  MED med_phases_profile              \n"
            )
    default = (
        f"{case['SRCROOT']}/src/fates/parameter_files/fates_params_default.json"
        if case.version == "A"
        else f"{case['DIN_LOC_ROOT']}/lnd/clm2/paramdata/fates_params_api.30.0.0_12pft_c231215.nc"
    )
    found["lnd_in"] = _with(found["lnd_in"], "fates_paramfile", f"'{default}'")
    found = {name: text.replace(DATA, case["DIN_LOC_ROOT"]) for name, text in found.items()}
    for key in ("hist_fincl2", "hist_nhtfrq", "hist_mfilt", "hist_ndens"):
        found["lnd_in"] = re.sub(rf"^ {key} = .*\n", "", found["lnd_in"], flags=re.MULTILINE)
    return found


def read_user_nl(path: Path) -> dict[str, str]:
    """Return the keys of a user_nl file as they are written; the last one counts."""
    if not path.exists():
        return {}
    found: dict[str, str] = {}
    last = ""
    for line in path.read_text().splitlines():
        text = line.strip()
        if not text or text.startswith("!"):
            continue
        key, equals, value = text.partition("=")
        if equals and re.fullmatch(r"\s*\w+(\(\d+\))?\s*", key):
            last = key.strip().lower()
            found[last] = value.strip()
        elif last:
            found[last] += text
    return found


def _with(text: str, key: str, value: str) -> str:
    line = rf"^( {re.escape(key)} = ).*$"
    if re.search(line, text, re.MULTILINE):
        return re.sub(line, lambda m: m[1] + value, text, flags=re.MULTILINE)
    return text.replace("&clm_inparm\n", f"&clm_inparm\n {key} = {value}\n", 1)


def _lnd_in(case: Case, text: str, suffix: str) -> str:
    mode = case["LND_TUNING_MODE"]
    physics = _physics(case.version, case["COMPSET"])
    program = "CLM build-namelist::CLMBuildNamelist::"
    if not mode.startswith(physics):
        raise Refused(f"{program}setup_logic: lnd_tuning_mode {mode} is not of the physics {physics}")
    known = set(re.findall(r"^ (\w+) =", text, re.MULTILINE))
    for key, value in read_user_nl(case.root / f"user_nl_clm{suffix}").items():
        if key not in known and not ALSO_KNOWN.fullmatch(key):
            definition = f"{case['SRCROOT']}/bld/namelist_files/namelist_definition_ctsm.xml"
            raise Refused(f"{program}validate_variable: Variable name {key} not found in {definition}")
        # a forced cold start overrides finidat, with a warning alone
        cold = key == "finidat" and case["CLM_FORCE_COLDSTART"] == "on"
        if key != "co2_ppmv" and not cold:  # co2_ppmv without a word: CCSM_CO2_PPMV wins
            text = _with(text, key, value)
    text = re.sub(r"-lnd_tuning_mode \w+", f"-lnd_tuning_mode {mode}", text)
    return _with(text, "co2_ppmv", case["CCSM_CO2_PPMV"])


def _datm_in(case: Case, text: str, suffix: str) -> str:
    for key, value in read_user_nl(case.root / f"user_nl_datm{suffix}").items():
        text, n = re.subn(rf"^(  {re.escape(key)} = ).*$", rf"\g<1>{value}", text, flags=re.MULTILINE)
        if not n:
            raise Refused(f"Variable name {key} not found in namelist_definition_datm.xml")
    return text


def _streams(case: Case, text: str, suffix: str) -> str:
    path = case.root / f"user_nl_datm_streams{suffix}"
    years = {
        key: case[f"DATM_YR_{name}"]
        for key, name in (("first", "START"), ("last", "END"), ("align", "ALIGN"))
    }
    changes: dict[str, list[tuple[str, str]]] = {}
    lines = path.read_text().replace("\\\n", "").splitlines() if path.exists() else []
    for line in lines:
        if line.strip() and not line.startswith("!"):
            head, _, value = line.partition("=")
            stream, _, key = head.strip().rpartition(":")
            changes.setdefault(stream, []).append((key, value.strip()))
    names = re.findall(r'<stream_info name="([^"]+)"', text)
    for stream in changes:
        if stream not in names:
            raise Refused(
                f"{path} contains a streamname '{stream}' that is not part of valid streamnames {names}"
            )

    def one(block: re.Match[str]) -> str:
        changed = block[0]
        if block[1].startswith("CLMGSWP3v1"):
            for key, year in years.items():
                changed = re.sub(rf"(<year_{key}>)\d+", rf"\g<1>{year}", changed)
        for key, value in changes.get(block[1], []):
            if key == "datafiles":
                files = "".join(f"      <file>{file.strip()}</file>\n" for file in value.split(","))
                new = f"<datafiles>\n{files}   </datafiles>"
                changed = re.sub(r"<datafiles>.*?</datafiles>", lambda _, n=new: n, changed, flags=re.DOTALL)  # type: ignore[misc]
            else:
                changed, n = re.subn(rf"(<{key}>)[^<]*", rf"\g<1>{value}", changed)
                if not n:
                    raise Refused(f"{path}: {key} is no variable of a stream")
        return changed

    return re.sub(r'<stream_info name="([^"]+)">.*?</stream_info>', one, text, flags=re.DOTALL)


def _runconfig(case: Case, text: str) -> str:
    changes = {
        "case_name": case["CASE"],
        "scol_lat": case["PTS_LAT"],
        "scol_lon": case["PTS_LON"],
        "calendar": case["CALENDAR"],
        "start_ymd": case["RUN_STARTDATE"].replace("-", ""),
        "stop_n": case["STOP_N"],
        "stop_option": case["STOP_OPTION"],
        "restart_n": case["REST_N"],
        "restart_option": case["REST_OPTION"],
        "start_type": "continue" if case["CONTINUE_RUN"] == "TRUE" else "startup",
        "ninst": str(case.n_instances),
    }
    for key, value in changes.items():
        text = re.sub(rf"^(     {key} = ).*$", rf"\g<1>{value}", text, flags=re.MULTILINE)
    return text


# ---- case.build


def case_build(root: Path, arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(prog="case.build")
    parser.add_argument("--skip-provenance-check", action="store_true")
    parser.add_argument("--clean-all", action="store_true")
    parser.add_argument("--clean", nargs="*")
    given = parser.parse_args(arguments)
    case = Case(root)
    executable = Path(case["EXEROOT"]) / "cesm.exe"
    if given.clean_all or given.clean is not None:
        shutil.rmtree(executable.parent, ignore_errors=True)
        (root / "LockedFiles" / "env_build.xml").unlink(missing_ok=True)
        case.set("BUILD_COMPLETE", "FALSE")
        case.write()
        return
    with case.phase("case.build"):
        if not (root / "Macros.make").exists():
            raise Refused("must invoke case.setup script before calling build script ")
        case.require_unchanged()
        write_namelists(case)
        die("case.build")
        time.sleep(float(os.environ.get("STANDIN_BUILD_SECONDS", "0")))
        fails = os.environ.get("STANDIN_BUILD_FAIL", "")
        broken = "BROKEN" in (root / "env_mach_specific.xml").read_text()
        if fails == "pio" or broken:
            fail_shared_library(case, executable.parent)
        if fails:
            log = executable.parent / "lnd.bldlog"
            log.parent.mkdir(parents=True, exist_ok=True)
            log.write_text("Error: Can't open module file 'pio.mod' for reading\n")
            raise Refused(f"BUILD FAIL: clm.buildlib failed, cat {log}")
        from ctsm_case import SAMPLES
        from ctsm_case import install as install_executable

        sample = Path(case.checkout["data"]) / "ctsm" / SAMPLES[case.version]
        install_executable(executable.parent, case.version, sample / "lnd_in")
        case.set("BUILD_COMPLETE", "TRUE")
        case.lock("env_build.xml")
    print("Time spent building: 0.1 sec\nMODEL BUILD HAS FINISHED SUCCESSFULLY")


def fail_shared_library(case: Case, exeroot: Path) -> None:
    """End as where ParallelIO does not find netCDF: the log goes on after the error, and its path holds
    the MPI library.
    """
    folder = exeroot / case["COMPILER"] / case["MPILIB"] / "nodebug" / "nothreads"
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / "pio.bldlog.261122-101010"
    log.write_text(
        "cmake -DCMAKE_C_FLAGS=-Werror=implicit\n-- Detecting C compile features - done\n"
        "CMake Error at cmake/FindNetCDF.cmake:12 (message):\n"
        "  Could NOT find NetCDF (missing: NetCDF_C_PATH)\n"
        + "-- Performing Test\n" * 20
        + '-- Configuring incomplete, errors occurred!\nSee also "CMakeOutput.log".\n'
    )
    raise Refused(f"{case['SRCROOT']}/cime/CIME/build_scripts/buildlib.pio FAILED, cat {log}")


def die(name: str) -> None:
    """End at once, as a killed process does, where the environment asks for it."""
    if os.environ.get("STANDIN_CIME_DIE") == name:
        os._exit(137)


# ---- case.submit, case.run, case.st_archive


def case_submit(root: Path, arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(prog="case.submit")
    parser.add_argument("--no-batch", action="store_true")
    parser.add_argument("--batch-args", "-a", default="")
    parser.add_argument("--skip-preview-namelist", action="store_true")
    given = parser.parse_args(arguments)
    case = Case(root)
    last: list[str] = []
    with case.phase("case.submit", lambda: last[-1] if last else "", late=True):
        _require_ready(case)
        case.require_unchanged()
        if not given.skip_preview_namelist:
            write_namelists(case)
        print("Checking that inputdata is available as part of case submission")
        if absent_inputs(case, download=True):
            raise Refused("Could not find all inputdata on any server")
        if case["BUILD_COMPLETE"] != "TRUE":
            raise Refused("Build complete is not True please rebuild the model by calling case.build")
        print("Check case OK\nsubmit_jobs case.run")
        jobs = ["case.run"] + (["case.st_archive"] if case["DOUT_S"] == "TRUE" else [])
        if given.no_batch or case["BATCH_SYSTEM"] == "none":
            told = _run_now(case, jobs)
        else:
            told = _submit_to_slurm(case, jobs, shlex.split(given.batch_args))
            last += [number for _, number in told if number is not None]
            case.set("JOB_IDS", ", ".join(f"{job}:{number}" for job, number in told))
            case.write()
    for job, number in told:
        print(f"Submitted job {job} with id {number}")


def _require_ready(case: Case) -> None:
    if case["CONTINUE_RUN"] != "TRUE":
        return
    found = sorted(Path(case["RUNDIR"]).glob("rpointer.cpl*"))
    name = found[-1].read_text().strip() if found else f"{case['CASE']}.cpl.r.none.nc"
    if not (Path(case["RUNDIR"]) / name).exists():
        raise Refused(f"File {case['RUNDIR']}/{name} not present or does not match case {case['CASE']}")


def _run_now(case: Case, jobs: list[str]) -> list[tuple[str, str | None]]:
    """Run the jobs here; what `case.run` ends with changes nothing in what is told."""
    for job in jobs:
        print(f"Submit job {job}\nStarting job script {job}")
        try:
            {"case.run": case_run, "case.st_archive": case_st_archive}[job](case.root, [])
        except Refused as error:
            print(f"Exception from {job.replace('.', '_')}: ERROR: {error}")
    return [(job, None) for job in jobs]


def _submit_to_slurm(case: Case, jobs: list[str], extra: list[str]) -> list[tuple[str, str | None]]:
    told: list[tuple[str, str | None]] = []
    for job in jobs:
        print(f"Submit job {job}")
        entries = [case.entry(name) for name in PER_JOB]
        walltime, queue = ((_of(entry, job).text or "") for entry in entries if entry is not None)
        words = ["sbatch", "--time", walltime]
        words += ["-p", queue] if queue else []
        words += ["--account", case["PROJECT"]] if case["PROJECT"] else []
        words += extra
        words += [f"--dependency=afterok:{told[-1][1]}"] if told else []
        words += [".case.run" if job == "case.run" else "case.st_archive", "--resubmit"]
        print(f"Submitting job script {' '.join(words)}")
        try:
            done = subprocess.run(words, cwd=case.root, capture_output=True, text=True)
        except OSError as error:
            raise Refused(f"Command: '{' '.join(words)}' failed with error '{error}'") from None
        number = re.search(r"(\d+)\s*$", done.stdout)
        if done.returncode or number is None:
            said = done.stderr.strip()
            raise Refused(f"Command: '{' '.join(words)}' failed with error '{said}' from dir '{case.root}'")
        print(f"Submitted job id is {number[1]}")
        told.append((job, number[1]))
    return told


def case_run(root: Path, arguments: Sequence[str]) -> None:
    """Run the model; `Refused` when it fails."""
    case = Case(root)
    job = os.environ.get("SLURM_JOB_ID", "")
    with case.phase("case.run", job=job):
        lid = f"{datetime.now():%y%m%d-%H%M%S}"
        run, executable = Path(case["RUNDIR"]), Path(case["EXEROOT"]) / "cesm.exe"
        print(f"run command is   {executable}   >> cesm.log.$LID 2>&1  ")
        with case.phase("model execution", job=job):
            if not _run_instances(case, run, executable, lid):
                log = run / f"cesm.log.{lid}"
                raise Refused(
                    f"RUN FAIL: Command '  {executable}   >> cesm.log.$LID 2>&1 ' failed\n"
                    f"See log file for details: {log}"
                )
        for log in run.glob(f"*.log.{lid}"):
            log.with_name(f"{log.name}.gz").write_bytes(gzip.compress(log.read_bytes()))
            log.unlink()
    case.status(f"  Timing files created for run {lid}")


def _run_instances(case: Case, run: Path, executable: Path, lid: str) -> bool:
    """Run all instances at once, in folders of their own where there are several; the first that dies
    takes all with it.
    """
    folders = {suffix: _folder_of(run, suffix, lid) for suffix in case.suffixes}
    log = run / f"cesm.log.{lid}"
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # of Slurm; the instances get it as well
    running: list[subprocess.Popen[bytes]] = []
    with log.open("a") as out, _kept(case, run, folders, lid):
        running += [subprocess.Popen([executable], cwd=f, stdout=out, stderr=out) for f in folders.values()]
        while None in [process.poll() for process in running] and not any(p.returncode for p in running):
            time.sleep(0.02)
        for rank, process in enumerate(running):
            if process.returncode is None:
                process.kill()
            elif process.returncode:
                out.write(f"srun: error: c1-1: task {rank}: Exited with exit code {process.returncode}\n")
            process.wait()
    return not any(process.returncode for process in running)


@contextmanager
def _kept(case: Case, run: Path, folders: Mapping[str, Path], lid: str) -> Iterator[None]:
    """Give the files of instances their names in the run directory, however they end."""
    try:
        yield
    finally:
        for rank, (suffix, folder) in enumerate(folders.items()):
            names = [f"{case['CASE']}.*", f"*.log.{lid}", "rpointer.*", "PET0.ESMF_LogFile"] if suffix else []
            for path in [path for name in names for path in folder.glob(name)]:
                shutil.move(path, run / _named(path.name, suffix).replace("PET0.", f"PET{rank}."))


def _folder_of(run: Path, suffix: str, lid: str) -> Path:
    """Return where an instance runs, with its own input files under the names of a single one's."""
    from fatescal.models.clm_fates.template import FILES

    folder = run / f".instance{suffix}" if suffix else run
    if suffix:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        for name in FILES:
            stem, dot, _extension = name.rpartition(".xml")
            own = run / (f"{stem}{suffix}{dot}" if dot else f"{name}{suffix}")
            shutil.copy(own if own.exists() else run / name, folder / name)
    text = (folder / "nuopc.runconfig").read_text()
    (folder / "nuopc.runconfig").write_text(re.sub(r"(logfile = \w+\.log)\S*", rf"\1.{lid}", text))
    return folder


def _named(name: str, suffix: str) -> str:
    """Return the name of an instance's file.

    >>> _named("hyy.clm2.h1a.2004-01-02-00000.nc", "_0001"), _named("lnd.log.261122-090816", "_0001")
    ('hyy.clm2_0001.h1a.2004-01-02-00000.nc', 'lnd_0001.log.261122-090816')
    >>> _named("cesm.log.261122-090816", "_0001"), _named("rpointer.lnd.2005-01-01-00000", "_0001")
    ('cesm.log.261122-090816', 'rpointer.lnd_0001.2005-01-01-00000')
    """
    if name.startswith("cesm.log"):
        return name
    return re.sub(
        r"^((?:[\w-]+\.)?(?:clm2|cpl|datm)|rpointer\.\w+|\w+(?=\.log))", rf"\g<1>{suffix}", name, count=1
    )


def case_st_archive(root: Path, arguments: Sequence[str]) -> None:
    """Move logs and copy history of whatever is in the run directory, also of an earlier run."""
    case = Case(root)
    with case.phase("st_archive"):
        run, archive = Path(case["RUNDIR"]), Path(case["DOUT_S_ROOT"])
        (archive / "logs").mkdir(parents=True, exist_ok=True)
        (archive / "lnd" / "hist").mkdir(parents=True, exist_ok=True)
        for log in run.glob("*.log.*"):
            print(f"moving {log} to {archive / 'logs' / log.name}")
            shutil.move(log, archive / "logs" / log.name)
        for file in run.glob(f"{case['CASE']}.clm2*.h[0-9]*.nc"):
            print(f"copying {file} to {archive / 'lnd' / 'hist' / file.name} ")
            shutil.copy(file, archive / "lnd" / "hist")
    print("st_archive completed")


# ---- a checkout


@dataclass(frozen=True)
class Machine:
    """A machine that CIME knows."""

    output_root: Path
    compilers: tuple[str, ...] = ("gnu", "intel")
    batch: str = "none"
    inputdata: Path | None = None


UNREAD = (  # what the samples name and a single point never reads; empty ones, as whoever fabricates them has
    r"stream_(?:fldfilename|meshfile)_(?:popdens|lightng|cropcal|cultivar_gdds|gdd20_baseline|swindow_\w+)"
)


def write_unread_inputs(root: Path, sample: Path) -> None:
    """Create the files that CIME wants to see and the model never opens."""
    named = re.findall(rf"^ {UNREAD} = '{DATA}/([^']*)'", (sample / "lnd_in").read_text(), re.MULTILINE)
    for name in (*named, "atm/cam/chem/trop_mozart/emis/megan21.nc"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def install(checkout: Path, version: str, data: Path, machines: dict[str, Machine]) -> Path:
    """Write ``cime/`` into a checkout; return the path of its create_newcase."""
    cime = checkout / "cime"
    (cime / "scripts").mkdir(parents=True)
    from ctsm_case import SAMPLES

    inputs = {name: m.inputdata or checkout.parent / "inputdata" for name, m in machines.items()}
    for root in inputs.values():
        write_unread_inputs(root, data / "ctsm" / SAMPLES[version])
    known = {
        name: {
            "output_root": str(m.output_root),
            "compilers": list(m.compilers),
            "batch": m.batch,
            "inputdata": str(inputs[name]),
        }
        for name, m in machines.items()
    }
    content = {"version": version, "data": str(data), "machines": known}
    (cime / "standin.json").write_text(json.dumps(content, indent=1))
    script = cime / "scripts" / "create_newcase"
    standin_door.open_door()
    source = 'SRCROOT=$(cd "$(dirname "$0")/../.." && pwd) exec'
    script.write_text(_script("create_newcase").replace("exec", source, 1))
    script.chmod(0o755)
    return script


def _script(command: str) -> str:
    """Return the script of a command; what starts the model does not go through the door, to be killed
    with it.
    """
    if command != "case.submit":
        return standin_door.script("standin_cime", command)
    program = f"{shlex.quote(sys.executable)} {shlex.quote(str(Path(__file__).resolve()))}"
    return f'#!/bin/sh\nexec {program} {command} "$@"\n'


def main(command: str, arguments: Sequence[str]) -> int:
    root = Path.cwd()
    verbs: dict[str, Callable[[Path, Sequence[str]], None]] = {
        "xmlchange": xmlchange,
        "xmlquery": xmlquery,
        "case.setup": case_setup,
        "preview_namelists": preview_namelists,
        "case.build": case_build,
        "case.submit": case_submit,
        "case.run": case_run,
        "case.st_archive": case_st_archive,
        "check_input_data": check_input_data,
    }
    try:
        if command == "create_newcase":
            create_newcase(Path(os.environ["SRCROOT"]), arguments)
        else:
            verbs[command](root, arguments)
    except Refused as error:
        sys.stdout.flush()
        sys.stderr.write(f"ERROR: {error}\n")
        return 1
    return 0


def program(arguments: list[str]) -> int:
    return main(arguments[0], arguments[1:])


if __name__ == "__main__":
    sys.exit(program(sys.argv[1:]))
