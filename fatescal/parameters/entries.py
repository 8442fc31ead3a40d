"""Section `parameters`: what is calibrated, and the priors."""

from __future__ import annotations

from typing import Annotated, Self

from fatescal.base.options import Field, Finite, Number, Section, Whole, model_validator
from fatescal.parameters.derived import RULES
from fatescal.parameters.registry import AnyPrior


class ParameterEntry(Section):
    """A parameter of the model: calibrated if it has a `prior`; with `pfts` one value for each of them.

    `scales` makes it the common factor of others; `auxiliary` one that expressions use and the model does not
    get.
    """

    prior: AnyPrior | None = None
    """its distribution before the data; it is calibrated"""
    fixed: Finite | dict[str | Whole, Finite] | None = None
    """a number, in the parameter's unit, or one for each plant functional type"""
    same_as: str | None = None
    """the parameter whose value it has, by its flat name: PARAMETER or PARAMETER_PFT"""
    derived: str | None = None
    """an arithmetic expression of other parameters: numbers, names, + - * / ** and
    abs exp log log10 max min sqrt"""
    scales: Annotated[list[str] | dict[str, Finite], Field(min_length=1)] | None = None
    """the parameters that it is a factor of: of the model's defaults, or of the numbers in a mapping"""
    auxiliary: bool | None = None
    """whether it serves expressions alone and is not given to the model"""
    pfts: Annotated[list[str | Whole], Field(min_length=1)] | None = None
    """the plant functional types that have a value of their own, by name, or by number from 1 where the model
    numbers them"""
    default: Finite | dict[str | Whole, Finite] | None = None
    """its value in the default run, where that is not the model's own"""
    label: str | dict[str | Whole, str] | None = None
    """what tables and figures call it, or one for each plant functional type; its unit follows"""

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        kinds = ("prior", *RULES)
        chosen = [kind for kind in kinds if getattr(self, kind) is not None]
        if len(chosen) != 1:
            raise ValueError(
                "give one of `prior` (it is calibrated), `fixed`, `same_as` and `derived`"
                + (f", not {' and '.join(chosen)}" if chosen else "")
            )
        extra = [k for k in ("scales", "default") if getattr(self, k) is not None]
        if self.prior is None and extra:
            raise ValueError(f"`{extra[0]}` goes with a `prior`, not with `{chosen[0]}`")
        if self.scales is not None and (self.pfts or self.auxiliary):
            raise ValueError("a factor that `scales` others is one number, without `pfts` and `auxiliary`")
        if isinstance(self.fixed, dict) and self.pfts:
            raise ValueError("`fixed` names the PFTs already: leave out `pfts`")
        return self


Correlation = Annotated[Number, Field(gt=-1, lt=1)]
Correlations = dict[str, dict[str, Correlation]]  # of two calibrated parameters, by their flat names
