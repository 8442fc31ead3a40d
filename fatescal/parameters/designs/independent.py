"""Independent draws of the prior."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

import numpy as np

from fatescal.base.random_streams import stream
from fatescal.base.types import Array
from fatescal.parameters.designs.base import Design
from fatescal.parameters.space import ParameterSpace


class IndependentDraws(Design):
    """Independent draws of the prior."""

    kind: Literal["prior"] = "prior"
    """independent draws of the prior"""

    of_prior: ClassVar = True
    example: ClassVar = {"kind": "prior"}

    def ensemble(self, space: ParameterSpace, n_members: int, seed: int, folder: Path) -> Array:
        members = range(1, n_members + 1)
        return np.array([stream(seed, "prior", j).standard_normal(len(space.names)) for j in members])
