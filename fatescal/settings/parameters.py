"""Section `parameters`: what is calibrated, and the priors."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator

from fatescal.settings.base import Finite, Positive, Section


class Relative(Section):
    """Bounds as a share of the default value: default * (1 - relative), default * (1 + relative)."""

    relative: Annotated[float, Field(gt=0, lt=1)]


Bounds = Annotated[tuple[Finite, Finite], Field(description="lower and upper")] | Relative


class LogitNormal(Section):
    """Bounded; the logit of the scaled parameter is normal with sd `scale`."""

    kind: Literal["logit-normal"]
    median: Literal["default", "centre"] | Finite = "default"
    scale: Positive
    bounds: Bounds


class Normal(Section):
    kind: Literal["normal"]
    mean: Literal["default"] | Finite = "default"
    sd: Positive


class LogNormal(Section):
    """Positive; the logarithm is normal with sd `scale`."""

    kind: Literal["log-normal"]
    median: Literal["default"] | Positive = "default"
    scale: Positive


class Uniform(Section):
    kind: Literal["uniform"]
    bounds: Bounds


Prior = Annotated[LogitNormal | Normal | LogNormal | Uniform, Field(discriminator="kind")]


class Parameter(Section):
    """A calibrated parameter; with `pfts` one value for each of them."""

    prior: Prior
    pfts: Annotated[list[str | int], Field(min_length=1)] | None = None
    default: Finite | dict[str | int, Finite] | None = None

    @field_validator("prior")
    @classmethod
    def _bounds_in_order(cls, prior: Prior) -> Prior:
        bounds = getattr(prior, "bounds", None)
        if isinstance(bounds, tuple) and not bounds[0] < bounds[1]:
            raise ValueError(f"bounds are reversed or empty: lower {bounds[0]:g}, upper {bounds[1]:g}")
        return prior
