"""The XML variables of a case: set where they are not as wanted."""

from __future__ import annotations

from collections.abc import Mapping

from fatescal.base.errors import BadInput
from fatescal.models.clm_fates.build_plan import Plan
from fatescal.models.clm_fates.case_record import CaseRecord
from fatescal.models.clm_fates.cime import Case, CimeError
from fatescal.models.clm_fates.watched_tool import Say

NEEDS = {  # what a change of a variable in a file of the case needs, beyond new namelists
    "env_mach_pes.xml": ("setup", "build"),
    "env_batch.xml": ("setup",),
    "env_build.xml": ("clean", "build"),
}
COORDINATES = ("PTS_LON", "PTS_LAT")  # CIME takes them with --force


def change_xml(plan: Plan, case: Case, record: CaseRecord, say: Say) -> None:
    """Set the variables that are not as wanted, and those back that no longer are in the plan."""
    before: dict[str, str] = record.content["before"]
    dropped = {name: value for name, value in before.items() if name not in plan.xml}
    wanted = {**plan.xml, **dropped}
    now = xml_values(plan, case, wanted)
    changed = {name: value for name, value in wanted.items() if not all_are(now[name], value)}
    if changed:
        first = {name: min(now[name]) for name in changed if name not in before}
        record.keep(before={**before, **first})
        record.need("namelists", *(step for name in changed for step in NEEDS.get(case.file_of(name), ())))
        coordinates = {name: value for name, value in changed.items() if name in COORDINATES}
        _set(plan, case, {name: value for name, value in changed.items() if name not in COORDINATES})
        _set(plan, case, coordinates, "--force")
        say(f"xml           {', '.join(f'{name}={value}' for name, value in changed.items())}")
    record.keep(before={name: v for name, v in record.content["before"].items() if name in plan.xml})


def xml_values(plan: Plan, case: Case, names: Mapping[str, str]) -> dict[str, set[str]]:
    """Return the values of variables, all of which the case must have."""
    try:
        values = case.values(names)
    except CimeError as error:
        raise plan.blamed(error) from None
    lacking = next((name for name in names if name not in values), None)
    if lacking is not None:
        raise BadInput(f"{plan.key(lacking)}: ./xmlquery in {case.path} gives no value of {lacking}")
    return values


def _set(plan: Plan, case: Case, values: Mapping[str, str], *flags: str) -> None:
    """Set all at once, which takes a second; where CIME refuses, one after another, to know which."""
    try:
        case.change(values, *flags)
    except CimeError:
        for name, value in values.items():
            try:
                case.change({name: value}, *flags)
            except CimeError as error:
                raise BadInput(f"{plan.key(name)}: {error}") from None


def all_are(values: set[str], wanted: str) -> bool:
    return all(_same(value, wanted) for value in values)


def _same(value: str, wanted: str) -> bool:
    """Tell whether two values are the same, as numbers where they are numbers.

    >>> _same("389.80", "389.8"), _same("TRUE", "true"), _same("a", "b")
    (True, True, False)
    """
    try:
        return float(value) == float(wanted)
    except ValueError:
        return value == wanted or {value.upper(), wanted.upper()} in ({"TRUE"}, {"FALSE"})
