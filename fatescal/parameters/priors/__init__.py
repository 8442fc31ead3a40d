"""Priors of one parameter, a file for each kind."""

from fatescal.parameters.priors.base import Prior
from fatescal.parameters.priors.log_normal import LogNormal
from fatescal.parameters.priors.logit_normal import LogitNormal
from fatescal.parameters.priors.normal import Normal
from fatescal.parameters.priors.truncated_normal import TruncatedNormal
from fatescal.parameters.priors.uniform import Uniform

__all__ = ["LogNormal", "LogitNormal", "Normal", "Prior", "TruncatedNormal", "Uniform"]
