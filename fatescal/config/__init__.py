"""The config: one YAML file, every key known, every mistake found before the first model run.

Paths are relative to the config's folder and `$VARIABLES` expand; `run.directory` is relative to the
working directory. Sections reject unknown keys and name the nearest known one.
"""

from fatescal.config.configuration import Config, Place, Run, Settings, Sites
from fatescal.config.loading import load, load_machine, revived, schema
from fatescal.config.machine import Machine
from fatescal.config.stage_options import DRAWS, Calibrate, Emulate, Posterior, Sample
from fatescal.observations.noise import QuantileRule
from fatescal.observations.options import Error, Observations, Quality, Synthetic, Variable

__all__ = [
    "DRAWS",
    "Calibrate",
    "Config",
    "Emulate",
    "Error",
    "Machine",
    "Observations",
    "Place",
    "Posterior",
    "Quality",
    "QuantileRule",
    "Run",
    "Sample",
    "Settings",
    "Sites",
    "Synthetic",
    "Variable",
    "load",
    "load_machine",
    "revived",
    "schema",
]
