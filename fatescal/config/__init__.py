"""The config: one YAML file, every key known, every mistake found before the first model run.

Paths are relative to the config's folder and `$VARIABLES` expand; `run.directory` is relative to the
working directory. Sections reject unknown keys and name the nearest known one.
"""

from fatescal.base.options import wrong_name
from fatescal.config.configuration import Config, Place, Run, Settings, Sites
from fatescal.config.loading import load, load_machine, revived, schema
from fatescal.config.machine import Machine
from fatescal.config.observation_options import (
    Error,
    Observations,
    Quality,
    QuantileRule,
    Scale,
    Synthetic,
    Variable,
)
from fatescal.config.parameter_options import (
    LogitNormal,
    LogNormal,
    Normal,
    Parameter,
    Relative,
    TruncatedNormal,
    Uniform,
)
from fatescal.config.stage_options import DRAWS, Calibrate, Emulate, Posterior, Sample, of_prior

__all__ = [
    "DRAWS",
    "Calibrate",
    "Config",
    "Emulate",
    "Error",
    "LogNormal",
    "LogitNormal",
    "Machine",
    "Normal",
    "Observations",
    "Parameter",
    "Place",
    "Posterior",
    "Quality",
    "QuantileRule",
    "Relative",
    "Run",
    "Sample",
    "Scale",
    "Settings",
    "Sites",
    "Synthetic",
    "TruncatedNormal",
    "Uniform",
    "Variable",
    "load",
    "load_machine",
    "of_prior",
    "revived",
    "schema",
    "wrong_name",
]
