"""The normal prior."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
import numpy.typing as npt

from fatescal.base.options import Finite, Positive
from fatescal.base.types import Array
from fatescal.parameters.priors.base import Prior, number


class Normal(Prior):
    """Unbounded: theta = mean + sd u."""

    kind: Literal["normal"] = "normal"
    """a normal distribution"""
    mean: Literal["default"] | Finite = "default"
    """the mean, in the parameter's unit"""
    sd: Positive
    """the standard deviation, in the parameter's unit"""

    example: ClassVar = {"kind": "normal", "mean": 5.0, "sd": 1.0}

    def theta(self, u: npt.ArrayLike) -> Array:
        return number(self.mean) + self.sd * np.asarray(u)

    def u(self, theta: npt.ArrayLike) -> Array:
        return (np.asarray(theta) - number(self.mean)) / self.sd
