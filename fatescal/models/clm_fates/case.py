"""The case of a calibration: made and built by CIME once, and brought up to date when the config changes.

Every step compares what is there with what is wanted, so that a build goes on wherever it was interrupted.
What a change needs beyond that (`case.setup --reset`, a clean build) is written down in the case before CIME
gets it.
"""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from fatescal.base.errors import BadInput, RunFailed
from fatescal.models.clm_fates import inputdata, namelist
from fatescal.models.clm_fates.build_plan import Plan
from fatescal.models.clm_fates.case_record import LOG, RECORD, CaseRecord
from fatescal.models.clm_fates.case_verification import verify
from fatescal.models.clm_fates.case_xml import change_xml
from fatescal.models.clm_fates.cime import Case, CimeError, call, running_builds, user_files
from fatescal.models.clm_fates.install import CREATE_NEWCASE, digests, edits
from fatescal.models.clm_fates.instance_files import instance_namelists
from fatescal.models.clm_fates.template import FILES
from fatescal.models.clm_fates.watched_tool import Say

BUILT = "MODEL BUILD HAS FINISHED SUCCESSFULLY"
BEGIN, END = "! fatescal begins: written by `fatescal build`", "! fatescal ends"
COMPILING = re.compile(r"BUILD FAIL|FAILED\b|\bcat /|bldlog|undefined reference|buildlib|buildexe")


def build(
    plan: Plan, say: Say, *, download: bool = False, require_idle: Callable[[], None] = lambda: None
) -> None:
    """Bring the case to what the plan wants, with as little work as that takes.

    Parameters
    ----------
    download : bool
        Whether CIME is to fetch input data that is missing.
    require_idle : callable
        Raises `BadInput` when a job of the case is in the queue; called where there is a case.

    Raises
    ------
    BadInput
        When CIME refuses something, with the config's key, or what it wrote is not what was requested; when
        input data is missing, or the case is in use.
    RunFailed
        When the model does not compile.
    """
    require_not_building(plan.path)
    try:
        if (plan.path / RECORD).is_file():
            require_idle()
        _create(plan, say)
        case, record = Case(plan.path), CaseRecord(plan.path)
        before = record.pending
        _follow_user_files(plan, case, record, say)
        change_xml(plan, case, record, say)
        _set_up(plan, case, record, say)
        _write_namelists(plan, case, record, say)
        _look_for_edits(plan, record, say)
        worked = bool(before) or bool(record.pending)
        verify(plan, case)
        inputdata.require(case, Path(case.query("RUNDIR")), say, list_all=worked, download=download)
        worked |= _compile(case, record, say)
        record.keep(config=dict(plan.config), pending=[])
    except CimeError as error:
        raise plan.blamed(error) from None
    say(f"case          {plan.path}: " + ("is built" if worked else "is as the config says, nothing to do"))


def require_not_building(path: Path) -> None:
    """Raise `BadInput` while another `case.build` is at work in the case: two would write the same files."""
    numbers = running_builds(path)
    if numbers:
        raise BadInput(
            f"model.build.case: a case.build of {path} is running (process {', '.join(map(str, numbers))})",
            hint=f"wait until it has ended, or end it: kill {' '.join(map(str, numbers))}",
        )


# ---- create_newcase


def _create(plan: Plan, say: Say) -> None:
    """Make the case, unless it is there; what an interruption left of one is removed."""
    marker = plan.path.with_name(f".{plan.path.name}.being_made")
    if not _make_way(plan, marker, say):
        return
    plan.path.parent.mkdir(parents=True, exist_ok=True)
    marker.touch()
    options = [text for name, value in plan.create.items() for text in (f"--{name}", value)]
    mods = ["--user-mods-dirs", *map(str, plan.user_mods)] if plan.user_mods else []
    fixed = ["--run-unsupported", "--handle-preexisting-dirs", "r"]
    arguments = ["--case", str(plan.path), *options, *fixed, *mods]
    try:
        call(plan.source / CREATE_NEWCASE, *arguments, folder=plan.path.parent)
    except CimeError:
        shutil.rmtree(plan.path, ignore_errors=True)
        marker.unlink()
        raise
    CaseRecord(plan.path).keep(create=plan.made_with, user_files=user_files())
    marker.unlink()
    say(f"case          {plan.path} made: {plan.create['compset']} on {plan.create['machine']}")


def _make_way(plan: Plan, marker: Path, say: Say) -> bool:
    """Tell whether the case must be made; move one that no longer fits away."""
    known = (plan.path / RECORD).is_file()
    if not plan.path.exists():
        return True
    if not known and not marker.exists():
        raise BadInput(
            f"model.build.case: {plan.path} is there, and fatescal did not make it",
            hint="another path, or `model.case` for a case that is built already",
        )
    if not known:  # create_newcase was interrupted
        shutil.rmtree(plan.path)
        return True
    reason = _needs_new_case(plan, CaseRecord(plan.path))
    if reason is None:
        marker.unlink(missing_ok=True)
        return False
    say(f"case          {reason}; {_set_aside(plan.path)} is the old one")
    return True


def _needs_new_case(plan: Plan, record: CaseRecord) -> str | None:
    """Return why the case that is there will not do; None where it will."""
    if record.content["create"] != plan.made_with:
        return "what only a new case can change has changed"
    changed = _changed_user_files(record)
    if (
        changed and not record.has_been_built
    ):  # create_newcase took paths from there that nothing later changes
        return f"{', '.join(changed)} changed since the case was made, which never compiled"
    return None


def _changed_user_files(record: CaseRecord) -> list[str]:
    """Return the files of ~/.cime that differ from those that CIME copied into the case."""
    before: dict[str, str] | None = record.content.get("user_files")
    now = user_files()
    return sorted(n for n in {**(before or now), **now} if (before or now).get(n) != now.get(n))


def _set_aside(path: Path) -> Path:
    """Move a case away; return where it is now."""
    n = 1
    while (aside := path.with_name(f"{path.name}.before-{n}")).exists():
        n += 1
    path.rename(aside)
    return aside


# ---- xmlchange


# ---- case.setup, user_nl files, preview_namelists


def _follow_user_files(plan: Plan, case: Case, record: CaseRecord, say: Say) -> None:
    """Have CIME copy changed files of ~/.cime again; compile anew where that changes the case."""
    if "user_files" not in record.content:  # a case of an earlier version of fatescal
        record.keep(user_files=user_files())
    changed = _changed_user_files(record)
    if not changed:
        return
    before = _machine_files(plan.path)
    record.need("setup")
    _set_up(plan, case, record, say)
    if _machine_files(plan.path) != before:
        record.need("clean", "build")
    record.keep(user_files=user_files())
    say(
        f"set up        {', '.join(changed)} changed; CIME_OUTPUT_ROOT, DIN_LOC_ROOT and other values that "
        "create_newcase took from there stay, unless model.build.xml sets them"
    )


def _machine_files(case: Path) -> dict[str, str]:
    """Return a digest of what CIME copied from the description of the machine."""
    files = [case / "env_mach_specific.xml", case / "Macros.cmake", case / "Macros.make"]
    files += [path for path in sorted((case / "cmake_macros").glob("*")) if path.is_file()]
    return digests(case, files)


def _set_up(plan: Plan, case: Case, record: CaseRecord, say: Say) -> None:
    if "setup" not in record.pending:
        return
    again = ["--reset"] if (plan.path / "LockedFiles" / "env_mach_pes.xml").is_file() else []
    case.set_up(*again)
    record.done("setup")
    record.need("namelists", *(["build"] if again else []))  # --reset marks the model as not built
    say(f"set up        case.setup {' '.join(again)}".rstrip())


def _write_namelists(plan: Plan, case: Case, record: CaseRecord, say: Say) -> None:
    """Write the user_nl files and, where anything is new, the run directory's files from them."""
    for instance in instance_namelists(plan.path):  # of a multi-instance run
        instance.unlink()
    for name, values in plan.user_nl.items():
        path = plan.path / name
        old = path.read_text(encoding="utf-8") if path.is_file() else ""
        new = _with_block(old, [_line(name, key, value) for key, value in values.items()])
        if new != old:
            record.need("namelists")
            path.write_text(new, encoding="utf-8")
            say(f"namelists     {name}: {', '.join(values) or 'nothing of fatescal'}")
    run = Path(case.query("RUNDIR"))
    if "namelists" in record.pending or not all((run / file).is_file() for file in FILES):
        record.need("namelists")
        case("preview_namelists", log=plan.path / LOG)
        say(f"namelists     preview_namelists: {run}")


def _line(file: str, key: str, value: namelist.Value) -> str:
    if file != "user_nl_datm_streams":
        return f"{key} = {namelist.fortran(value)}"
    items = [str(item) for item in value] if isinstance(value, list | tuple) else [str(value)]
    return f"{key}={','.join(items)}"


def _with_block(text: str, lines: list[str]) -> str:
    """Return a user_nl file with the lines of fatescal at its end; a later line goes before an earlier one.

    >>> _with_block("! mine\\n", ["a = 1"]).splitlines()[0]
    '! mine'
    >>> _with_block(_with_block("! mine\\n", ["a = 1"]), [])
    '! mine\\n'
    """
    own = re.sub(rf"{re.escape(BEGIN)}\n.*?{re.escape(END)}\n", "", text, flags=re.DOTALL)
    if not lines:
        return own
    between = "" if not own or own.endswith("\n") else "\n"
    return "\n".join([own + between + BEGIN, *lines, END, ""])


# ---- what came of it


# ---- case.build


def _look_for_edits(plan: Plan, record: CaseRecord, say: Say) -> None:
    """Have the case built again where source files, or SourceMods, differ from those it was built from."""
    mods = plan.path / "SourceMods"
    now = edits(plan.source) | digests(plan.path, (path for path in mods.rglob("*") if path.is_file()))
    before: dict[str, str] = record.content["edits"]
    changed = sorted(name for name in {**before, **now} if before.get(name) != now.get(name))
    if changed:
        record.need("build")
        record.keep(edits=now)
        more = f" and {len(changed) - 3} more" if len(changed) > 3 else ""
        since = "edited, or put back, since the last build" if record.has_been_built else "edited by you"
        say(f"source        {since}: {', '.join(changed[:3])}{more}")


def _compile(case: Case, record: CaseRecord, say: Say) -> bool:
    """Build the executable where it is not there or is out of date; tell whether that was so."""
    executable = Path(case.query("EXEROOT")) / "cesm.exe"
    if case.query("BUILD_COMPLETE") == "TRUE" and executable.is_file() and "build" not in record.pending:
        return False
    begin = time.monotonic()
    if "clean" in record.pending:
        case("case.build", "--clean-all")
        record.done("clean")
    say(f"build         case.build, ten to thirty minutes; its log: {record.path.with_name(LOG)}")
    require_not_building(case.path)
    try:
        printed = case.build(record.path.with_name(LOG))
    except CimeError as error:
        if not COMPILING.search(error.line):
            raise
        raise RunFailed(f"the model does not compile: {error}") from None
    if BUILT not in printed or not executable.is_file():
        raise RunFailed(f"case.build ended without '{BUILT}': see {record.path.with_name(LOG)}")
    say(f"build         {executable} in {time.monotonic() - begin:.0f} s")
    return True


def require_built(plan_config: Mapping[str, Any], path: Path, command: str) -> None:
    """Raise `BadInput` when a case is not built, or was for another config."""
    if not (path / RECORD).is_file() or CaseRecord(path).pending:
        raise BadInput(f"model.build: the case {path} is not built", hint=command)
    before = CaseRecord(path).content["config"]
    changed = [name for name in {**before, **plan_config} if before.get(name) != plan_config.get(name)]
    if changed:
        raise BadInput(
            f"model: {', '.join(changed)} changed since {path} was built",
            hint=f"{command}, which does what is needed",
        )
