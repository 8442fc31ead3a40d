"""The truncated normal prior."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

import numpy as np
import numpy.typing as npt

from fatescal.base.errors import BadInput
from fatescal.base.options import Field, Finite, Positive
from fatescal.base.types import Array
from fatescal.parameters.priors.base import TAIL, Prior, Relative, inside, number

LEAST_MASS = 1e-12  # of a normal, between the bounds it is cut at
SMALL = 1e-3  # share of a cut-off tail below which a difference of two such tails has lost digits


class TruncatedNormal(Prior):
    """A normal with mean `location` and sd `scale`, cut at bounds; one of them may be null."""

    kind: Literal["truncated-normal"] = "truncated-normal"
    """a normal distribution cut at one or two bounds"""
    location: Literal["default"] | Finite = "default"
    """the mean of the normal before it is cut, in the parameter's unit"""
    scale: Positive
    """the standard deviation of the normal before it is cut, in the parameter's unit"""
    bounds: Annotated[tuple[Finite | None, Finite | None], Field(description="lower and upper")] | Relative
    """lower and upper, in the parameter's unit, one of which may be null; or relative to the default"""

    example: ClassVar = {"kind": "truncated-normal", "location": 1.0, "scale": 2.0, "bounds": [0.0, None]}

    def resolved(self, default: float | None) -> Self:
        ready = super().resolved(default)
        if ready._mass < LEAST_MASS:
            lower, upper = ready.support
            raise BadInput(
                f"a normal of location {number(ready.location):g} and scale {ready.scale:g} has next to "
                f"nothing between {lower:g} and {upper:g}",
                expected=f"a share of at least {LEAST_MASS:g}",
                got=f"{ready._mass:.3g}",
                hint="a location nearer to the bounds, or a larger scale",
            )
        return ready

    @property
    def _ends(self) -> tuple[float, float]:
        lower, upper = self.support
        location = number(self.location)
        return (lower - location) / self.scale, (upper - location) / self.scale

    @property
    def _mass(self) -> float:
        return float(_between(*self._ends))

    def theta(self, u: npt.ArrayLike) -> Array:
        """Return the parameter at coordinates `u`.

        Both tails are computed from their own end, so that bounds far out in a tail cost no digits.

        >>> prior = TruncatedNormal(location=1.0, scale=2.0, bounds=(0.0, None))
        >>> round(float(prior.theta(0.0)), 6), round(float(prior.u(prior.theta(-4.0))), 9)
        (1.793742, -4.0)
        """
        from scipy.special import ndtr, ndtri

        (lower, upper), (low, high) = self.support, self._ends
        below = ndtr(low) + self._mass * ndtr(u)
        above = ndtr(-high) + self._mass * ndtr(-np.asarray(u))
        x = np.where(below < 0.5, ndtri(below), -ndtri(above))
        theta = number(self.location) + self.scale * x
        near, distance = _distance_from_end(low, self._mass, np.asarray(u))
        theta = np.where(near, lower + self.scale * distance, theta)
        near, distance = _distance_from_end(-high, self._mass, -np.asarray(u))
        theta = np.where(near, upper - self.scale * distance, theta)
        return inside(theta, lower, upper)

    def u(self, theta: npt.ArrayLike) -> Array:
        from scipy.special import ndtri

        (lower, upper), (low, high) = self.support, self._ends
        theta = np.asarray(theta)
        x = (theta - number(self.location)) / self.scale
        below = _refined(low, (theta - lower) / self.scale, _between(low, x), self._mass) / self._mass
        above = _refined(-high, (upper - theta) / self.scale, _between(x, high), self._mass) / self._mass
        return np.where(below < 0.5, ndtri(below), -ndtri(above))


def _share_from(low: float, distance: Array) -> Array:
    """Return the share of a standard normal between `low` and a small `distance` above it, to its last
    digits."""
    nodes, weights = np.polynomial.legendre.leggauss(12)
    t = np.multiply.outer(distance, (nodes + 1.0) / 2.0)
    density = np.exp(-0.5 * low**2) / np.sqrt(2.0 * np.pi)
    return density * distance * (np.exp(-t * (low + 0.5 * t)) @ (weights / 2.0))


def _distance_from_end(low: float, mass: float, u: Array) -> tuple[Array, Array]:
    """Return which coordinates `u` lie so near to the end `low` that the plain formula fails, and their
    distance.

    The distance d solves share(low, low + d) = mass Phi(u) by Newton's method, which comes from one side.
    """
    from scipy.special import ndtr

    share = mass * ndtr(u)
    near = (u < -TAIL) & (share < SMALL * ndtr(low))
    distance = np.zeros_like(share)
    if near.any():
        wanted = share[near]
        density = np.exp(-0.5 * low**2) / np.sqrt(2.0 * np.pi)
        d = wanted / density
        for _ in range(6):
            d = d - (_share_from(low, d) - wanted) / (density * np.exp(-d * (low + 0.5 * d)))
        distance[near] = d
    return near, distance


def _refined(low: float, distance: Array, share: Array, mass: float) -> Array:
    """Return the `share` of a standard normal within a `distance` of `low`, to its last digits where that is
    small."""
    from scipy.special import ndtr

    near = (share < SMALL * ndtr(low)) & (share < mass * ndtr(-TAIL)) & (distance < 1.0)
    return np.where(near, _share_from(low, np.where(near, distance, 0.0)), share) if near.any() else share


def _between(low: npt.ArrayLike, high: npt.ArrayLike) -> Array:
    """Return the share of a standard normal between two points, without cancellation in either tail."""
    from scipy.special import ndtr

    low, high = np.asarray(low), np.asarray(high)
    return np.where(low > 0, ndtr(-low) - ndtr(-high), ndtr(high) - ndtr(low))
