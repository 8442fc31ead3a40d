"""The sections of the page, in their order. A new one is a file and a line here.

Sections of other packages (entry points of group `fatescal.report_sections`) stand before the last one.
"""

from __future__ import annotations

import logging
from functools import cache
from operator import attrgetter

from fatescal.base.families import UNUSABLE, announced, family
from fatescal.report.annual_section import AnnualSums
from fatescal.report.chains_section import Chains
from fatescal.report.cost_section import Cost
from fatescal.report.emulator_section import EmulatorCheck
from fatescal.report.failed_members_section import FailedMembers
from fatescal.report.methods_section import Methods
from fatescal.report.misfit_section import Misfit
from fatescal.report.parameters_section import Parameters
from fatescal.report.prior_check_section import PriorCheckSection
from fatescal.report.provenance_section import Provenance
from fatescal.report.residuals_section import ResidualsSection
from fatescal.report.scorecard_section import ScorecardSection
from fatescal.report.section import ReportSection
from fatescal.report.sensitivity_section import Sensitivity
from fatescal.report.time_series_section import FitInTime
from fatescal.report.verdict_section import VerdictSection

ENTRY_POINTS = "fatescal.report_sections"
OWN = (
    VerdictSection,
    ScorecardSection,
    PriorCheckSection,
    Parameters,
    FitInTime,
    ResidualsSection,
    AnnualSums,
    Misfit,
    FailedMembers,
    EmulatorCheck,
    Sensitivity,
    Chains,
    Cost,
    Methods,
    Provenance,
)

log = logging.getLogger(__name__)


def made_sections() -> list[ReportSection]:
    """Return a section of each kind, for page and files of one run."""
    return [section() for section in sections().values()]


@cache
def sections() -> dict[str, type[ReportSection]]:
    """Return the sections of the page by name, in order; one that cannot be used is logged and left out."""
    known = family(ReportSection, OWN, ENTRY_POINTS, attrgetter("kind"))  # type: ignore[type-abstract]
    for point in announced(ENTRY_POINTS):
        if point.name not in known:
            log.warning("the report lacks a section %s: %s", point.name, UNUSABLE[point.name])
    last = OWN[-1].kind
    return {kind: section for kind, section in known.items() if kind != last} | {last: known[last]}
