"""What all priors of one parameter are: monotone maps theta = T(z) of a standard normal coordinate.

Bounds are open: where T(z) rounds to a bound, theta is the nearest number inside, so that z stays finite; z
comes back as exactly as theta is representable. Beyond `TAIL` the distance from the nearer bound is computed,
not that from the other one, which would leave nothing but rounding errors of it; within, the plain formulas
are as exact.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal, Self

import numpy as np
import numpy.typing as npt

from fatescal.base.errors import BadInput
from fatescal.base.families import Choice
from fatescal.base.options import Field, Finite, Number, Section, field_validator, model_validator
from fatescal.base.types import Array

CENTRAL = 3.2905267314918945  # half width, in standard deviations, of a normal's central 99.9 %
TAIL = 4.0  # coordinate beyond which a value is computed from the nearer bound


class Relative(Section):
    """Bounds as a share of the default value: default * (1 - relative), default * (1 + relative)."""

    relative: Annotated[Number, Field(gt=0, lt=1)]
    """half the width between the bounds, as a share of the default"""


Bounds = Annotated[tuple[Finite, Finite], Field(description="lower and upper")] | Relative


class Prior(Choice):
    """One parameter's prior.

    Its fields are as the config has them, where a number may be `default` and bounds relative to it;
    `resolved` returns the same prior in numbers, and that one has a distribution.

    A subclass has at least `theta` and `u`, inverse to each other, strictly increasing, for arrays of any
    shape. Where its formulas do not keep to the bounds by themselves, `inside` does.
    """

    def theta(self, u: npt.ArrayLike) -> Array:
        """Return the parameter, in its unit, at standard normal coordinates `u`, elementwise."""
        raise NotImplementedError

    def u(self, theta: npt.ArrayLike) -> Array:
        """Return the coordinates of `theta`, the inverse of `theta`."""
        raise NotImplementedError

    @property
    def support(self) -> tuple[float, float]:
        """The ends of what is possible, infinite where there is none."""
        bounds = getattr(self, "bounds", (None, None))
        assert not isinstance(bounds, Relative), "the support of a prior that is not resolved"
        lower, upper = bounds
        return -np.inf if lower is None else lower, np.inf if upper is None else upper

    def resolved(self, default: float | None) -> Self:
        """Return the prior with numbers instead of `default` and of relative bounds.

        Parameters
        ----------
        default : float or None
            The parameter's value in the default run; None: nobody knows it.

        Raises
        ------
        BadInput
            If the prior refers to a default that nobody knows, or there is no distribution of such numbers.
        """
        values = {name: getattr(self, name) for name in type(self).model_fields}
        numbers: dict[str, Any] = {
            name: in_numbers(value, default) for name, value in values.items() if value == "default"
        }
        if isinstance(values.get("bounds"), Relative):
            numbers["bounds"] = self._bounds(default)
        return self.model_copy(update=numbers)

    def quantiles(self, shares: Sequence[float]) -> Array:
        """Return the quantiles of a resolved prior.

        >>> from fatescal.parameters.priors import Uniform
        >>> Uniform(bounds=(1.0, 3.0)).quantiles((0.25, 0.5)).tolist()
        [1.5, 2.0]
        """
        from scipy.special import ndtri

        return self.theta(ndtri(np.asarray(shares)))

    @property
    def numbers(self) -> dict[str, float]:
        """What a resolved prior is made of, by name; bounds as `lower` and `upper`."""
        values = {name: getattr(self, name) for name in type(self).model_fields if name != "bounds"}
        ends = zip(("lower", "upper"), self.support, strict=True)
        own = {name: value for name, value in values.items() if isinstance(value, int | float)}
        return own | (dict(ends) if "bounds" in type(self).model_fields else {})

    @property
    def description(self) -> str:
        """A resolved prior as a phrase.

        >>> from fatescal.parameters.priors import Normal
        >>> Normal(mean=5.0, sd=1.0).description
        'normal, mean 5, sd 1'
        """
        return ", ".join([self.kind, *(f"{name} {value:.5g}" for name, value in self.numbers.items())])

    def _bounds(self, default: float | None) -> tuple[float, float]:
        """Return the bounds in numbers, infinite where there is none."""
        bounds = getattr(self, "bounds", None)
        if not isinstance(bounds, Relative):
            return self.support
        centre = in_numbers("default", default)
        reach = bounds.relative * abs(centre)
        if reach == 0:
            raise BadInput("relative bounds around a default of 0 are empty")
        return centre - reach, centre + reach

    @field_validator("bounds", check_fields=False)
    @classmethod
    def _bounds_in_order(cls, bounds: Any) -> Any:
        if isinstance(bounds, tuple) and None not in bounds and not bounds[0] < bounds[1]:
            raise ValueError(f"bounds are reversed or empty: lower {bounds[0]:g}, upper {bounds[1]:g}")
        return bounds


class ByMoments(Prior):
    """A prior given by `median` and `scale`, or by its physical `mean` and `sd`."""

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        by = {name: getattr(self, name) for name in ("median", "scale", "mean", "sd")}
        if (by["scale"] is None) == (by["sd"] is None):
            raise ValueError(
                "give either `scale` (with `median`), or `mean` and `sd` in the parameter's unit"
            )
        if (by["mean"] is None) != (by["sd"] is None) or (
            by["mean"] is not None and by["median"] != "default"
        ):
            raise ValueError("`mean` and `sd` belong together, `median` and `scale` likewise")
        return self


def in_numbers(value: Literal["default"] | float, default: float | None) -> float:
    """Return a value of a config that may be the default.

    Raises
    ------
    BadInput
        If it is, and nobody knows the default.
    """
    if not isinstance(value, str):
        return value
    if default is None:
        raise BadInput(
            "the prior refers to the default, and the model knows none", hint="give `default:` or a number"
        )
    return float(default)


def number(value: object) -> float:
    """Return a value of a prior that is resolved, and so a number."""
    assert isinstance(value, float), f"a prior is used before it is resolved: {value!r}"
    return value


def require_distinct_values(prior: Prior) -> None:
    """Refuse a prior whose central 99.9 % has no distinct values in double precision.

    Raises
    ------
    BadInput
        If coordinates do not come back from their values: bounds too near together, an sd too small for the
        mean, a scale so wide that all but the middle lies at the bounds.

    >>> from fatescal.parameters.priors import Normal
    >>> require_distinct_values(Normal(mean=1e20, sd=1.0))  # doctest: +ELLIPSIS
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


def inside(theta: Array, lower: float, upper: float) -> Array:
    """Return `theta`, where it has rounded to a bound the nearest number inside."""
    return np.clip(theta, np.nextafter(lower, upper), np.nextafter(upper, lower))
