"""The config: one YAML file, every key known, every mistake reported before the first model run.

Paths are relative to the config's folder and `$VARIABLES` expand. Sections reject unknown keys and name the
nearest known one.
"""

from fatescal.config.configuration import Config, OneSite, RunSection, SeveralSites, SiteSection
from fatescal.config.loading import load, load_machine, revived, schema
from fatescal.config.machine import Machine
from fatescal.config.overrides import Changes, from_text
from fatescal.config.stage_options import (
    DRAWS,
    CalibrateSection,
    EmulateSection,
    PosteriorSection,
    SampleSection,
)
from fatescal.observations.noise import ErrorModel, QuantileRule
from fatescal.observations.options import (
    ObservationsSection,
    QualitySection,
    SyntheticSection,
    VariableSection,
)

__all__ = [
    "DRAWS",
    "CalibrateSection",
    "Changes",
    "Config",
    "EmulateSection",
    "ErrorModel",
    "Machine",
    "ObservationsSection",
    "OneSite",
    "PosteriorSection",
    "QualitySection",
    "QuantileRule",
    "RunSection",
    "SampleSection",
    "SeveralSites",
    "SiteSection",
    "SyntheticSection",
    "VariableSection",
    "from_text",
    "load",
    "load_machine",
    "revived",
    "schema",
]
