"""The log-normal prior."""

from __future__ import annotations

from typing import ClassVar, Literal, Self

import numpy as np
import numpy.typing as npt

from fatescal.base.errors import BadInput
from fatescal.base.options import Positive
from fatescal.base.types import Array
from fatescal.parameters.priors.base import ByMoments, in_numbers, inside, number


class LogNormal(ByMoments):
    """Positive; the logarithm is normal with sd `scale`: theta = median exp(scale u)."""

    kind: Literal["log-normal"] = "log-normal"
    """positive; the logarithm is normal"""
    median: Literal["default"] | Positive = "default"
    """the median, in the parameter's unit; goes with `scale`"""
    scale: Positive | None = None
    """the standard deviation of the logarithm"""
    mean: Literal["default"] | Positive | None = None
    """the mean of the distribution itself, in the parameter's unit; goes with `sd`"""
    sd: Positive | None = None
    """the standard deviation of the distribution itself, in the parameter's unit"""

    example: ClassVar = {"kind": "log-normal", "mean": 4.0, "sd": 2.0}

    @classmethod
    def of_moments(cls, mean: float, sd: float) -> Self:
        """Return the one with this physical mean (positive) and sd.

        >>> prior = LogNormal.of_moments(4.0, 2.0)
        >>> round(prior.median, 6), round(prior.scale, 6)
        (3.577709, 0.472381)
        """
        ratio = 1.0 + (sd / mean) ** 2
        median, scale = mean / float(np.sqrt(ratio)), float(np.sqrt(np.log(ratio)))
        return cls.model_construct(median=median, scale=scale)

    def resolved(self, default: float | None) -> Self:
        name, value = ("median", self.median) if self.mean is None else ("mean", self.mean)
        centre = in_numbers(value, default)
        if centre <= 0:
            raise BadInput(f"a log-normal's {name} is positive", got=centre)
        if self.mean is None:
            return self.model_copy(update={"median": centre})
        return self.of_moments(centre, number(self.sd))

    @property
    def support(self) -> tuple[float, float]:
        return 0.0, np.inf

    def theta(self, u: npt.ArrayLike) -> Array:
        with np.errstate(over="ignore"):
            return inside(number(self.median) * np.exp(number(self.scale) * np.asarray(u)), *self.support)

    def u(self, theta: npt.ArrayLike) -> Array:
        return np.log(np.asarray(theta) / number(self.median)) / number(self.scale)
