"""The priors and designs by the kind that a config chooses them by. A new one is a file and a line here."""

from __future__ import annotations

from typing import Annotated, Any

from fatescal.base.errors import did_you_mean
from fatescal.base.families import UNUSABLE, ByKind, family
from fatescal.base.options import BeforeValidator, PlainSerializer
from fatescal.parameters.designs.base import Design
from fatescal.parameters.designs.csv_design import CsvDesign
from fatescal.parameters.designs.independent import IndependentDraws
from fatescal.parameters.designs.latin_hypercube import LatinHypercube
from fatescal.parameters.designs.sobol import SobolSequence
from fatescal.parameters.designs.uniform_design import UniformDesign
from fatescal.parameters.priors import LogitNormal, LogNormal, Normal, Prior, TruncatedNormal, Uniform

PRIORS = family(Prior, (LogitNormal, LogNormal, Normal, TruncatedNormal, Uniform), "fatescal.priors")
DESIGNS = family(
    Design, (IndependentDraws, LatinHypercube, SobolSequence, UniformDesign, CsvDesign), "fatescal.designs"
)

AnyPrior = Annotated[Prior, ByKind(PRIORS)]


def _names() -> list[str]:
    """Return the designs that a name alone chooses: those without an option that must be given."""
    needed = {kind: [n for n, f in c.model_fields.items() if f.is_required()] for kind, c in DESIGNS.items()}
    return [kind for kind, options in needed.items() if not options]


def _in_full(design: object) -> object:
    """Return the section that a name stands for: `lhs`, `members.csv`, or null for draws of the prior."""
    if design is None:
        return {"kind": "prior"}
    if isinstance(design, dict | Design):
        return design
    names = _names()
    if isinstance(design, str) and design.endswith(".csv"):
        return {"kind": "csv", "file": design}
    if design in names:
        return {"kind": design}
    known = f"a design is one of {', '.join(names)} or a file that ends in .csv"
    if design in DESIGNS:
        raise ValueError(f"{design} needs more than its name, {dict(DESIGNS[str(design)].example)}; {known}")
    reasons = (UNUSABLE.get(str(design)), did_you_mean(design, names), known)
    raise ValueError("; ".join([f"unknown design {design!r}", *filter(None, reasons)]))


def _written(design: Design) -> Any:
    return design.written


class _ByName:
    """Tells the JSON schema of the short forms of a design."""

    def __get_pydantic_json_schema__(self, core: Any, handler: Any) -> dict[str, Any]:
        return {"anyOf": [{"enum": _names()}, {"type": "string", "pattern": r"\.csv$"}, handler(core)]}


AnyDesign = Annotated[
    Design, ByKind(DESIGNS), BeforeValidator(_in_full), PlainSerializer(_written), _ByName()
]


def of_prior(design: object) -> bool:
    """Tell whether the members of a design, as a config has it, are distributed as the prior says.

    >>> of_prior("lhs"), of_prior("members.csv"), of_prior({"kind": "uniform"})
    (True, False, False)
    """
    section = _in_full(design)
    return isinstance(section, dict) and DESIGNS[section["kind"]].of_prior
