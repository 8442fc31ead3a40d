"""The config: one YAML file, every key known, every mistake found before the first model run.

Paths are relative to the config's folder and `$VARIABLES` expand; `run.directory` is relative to the
working directory. Sections reject unknown keys and name the nearest known one.
"""

from fatescal.config.configuration import Config, Place, Run, Settings, Sites
from fatescal.config.loading import load, load_machine, revived, schema
from fatescal.config.machine import Cime, Machine
from fatescal.config.model_options import (
    Build,
    Canopy,
    CanopySite,
    ClmFates,
    Command,
    ExternalModel,
    Model,
    Site,
    Source,
)
from fatescal.config.stage_options import DRAWS, Calibrate, Emulate, Posterior, Sample
from fatescal.observations.noise import QuantileRule
from fatescal.observations.options import Error, Observations, Quality, Synthetic, Variable

__all__ = [
    "DRAWS",
    "Build",
    "Calibrate",
    "Canopy",
    "CanopySite",
    "Cime",
    "ClmFates",
    "Command",
    "Config",
    "Emulate",
    "Error",
    "ExternalModel",
    "Machine",
    "Model",
    "Observations",
    "Place",
    "Posterior",
    "Quality",
    "QuantileRule",
    "Run",
    "Sample",
    "Settings",
    "Site",
    "Sites",
    "Source",
    "Synthetic",
    "Variable",
    "load",
    "load_machine",
    "revived",
    "schema",
]
