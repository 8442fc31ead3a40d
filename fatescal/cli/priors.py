"""The verb `priors`: what decides the parameters of a config."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path

from fatescal import config as settings
from fatescal.cli.run_folder import load_config
from fatescal.parameters import table
from fatescal.workflow.problem import calibrated_space


def priors(path: Path, form: str, machine: str | None, changes: settings.Changes) -> int:
    """Print all that decides the parameters: default, median, central 95 %, prior or rule, correlations."""
    config = load_config(path, None, machine, changes)
    rows = table.parameter_table(calibrated_space(config), config.correlations)
    if form == "text":
        print(table.as_text(rows))
    elif form == "json":
        print(json.dumps(rows, indent=1))
    else:
        flat = [table.flat(row) for row in rows]
        columns = list(dict.fromkeys(k for row in flat for k in row))
        writer = csv.DictWriter(sys.stdout, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(flat)
    return 0
