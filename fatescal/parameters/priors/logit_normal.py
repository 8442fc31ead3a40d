"""The logit-normal prior."""

from __future__ import annotations

from typing import ClassVar, Literal, Self

import numpy as np
import numpy.typing as npt

from fatescal.base.errors import BadInput
from fatescal.base.options import Finite, Positive
from fatescal.base.types import Array
from fatescal.parameters.priors.base import Bounds, ByMoments, in_numbers, inside, number

WIDEST = 20.0  # scale of a logit-normal beyond which it is two spikes at its bounds
LOGIT_TAIL = 8.0  # logit of a share beyond which a value is computed from the nearer bound


class LogitNormal(ByMoments):
    """Bounded; the logit of the scaled parameter is normal with sd `scale`.

    theta = a + (b - a) expit(logit((median - a)/(b - a)) + scale u).
    """

    kind: Literal["logit-normal"] = "logit-normal"
    """bounded; the logit of the position between the bounds is normal"""
    median: Literal["default", "centre"] | Finite = "default"
    """the median, in the parameter's unit, or `centre`: of the bounds; goes with `scale`"""
    scale: Positive | None = None
    """the standard deviation of the logit: 0.3 is peaked, 1.75 nearly uniform"""
    mean: Literal["default"] | Finite | None = None
    """the mean of the distribution itself, in the parameter's unit; goes with `sd`"""
    sd: Positive | None = None
    """the standard deviation of the distribution itself, in the parameter's unit"""
    bounds: Bounds
    """lower and upper, in the parameter's unit, or relative to the default"""

    example: ClassVar = {"kind": "logit-normal", "median": 6.0, "scale": 0.5, "bounds": [1.0, 9.0]}

    @classmethod
    def of_moments(cls, mean: float, sd: float, lower: float, upper: float) -> Self:
        """Return the one with this physical mean and sd.

        Raises
        ------
        BadInput
            If there is none: the mean is outside the bounds, or the sd is more than theirs can hold.

        >>> prior = LogitNormal.of_moments(8.0, 1.5, 1.0, 20.0)
        >>> round(prior.median, 4), round(prior.scale, 4)
        (7.9316, 0.3479)
        """
        width = upper - lower
        m, s = (mean - lower) / width, sd / width
        if not 0 < m < 1:
            raise BadInput(
                "the prior's mean is outside its bounds",
                expected=f"between {lower:g} and {upper:g}",
                got=f"{mean:g}",
            )
        most = np.sqrt(m * (1 - m))
        if s >= most:
            raise BadInput(
                f"no distribution between {lower:g} and {upper:g} with mean {mean:g} has so large an sd",
                expected=f"less than {most * width:.4g} (a uniform has {width / np.sqrt(12):.4g})",
                got=f"{sd:g}",
                hint="a smaller sd or wider bounds",
            )
        centre, scale = _logit_of_moments(m, s)
        if scale > WIDEST:
            raise BadInput(
                f"a logit-normal with mean {mean:g} and sd {sd:g} lies almost all at its bounds "
                f"{lower:g} and {upper:g}",
                hint="a smaller sd, or kind: uniform",
            )
        median = lower + width * float(_expit(centre))
        return cls.model_construct(median=median, scale=scale, bounds=(lower, upper))

    def resolved(self, default: float | None) -> Self:
        lower, upper = self._bounds(default)
        if self.mean is not None:
            return self.of_moments(in_numbers(self.mean, default), number(self.sd), lower, upper)
        median = (lower + upper) / 2 if self.median == "centre" else in_numbers(self.median, default)
        if not lower < median < upper:
            raise BadInput(
                "the prior's median is outside its bounds",
                expected=f"between {lower:g} and {upper:g}",
                got=f"{median:g}",
            )
        return self.model_copy(update={"median": median, "bounds": (lower, upper)})

    def _logit(self, theta: npt.ArrayLike) -> Array:
        lower, upper = self.support
        return np.log((np.asarray(theta) - lower) / (upper - np.asarray(theta)))

    def theta(self, u: npt.ArrayLike) -> Array:
        """Return the parameter at coordinates `u`.

        >>> prior = LogitNormal(median=62.0, scale=0.3, bounds=(15.5, 108.5))
        >>> float(prior.theta(0.0)), round(float(prior.u(prior.theta(1.5))), 12)
        (62.0, 1.5)
        """
        from scipy.special import expit

        x = self._logit(number(self.median)) + number(self.scale) * np.asarray(u)
        lower, upper = self.support
        width = upper - lower
        low, high = lower + width * expit(x), upper - width * expit(-x)
        theta = np.where(x < -LOGIT_TAIL, low, np.where(x > LOGIT_TAIL, high, lower + width * _expit(x)))
        return inside(theta, lower, upper)

    def u(self, theta: npt.ArrayLike) -> Array:
        return (self._logit(theta) - self._logit(number(self.median))) / number(self.scale)


def _expit(x: npt.ArrayLike) -> Array:
    return 0.5 * (1.0 + np.tanh(0.5 * np.asarray(x)))


def _logit_of_moments(mean: float, sd: float) -> tuple[float, float]:
    """Return (centre, scale) of the normal whose expit has `mean` and `sd`; a scale above `WIDEST` means
    beyond it.

    The moments are sums over equal steps, which converge geometrically for a smooth map.
    """
    from scipy.optimize import brentq

    z = np.linspace(-9.0, 9.0, 4001)
    weight = np.exp(-0.5 * z**2)
    weight /= weight.sum()

    def centre_for(scale: float) -> float:
        reach = 10.0 * scale + abs(np.log(mean / (1.0 - mean))) + 1.0
        return brentq(lambda c: weight @ _expit(c + scale * z) - mean, -reach, reach, xtol=1e-14)

    def excess(log_scale: float) -> float:
        scale = np.exp(log_scale)
        p = _expit(centre_for(scale) + scale * z)
        return float(np.sqrt(weight @ (p - mean) ** 2)) - sd

    high = np.log(WIDEST)
    if excess(high) < 0:
        return 0.0, np.inf
    # expit is nowhere steeper than 1/4
    log_scale = brentq(excess, np.log(3.9 * sd), high, xtol=1e-13)
    return centre_for(np.exp(log_scale)), float(np.exp(log_scale))
