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
        seed = results.settings.get("run", {}).get("seed", 1)
        files = [
            [key, path, digest[:16]]
            for key, of_key in results.inputs.items()
            for path, digest in of_key.items()
        ]
        caption = "Files from outside that these results were computed from"
        return [
            paragraph(
                "The config, the files from outside and the versions of the software; the same of these give "
                f"the same numbers again, on any number of ranks. Seed {seed}."
            ),
            table(["software", "version"], list(results.versions.items())) if results.versions else "",
            table(["key of the config", "file", "SHA-256, first 16 digits"], files, caption) if files else "",
            element("details", element("summary", "config, with all defaults"), element("pre", config)),
        ]
