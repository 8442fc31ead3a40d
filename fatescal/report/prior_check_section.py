"""Section "Prior check": what the prior ensemble says about the data, and the data about the parameters."""

from __future__ import annotations

from collections.abc import Sequence

from fatescal.diagnostics.prior_check import assess, verdict
from fatescal.diagnostics.scores import LEVEL
from fatescal.report.markup import breakable, element, paragraph, rounded, table
from fatescal.report.results import Results, members, ran
from fatescal.report.section import ReportSection


class PriorCheckSection(ReportSection):
    """What the prior ensemble says about the data, and the data about the parameters."""

    kind = "evidence"
    title = "Prior check"
    needs = "a prior ensemble of three members"

    def content(self, results: Results) -> Sequence[object] | None:
        prior = results.ensembles.get("prior")
        if prior is None or ran(prior).sum() < 3:
            return None
        columns = results.rows("calibration")
        calibration = results.observations.select(columns)
        checks = assess(calibration, prior.u[ran(prior)], members(prior)[:, columns], results.prior.factor)
        outcome = verdict(checks, results.names)
        return [
            paragraph(
                element(
                    "b", f"Prior check {outcome}", class_="bad" if outcome.startswith("failed") else "good"
                ),
                ".",
            ),
            paragraph(
                f"Before any update: coverage is the share of observations in the central {100 * LEVEL:.0f} "
                "% of prior predictions plus the error in use at last; an outlier differs from the prior "
                "mean by more than three times spread plus error. Below, the share of each parameter's prior "
                "variance that the data remove, to first order; of parameters without prior correlations the "
                "shares add up to the number of directions that the data constrain."
            ),
            table(
                ["variable", "windows", "coverage", "outliers", "constrained directions"],
                [[e.variable, e.windows, e.coverage, e.outliers, e.degrees_of_freedom] for e in checks],
            ),
            table(
                ["parameter", *(e.variable for e in checks)],
                [
                    [breakable(name), *(rounded(float(e.informed[p])) for e in checks)]
                    for p, name in enumerate(results.names)
                ],
                "Share of the prior variance removed",
            ),
        ]
