"""A calibration of CLM-FATES at Hyytiala, with the stand-in executable, as a user would pose it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from ctsm_case import Case

VCMAX, SLOPE = "fates_leaf_vcmax25top", "fates_leaf_stomatal_slope_ballberry"
NEEDLELEAF = "needleleaf_evergreen_extratrop_tree"


def write_config(folder: Path, case: Case, **changes: dict) -> Path:
    """Write the config; `changes` update its sections, parameters are replaced."""
    config: dict[str, Any] = {
        "run": {"name": "clm_fates", "directory": str(folder / "calibration"), "seed": 3},
        "model": {
            "kind": "clm_fates",
            "run_directory": str(case.run_directory),
            "executable": str(case.executable),
            "start": "2005-01-01",
            "end": "2005-12-31",
            "spinup": {"years": 1, "reuse": "default"},
            "timeout": "5 min",
        },
        "parameters": {
            VCMAX: {
                "pfts": [NEEDLELEAF],
                "prior": {"kind": "logit-normal", "scale": 0.3, "bounds": {"relative": 0.75}},
            },
            SLOPE: {
                "pfts": [NEEDLELEAF],
                "prior": {"kind": "logit-normal", "scale": 0.3, "bounds": [1, 20]},
            },
        },
        "observations": {
            "synthetic": {"truth": {VCMAX: {"scale": 0.85}, SLOPE: {"scale": 0.8}}},
            "calibration": ["2005-01-01", "2005-12-31"],
            "variables": {
                "GPP": {"model": "FATES_GPP", "unit": "g C m-2 d-1", "error": {"sd": 0.471}},
                "ET": {"model": "QFLX_EVAP_TOT", "unit": "mm d-1", "error": {"sd": 0.163}},
            },
        },
        "calibrate": {"scheme": "ienks", "members": 8, "iterations": 2},
        "emulate": {"force": True, "rounds": 0},
        "posterior": {"members": 5},
    }
    for section, values in changes.items():
        config[section] = values if section == "parameters" else {**config.get(section, {}), **values}
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(config, sort_keys=False))
    return path
