"""The verb `priors`: what decides the parameters of a config."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path

from fatescal import config as settings
from fatescal.parameters import table as overview
from fatescal.workflow import problem as assemble


def priors(path: Path, form: str) -> int:
    """Print all that decides the parameters: default, median, central 95 %, prior or rule, correlations."""
    config = settings.load(path)
    rows = overview.overview(assemble.space(config), config.correlations)
    if form == "text":
        print(overview.as_text(rows))
    elif form == "json":
        print(json.dumps(rows, indent=1))
    else:
        flat = [overview.flat(row) for row in rows]
        columns = list(dict.fromkeys(k for row in flat for k in row))
        table = csv.DictWriter(sys.stdout, columns, lineterminator="\n")
        table.writeheader()
        table.writerows(flat)
    return 0
