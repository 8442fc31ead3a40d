"""Section "Provenance": what made these results."""

from __future__ import annotations

from collections.abc import Sequence

import yaml

from fatescal.report.markup import element, paragraph, table
from fatescal.report.results import Results
from fatescal.report.section import ReportSection


class Provenance(ReportSection):
    """What made these results."""

    kind = "provenance"
    title = "Provenance"

    def content(self, results: Results) -> Sequence[object]:
        config = yaml.safe_dump(dict(results.settings), sort_keys=False, allow_unicode=True)
        return [
            paragraph(
                "The config and the versions of the software; the same of both give the same numbers again."
            ),
            table(["software", "version"], list(results.versions.items())) if results.versions else "",
            element("details", element("summary", "config, with all defaults"), element("pre", config)),
        ]
