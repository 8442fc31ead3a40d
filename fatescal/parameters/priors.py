"""Priors of one parameter: monotone maps theta = T(z) of a standard normal coordinate, and their inverses.

Bounds are open: where T(z) rounds to a bound, theta is the nearest number inside, so that z stays finite; z
comes back as exactly as theta is representable. Beyond `TAIL` the distance from the nearer bound is computed,
not that from the other one, which would leave nothing but rounding errors of it; within, the plain formulas
are as exact.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from fatescal.base.errors import BadInput
from fatescal.base.types import Array

CENTRAL = 3.2905267314918945  # half width, in standard deviations, of a normal's central 99.9 %
WIDEST = 20.0  # scale of a logit-normal beyond which it is two spikes at its bounds
LEAST_MASS = 1e-12  # of a normal, between the bounds it is cut at
TAIL = 4.0  # coordinate beyond which a value is computed from the nearer bound
LOGIT_TAIL = 8.0  # the same for the logit of a share
SMALL = 1e-3  # share of a cut-off tail below which a difference of two such tails has lost digits


class Prior(Protocol):
    """One parameter's prior."""

    @property
    def bounds(self) -> tuple[float, float]:
        """The ends of what is possible, infinite where there is none."""

    def theta(self, u: npt.ArrayLike) -> Array:
        """Return the parameter at standard normal coordinates `u`, elementwise."""

    def u(self, theta: npt.ArrayLike) -> Array:
        """Return the coordinates of `theta`, the inverse of `theta`."""


@dataclass(frozen=True)
class LogitNormal:
    """theta = a + (b - a) expit(logit((median - a)/(b - a)) + scale u).

    >>> prior = LogitNormal(62.0, 0.3, 15.5, 108.5)
    >>> float(prior.theta(0.0)), round(float(prior.u(prior.theta(1.5))), 12)
    (62.0, 1.5)
    """

    median: float
    scale: float
    lower: float
    upper: float

    @classmethod
    def of_moments(cls, mean: float, sd: float, lower: float, upper: float) -> LogitNormal:
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
        return cls(lower + width * float(_expit(centre)), scale, lower, upper)

    @property
    def bounds(self) -> tuple[float, float]:
        return self.lower, self.upper

    def _logit(self, theta: npt.ArrayLike) -> Array:
        return np.log((np.asarray(theta) - self.lower) / (self.upper - np.asarray(theta)))

    def theta(self, u: npt.ArrayLike) -> Array:
        from scipy.special import expit

        x = self._logit(self.median) + self.scale * np.asarray(u)
        width = self.upper - self.lower
        middle = self.lower + width * _expit(x)
        low, high = self.lower + width * expit(x), self.upper - width * expit(-x)
        theta = np.where(x < -LOGIT_TAIL, low, np.where(x > LOGIT_TAIL, high, middle))
        return _inside(theta, self.lower, self.upper)

    def u(self, theta: npt.ArrayLike) -> Array:
        return (self._logit(theta) - self._logit(self.median)) / self.scale


@dataclass(frozen=True)
class Normal:
    """theta = mean + sd u."""

    mean: float
    sd: float

    @property
    def bounds(self) -> tuple[float, float]:
        return -np.inf, np.inf

    def theta(self, u: npt.ArrayLike) -> Array:
        return self.mean + self.sd * np.asarray(u)

    def u(self, theta: npt.ArrayLike) -> Array:
        return (np.asarray(theta) - self.mean) / self.sd


@dataclass(frozen=True)
class TruncatedNormal:
    """A normal (`location`, `scale`) cut at bounds, of which one may be infinite.

    Both tails are computed from their own end, so that bounds far out in a tail cost no digits.

    >>> prior = TruncatedNormal(1.0, 2.0, 0.0, np.inf)
    >>> round(float(prior.theta(0.0)), 6), round(float(prior.u(prior.theta(-4.0))), 9)
    (1.793742, -4.0)
    """

    location: float
    scale: float
    lower: float
    upper: float

    def __post_init__(self) -> None:
        if self._mass < LEAST_MASS:
            raise BadInput(
                f"a normal of location {self.location:g} and scale {self.scale:g} has next to nothing "
                f"between {self.lower:g} and {self.upper:g}",
                expected=f"a share of at least {LEAST_MASS:g}",
                got=f"{self._mass:.3g}",
                hint="a location nearer to the bounds, or a larger scale",
            )

    @property
    def bounds(self) -> tuple[float, float]:
        return self.lower, self.upper

    @property
    def _ends(self) -> tuple[float, float]:
        return (self.lower - self.location) / self.scale, (self.upper - self.location) / self.scale

    @property
    def _mass(self) -> float:
        return float(_between(*self._ends))

    def theta(self, u: npt.ArrayLike) -> Array:
        from scipy.special import ndtr, ndtri

        low, high = self._ends
        below = ndtr(low) + self._mass * ndtr(u)
        above = ndtr(-high) + self._mass * ndtr(-np.asarray(u))
        x = np.where(below < 0.5, ndtri(below), -ndtri(above))
        theta = self.location + self.scale * x
        near, distance = _distance_from_end(low, self._mass, np.asarray(u))
        theta = np.where(near, self.lower + self.scale * distance, theta)
        near, distance = _distance_from_end(-high, self._mass, -np.asarray(u))
        theta = np.where(near, self.upper - self.scale * distance, theta)
        return _inside(theta, self.lower, self.upper)

    def u(self, theta: npt.ArrayLike) -> Array:
        from scipy.special import ndtri

        low, high = self._ends
        theta = np.asarray(theta)
        x = (theta - self.location) / self.scale
        below = _refined(low, (theta - self.lower) / self.scale, _between(low, x), self._mass) / self._mass
        above = _refined(-high, (self.upper - theta) / self.scale, _between(x, high), self._mass) / self._mass
        return np.where(below < 0.5, ndtri(below), -ndtri(above))


@dataclass(frozen=True)
class LogNormal:
    """theta = median exp(scale u)."""

    median: float
    scale: float

    @classmethod
    def of_moments(cls, mean: float, sd: float) -> LogNormal:
        """Return the one with this physical mean (positive) and sd.

        >>> prior = LogNormal.of_moments(4.0, 2.0)
        >>> round(prior.median, 6), round(prior.scale, 6)
        (3.577709, 0.472381)
        """
        ratio = 1.0 + (sd / mean) ** 2
        return cls(mean / float(np.sqrt(ratio)), float(np.sqrt(np.log(ratio))))

    @property
    def bounds(self) -> tuple[float, float]:
        return 0.0, np.inf

    def theta(self, u: npt.ArrayLike) -> Array:
        with np.errstate(over="ignore"):
            return _inside(self.median * np.exp(self.scale * np.asarray(u)), *self.bounds)

    def u(self, theta: npt.ArrayLike) -> Array:
        return np.log(np.asarray(theta) / self.median) / self.scale


@dataclass(frozen=True)
class Uniform:
    """theta = a + (b - a) Phi(u), Phi the standard normal distribution function."""

    lower: float
    upper: float

    @property
    def bounds(self) -> tuple[float, float]:
        return self.lower, self.upper

    def theta(self, u: npt.ArrayLike) -> Array:
        from scipy.special import ndtr

        u, width = np.asarray(u), self.upper - self.lower
        theta = np.where(u > TAIL, self.upper - width * ndtr(-u), self.lower + width * ndtr(u))
        return _inside(theta, self.lower, self.upper)

    def u(self, theta: npt.ArrayLike) -> Array:
        from scipy.special import ndtr, ndtri

        width = self.upper - self.lower
        below, above = (np.asarray(theta) - self.lower) / width, (self.upper - np.asarray(theta)) / width
        return np.where(above < ndtr(-TAIL), -ndtri(above), ndtri(below))


def kind(prior: Prior) -> str:
    """Return what a config calls the kind of a prior.

    >>> kind(LogNormal(1.0, 0.2)), kind(Normal(1.0, 0.2))
    ('log-normal', 'normal')
    """
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "-", type(prior).__name__).lower()


def require_distinct_values(prior: Prior) -> None:
    """Refuse a prior whose central 99.9 % has no distinct values in double precision.

    Raises
    ------
    BadInput
        If coordinates do not come back from their values: bounds too near together, an sd too small for the
        mean, a scale so wide that all but the middle lies at the bounds.

    >>> require_distinct_values(Normal(1e20, 1.0))  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ...
    fatescal.base.errors.BadInput: values of the prior cannot be told apart in double precision. Got 1e+20 ...
    """
    z = np.array([-CENTRAL, -0.5, 0.5, CENTRAL])
    with np.errstate(all="ignore"):
        theta = prior.theta(z)
        distinct = np.allclose(prior.u(theta), z, rtol=0, atol=1e-3)
    if not distinct:
        raise BadInput(
            "values of the prior cannot be told apart in double precision",
            got=f"{theta[0]:g} to {theta[-1]:g} for its central 99.9 %",
            hint="a wider prior, wider bounds, or a smaller scale",
        )


def _inside(theta: Array, lower: float, upper: float) -> Array:
    """Return `theta`, where it has rounded to a bound the nearest number inside."""
    return np.clip(theta, np.nextafter(lower, upper), np.nextafter(upper, lower))


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


def _expit(x: npt.ArrayLike) -> Array:
    return 0.5 * (1.0 + np.tanh(0.5 * np.asarray(x)))


def _between(low: npt.ArrayLike, high: npt.ArrayLike) -> Array:
    """Return the share of a standard normal between two points, without cancellation in either tail."""
    from scipy.special import ndtr

    low, high = np.asarray(low), np.asarray(high)
    return np.where(low > 0, ndtr(-low) - ndtr(-high), ndtr(high) - ndtr(low))


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
