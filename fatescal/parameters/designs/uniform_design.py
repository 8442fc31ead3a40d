"""A uniform design between the priors' bounds."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

import numpy as np

from fatescal.base.random_streams import stream
from fatescal.base.types import Array
from fatescal.parameters.designs.base import Design
from fatescal.parameters.priors.base import CENTRAL, Prior
from fatescal.parameters.space import ParameterSpace

MARGIN = 1e-9  # of the range of a uniform design: at a bound itself u is infinite


class UniformDesign(Design):
    """Uniform between the priors' bounds, or over the central 99.9 % of a prior without two of them."""

    kind: Literal["uniform"] = "uniform"
    """uniform between the priors' bounds, whatever the priors are"""

    example: ClassVar = {"kind": "uniform"}

    def ensemble(self, space: ParameterSpace, n_members: int, seed: int, folder: Path) -> Array:
        members, n_parameters = range(1, n_members + 1), len(space.names)
        shares = np.array([stream(seed, "design", j).random(n_parameters) for j in members])
        low, high = np.array([reach(prior) for prior in space.priors]).T
        return space.u(low + (high - low) * np.clip(shares, MARGIN, 1.0 - MARGIN))


def reach(prior: Prior) -> tuple[float, float]:
    """Return the range of a prior: its bounds, or its central 99.9 %.

    >>> from fatescal.parameters.priors import Normal, Uniform
    >>> reach(Uniform(bounds=(1.0, 2.0))), [round(x, 4) for x in reach(Normal(mean=0.0, sd=1.0))]
    ((1.0, 2.0), [-3.2905, 3.2905])
    """
    if np.isfinite(prior.support).all():
        return prior.support
    return float(prior.theta(-CENTRAL)), float(prior.theta(CENTRAL))
