"""Sections `calibrate`, `emulate`, `sample` and `posterior`: the stages of a run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal, Union

from pydantic import Discriminator, Field, Tag, create_model, model_validator

from fatescal.base.errors import BadInput
from fatescal.base.families import UNUSABLE
from fatescal.base.options import Count, Number, Positive, Section, Whole
from fatescal.parameters.designs.independent import IndependentDraws
from fatescal.parameters.registry import AnyDesign
from fatescal.update.base import UpdateScheme
from fatescal.update.ienks import IEnKS
from fatescal.update.registry import schemes

DRAWS = 4000  # of the pooled chains, at most, that stand for the posterior
DEFAULT_SCHEME = IEnKS.kind


class CalibrateSection(UpdateScheme):
    """What the section `calibrate` has whatever the update scheme; `members` counts the default run.

    The section of each scheme is this and the scheme's own class (`SECTIONS`), so that it is the scheme. With
    no iterations, a design of runs alone is made.
    """

    scheme: str
    """the update scheme"""
    members: Annotated[Whole, Field(ge=4)]
    """size of the ensemble, with the default run"""
    design: AnyDesign = IndependentDraws()
    """where the first ensemble lies: prior, lhs, sobol, uniform, or a csv file of parameter values"""
    force: bool = False
    """go on although the prior check failed: data and prior ensemble contradict each other"""

    @model_validator(mode="before")
    @classmethod
    def _options_of_scheme(cls, raw: Any) -> Any:
        """Name the schemes that have an option which this one lacks; null leaves a key out."""
        if not isinstance(raw, dict):
            return raw
        options = {key: value for key, value in raw.items() if value is not None}
        for key in (key for key in options if key not in cls.model_fields):
            owners = [kind for kind, section in SECTIONS.items() if key in section.model_fields]
            if owners:
                raise ValueError(f"`{key}` is an option of scheme {' and '.join(owners)}, not of {cls.kind}")
        return options

    @model_validator(mode="after")
    def _updates_of_draws(self) -> CalibrateSection:
        if self.planned_updates > 0 and not self.design.of_prior:
            raise ValueError(
                f"design {self.design.written} goes with `iterations: 0` alone: a Kalman update takes the "
                "first ensemble for draws of the prior, and would count what the design happens to be as "
                "prior knowledge"
            )
        return self


def section(scheme: type[UpdateScheme]) -> type[CalibrateSection]:
    """Return the section `calibrate` of an update scheme: the common keys and the scheme's own."""
    summary = (scheme.__doc__ or scheme.kind).strip().splitlines()[0].rstrip(".")
    default: Any = scheme.kind if scheme.kind == DEFAULT_SCHEME else ...
    bases: Any = (scheme, CalibrateSection)
    named: Any = Literal[scheme.kind]
    made: type[CalibrateSection] = create_model(
        f"Calibrate_{scheme.kind}",
        __base__=bases,
        __doc__=scheme.__doc__,
        __module__=__name__,
        scheme=(named, Field(default, description=f"the update scheme: {summary}")),
    )
    return made


SECTIONS = {kind: section(scheme) for kind, scheme in schemes().items()}
globals().update({made.__name__: made for made in SECTIONS.values()})  # where the other ranks look for them


def scheme(raw: Any) -> str:
    """Return the name of the update scheme in a section `calibrate` as it is read.

    Raises
    ------
    BadInput
        If another package brings the scheme, and it cannot be used.
    """
    if isinstance(raw, CalibrateSection):
        return raw.scheme
    name = raw.get("scheme") if isinstance(raw, dict) else None
    name = DEFAULT_SCHEME if name is None else str(name)
    if name in UNUSABLE and name not in SECTIONS:
        raise BadInput(f"calibrate.scheme: unknown scheme {name!r}; {UNUSABLE[name]}")
    return name


if TYPE_CHECKING:
    AnyCalibrate = CalibrateSection
else:
    AnyCalibrate = Annotated[
        Union[tuple(Annotated[made, Tag(kind)] for kind, made in SECTIONS.items())],  # noqa: UP007
        Discriminator(scheme),
    ]


class EmulateSection(Section):
    target: Literal["outputs", "misfit"] = "outputs"
    """What is emulated: latent outputs, or the misfit."""
    variance: Literal["auto", "plug-in", "expected", "marginal"] | None = None
    """What the emulator's own error does to the likelihood; of `outputs` alone."""
    force: bool = False
    """Sample an emulator that failed its validation; the report says so."""
    rounds: Annotated[Whole, Field(ge=0)] = 3
    """More rounds at most, while the emulator or its posterior is not confirmed."""

    @model_validator(mode="after")
    def _variance_of_outputs(self) -> EmulateSection:
        if self.variance is not None and self.target != "outputs":
            raise ValueError("`variance` is for `target: outputs`: the emulated misfit is taken at its word")
        return self


class SampleSection(Section):
    """Parallel tempering: `runs` independent tempered runs, spread over the ranks."""

    runs: Annotated[Whole, Field(ge=4)] = 4
    """Independent tempered runs."""
    levels: Annotated[Whole, Field(ge=2)] | Literal["auto"] = "auto"
    """Temperatures of each run."""
    walkers: Count = 4
    """Walkers of each temperature."""
    max_steps: Annotated[Whole, Field(ge=100)] = 20000
    """Most steps that are kept."""
    rhat: Annotated[Number, Field(gt=1)] = 1.01
    """Largest R-hat that counts as converged."""
    ess: Positive = 400
    """Least effective sample size that counts as converged."""


class PosteriorSection(Section):
    """The ensemble of posterior draws that is run again; `members` counts the default run."""

    members: Annotated[Whole, Field(ge=2, le=DRAWS + 1)]
    """Size of the ensemble, with the default run."""
