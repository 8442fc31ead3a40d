"""The uniform prior."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
import numpy.typing as npt

from fatescal.base.types import Array
from fatescal.parameters.priors.base import TAIL, Bounds, Prior, inside


class Uniform(Prior):
    """Uniform between bounds: theta = a + (b - a) Phi(u), Phi the standard normal distribution function."""

    kind: Literal["uniform"] = "uniform"
    """all values between the bounds are as probable"""
    bounds: Bounds
    """lower and upper, in the parameter's unit, or relative to the default"""

    example: ClassVar = {"kind": "uniform", "bounds": [0.0, 1.0]}

    def theta(self, u: npt.ArrayLike) -> Array:
        from scipy.special import ndtr

        lower, upper = self.support
        u, width = np.asarray(u), upper - lower
        theta = np.where(u > TAIL, upper - width * ndtr(-u), lower + width * ndtr(u))
        return inside(theta, lower, upper)

    def u(self, theta: npt.ArrayLike) -> Array:
        from scipy.special import ndtr, ndtri

        lower, upper = self.support
        width = upper - lower
        below, above = (np.asarray(theta) - lower) / width, (upper - np.asarray(theta)) / width
        return np.where(above < ndtr(-TAIL), -ndtri(above), ndtri(below))
