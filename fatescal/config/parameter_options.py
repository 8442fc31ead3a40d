"""Section `parameters`: what is calibrated, and the priors."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from fatescal.base.options import Finite, Number, Positive, Section, Whole


class Relative(Section):
    """Bounds as a share of the default value: default * (1 - relative), default * (1 + relative)."""

    relative: Annotated[Number, Field(gt=0, lt=1)]


Bounds = Annotated[tuple[Finite, Finite], Field(description="lower and upper")] | Relative


class _ByMoments(Section):
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


class LogitNormal(_ByMoments):
    """Bounded; the logit of the scaled parameter is normal with sd `scale`."""

    kind: Literal["logit-normal"]
    median: Literal["default", "centre"] | Finite = "default"
    scale: Positive | None = None
    mean: Literal["default"] | Finite | None = None
    sd: Positive | None = None
    bounds: Bounds


class Normal(Section):
    kind: Literal["normal"]
    mean: Literal["default"] | Finite = "default"
    sd: Positive


class TruncatedNormal(Section):
    """A normal with mean `location` and sd `scale`, cut at bounds; one of them may be null."""

    kind: Literal["truncated-normal"]
    location: Literal["default"] | Finite = "default"
    scale: Positive
    bounds: Annotated[tuple[Finite | None, Finite | None], Field(description="lower and upper")] | Relative


class LogNormal(_ByMoments):
    """Positive; the logarithm is normal with sd `scale`."""

    kind: Literal["log-normal"]
    median: Literal["default"] | Positive = "default"
    scale: Positive | None = None
    mean: Literal["default"] | Positive | None = None
    sd: Positive | None = None


class Uniform(Section):
    kind: Literal["uniform"]
    bounds: Bounds


Prior = Annotated[LogitNormal | Normal | TruncatedNormal | LogNormal | Uniform, Field(discriminator="kind")]


class Parameter(Section):
    """A parameter of the model: calibrated if it has a `prior`; with `pfts` one value for each of them.

    `scales` makes it the common factor of others; `auxiliary` one that expressions use and the model does not
    get.
    """

    prior: Prior | None = None
    fixed: Finite | dict[str | Whole, Finite] | None = None
    same_as: str | None = None
    derived: str | None = None
    scales: Annotated[list[str] | dict[str, Finite], Field(min_length=1)] | None = None
    auxiliary: bool | None = None
    pfts: Annotated[list[str | Whole], Field(min_length=1)] | None = None
    default: Finite | dict[str | Whole, Finite] | None = None

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        kinds = ("prior", "fixed", "same_as", "derived")
        given = [kind for kind in kinds if getattr(self, kind) is not None]
        if len(given) != 1:
            raise ValueError(
                "give one of `prior` (it is calibrated), `fixed`, `same_as` and `derived`"
                + (f", not {' and '.join(given)}" if given else "")
            )
        extra = [k for k in ("scales", "default") if getattr(self, k) is not None]
        if self.prior is None and extra:
            raise ValueError(f"`{extra[0]}` goes with a `prior`, not with `{given[0]}`")
        if self.scales is not None and (self.pfts or self.auxiliary):
            raise ValueError("a factor that `scales` others is one number, without `pfts` and `auxiliary`")
        if isinstance(self.fixed, dict) and self.pfts:
            raise ValueError("`fixed` names the PFTs already: leave out `pfts`")
        return self

    @field_validator("prior")
    @classmethod
    def _bounds_in_order(cls, prior: Prior | None) -> Prior | None:
        bounds = getattr(prior, "bounds", None)
        if isinstance(bounds, tuple) and None not in bounds and not bounds[0] < bounds[1]:
            raise ValueError(f"bounds are reversed or empty: lower {bounds[0]:g}, upper {bounds[1]:g}")
        return prior


Correlation = Annotated[Number, Field(gt=-1, lt=1)]
Correlations = dict[str, dict[str, Correlation]]  # of two calibrated parameters, by their flat names
