"""Whether what CIME holds, and wrote for the model, is what was requested."""

from __future__ import annotations

import re
from pathlib import Path

from fatescal.base.errors import BadInput
from fatescal.models.clm_fates import namelist, streams
from fatescal.models.clm_fates.build_plan import Plan
from fatescal.models.clm_fates.case_xml import all_are, xml_values
from fatescal.models.clm_fates.cime import Case


def verify(plan: Plan, case: Case) -> None:
    """Compare what CIME holds, and wrote for the model, with the plan.

    Raises
    ------
    BadInput
        When a value is another one.
    """
    for name, values in xml_values(plan, case, plan.xml).items():
        if not all_are(values, plan.xml[name]):
            raise BadInput(
                f"{plan.key(name)} did not arrive in the case", expected=plan.xml[name], got=", ".join(values)
            )
    run = Path(case.query("RUNDIR"))
    for name, file in (("user_nl_clm", "lnd_in"), ("user_nl_datm", "datm_in")):
        text = (run / file).read_text(encoding="utf-8")
        for key, value in plan.user_nl.get(name, {}).items():
            written = namelist.get(text, key)
            if written is None or _parts(written) != _parts(namelist.fortran(value)):
                raise BadInput(
                    f"{plan.key(key)} did not arrive in {run / file}",
                    expected=namelist.fortran(value),
                    got="nothing" if written is None else written,
                    hint="it may be set by an XML variable, or not belong to this file",
                )
    known = {stream.name: stream for stream in streams.parse((run / "datm.streams.xml").read_text())}
    for key, value in plan.user_nl.get("user_nl_datm_streams", {}).items():
        name, _, what = key.rpartition(":")
        if what == "datafiles":
            files = (
                [str(item) for item in value] if isinstance(value, list | tuple) else str(value).split(",")
            )
            if name not in known or [str(f) for f in known[name].files] != files:
                raise BadInput(
                    f"{plan.key(key)} did not arrive in {run / 'datm.streams.xml'}", expected=files[0]
                )


def _parts(written: str) -> list[str | float]:
    """Return the values of a namelist entry without quotes and spelling.

    >>> _parts(".TRUE.,'a b', 1.0d0") == _parts("T,'a b',1")
    True
    """
    parts: list[str | float] = []
    for text in re.findall(r"'[^']*'|\"[^\"]*\"|[^,\s]+", written):
        plain = text.strip("'\" ")
        try:
            parts.append(float(plain.lower().replace("d", "e")))
        except ValueError:
            logical = re.fullmatch(r"\.?(t|f)(rue|alse)?\.?", plain.lower())
            parts.append(logical[1] if logical else plain)
    return parts
