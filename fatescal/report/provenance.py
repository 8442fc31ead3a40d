"""Section "Provenance": what made these results."""

from __future__ import annotations

import yaml

from fatescal.report.markup import Markup, element, paragraph, section, table
from fatescal.report.results import Results


def provenance(results: Results) -> Markup:
    """Return the section."""
    config = yaml.safe_dump(dict(results.settings), sort_keys=False, allow_unicode=True)
    return section(
        "provenance",
        "Provenance",
        paragraph(
            "The config and the versions of the software; the same of both give the same numbers again."
        ),
        table(["software", "version"], list(results.versions.items())) if results.versions else "",
        element("details", element("summary", "config, with all defaults"), element("pre", config)),
    )
