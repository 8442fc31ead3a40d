"""Sections `calibrate`, `emulate`, `sample` and `posterior`: the stages of a run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union

from pydantic import Discriminator, Field, Tag, create_model, model_validator

from fatescal.base.errors import BadInput
from fatescal.base.families import UNUSABLE
from fatescal.base.options import Count, Number, Positive, Section, Whole, key_descriptions
from fatescal.emulate.base import Emulator
from fatescal.emulate.output_emulator import OutputsEmulator
from fatescal.emulate.registry import EMULATORS
from fatescal.parameters.designs.independent import IndependentDraws
from fatescal.parameters.registry import AnyDesign
from fatescal.update.base import UpdateScheme
from fatescal.update.ienks import IEnKS
from fatescal.update.registry import schemes

DRAWS = 4000  # of the pooled chains, at most, that stand for the posterior
MOST_MEMBERS = 100_000  # beyond what any cluster runs: a mistyped number
DEFAULT_SCHEME, DEFAULT_EMULATOR = IEnKS.kind, OutputsEmulator.kind


class CalibrateSection(UpdateScheme):
    """What the section `calibrate` has whatever the update scheme; `members` counts the default run.

    The section of each scheme is this and the scheme's own class (`SECTIONS`), so that it is the scheme. With
    no iterations, a design of runs alone is made.
    """

    scheme: str
    """the update scheme"""
    members: Annotated[Whole, Field(ge=4, le=MOST_MEMBERS)]
    """size of the ensemble, with the default run"""
    design: AnyDesign = IndependentDraws()
    """where the first ensemble lies: prior, lhs, sobol, uniform, or a csv file of parameter values"""
    force: bool = False
    """go on although the prior check failed: data and prior ensemble contradict each other"""

    @model_validator(mode="before")
    @classmethod
    def _options_of_scheme(cls, raw: Any) -> Any:
        """Name the schemes that have an option which this one lacks; null leaves a key out."""
        return _with_options(cls, raw, SECTIONS, "scheme")

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
    return _made("Calibrate", "scheme", scheme, CalibrateSection, DEFAULT_SCHEME)


def scheme(raw: Any) -> str:
    """Return the name of the update scheme in a section `calibrate` as it is read.

    Raises
    ------
    BadInput
        If another package brings the scheme, and it cannot be used.
    """
    name = _chosen(raw, "scheme", CalibrateSection, DEFAULT_SCHEME)
    if name in UNUSABLE and name not in SECTIONS:
        raise BadInput(f"calibrate.scheme: unknown scheme {name!r}; {UNUSABLE[name]}")
    return name


class EmulateSection(Emulator):
    """What the section `emulate` has whatever the emulator.

    The section of each emulator is this and the emulator's own class (`EMULATE`), so that it is the emulator.
    """

    target: str
    """the emulator"""
    force: bool = False
    """Sample an emulator that failed its validation; the report says so."""
    rounds: Annotated[Whole, Field(ge=0)] = 3
    """More rounds at most, while the emulator or its posterior is not confirmed."""

    @model_validator(mode="before")
    @classmethod
    def _options_of_emulator(cls, raw: Any) -> Any:
        """Name the emulators that have an option which this one lacks; null leaves a key out."""
        return _with_options(cls, raw, EMULATE, "target")


def emulate_section(emulator: type[Emulator]) -> type[EmulateSection]:
    """Return the section `emulate` of an emulator: the common keys and the emulator's own."""
    return _made("Emulate", "target", emulator, EmulateSection, DEFAULT_EMULATOR)


def _chosen(raw: Any, key: str, section: type[Section], default: str) -> str:
    """Return the value of `key` in a section, raw or read already; the default where it is left out."""
    if isinstance(raw, section):
        return str(getattr(raw, key))
    name = raw.get(key) if isinstance(raw, dict) else None
    return default if name is None else str(name)


def _with_options(cls: type[Section], raw: Any, sections: Mapping[str, type[Section]], key: str) -> Any:
    """Return `raw` without its nulls, or name whose option it has that this section lacks."""
    if not isinstance(raw, dict):
        return raw
    given = {name: value for name, value in raw.items() if value is not None}
    for name in (name for name in given if name not in cls.model_fields):
        owners = [kind for kind, made in sections.items() if name in made.model_fields]
        if owners:
            this = next(kind for kind, made in sections.items() if made is cls)
            raise ValueError(f"`{name}` is an option of {key} {' and '.join(owners)}, not of {this}")
    return given


def _made(prefix: str, key: str, own: Any, common: Any, usual: str) -> Any:
    """Return the section of one scheme or emulator, with `key` its name: the common keys and its own."""
    summary = (own.__doc__ or own.kind).strip().splitlines()[0].rstrip(".")
    default: Any = own.kind if own.kind == usual else ...
    named: Any = Literal[own.kind]
    words = key_descriptions(common)[key]
    field: Any = (named, Field(default, description=f"{words}: {summary}"))
    return create_model(
        f"{prefix}_{own.kind}",
        __base__=(own, common),
        __doc__=own.__doc__,
        __module__=__name__,
        **{key: field},
    )


SECTIONS = {kind: section(scheme) for kind, scheme in schemes().items()}
EMULATE = {kind: emulate_section(emulator) for kind, emulator in EMULATORS.items()}
# where the other ranks look for them
globals().update({made.__name__: made for made in (*SECTIONS.values(), *EMULATE.values())})


def emulator(raw: Any) -> str:
    """Return the name of the emulator in a section `emulate` as it is read.

    Raises
    ------
    BadInput
        If another package brings the emulator, and it cannot be used.
    """
    name = _chosen(raw, "target", EmulateSection, DEFAULT_EMULATOR)
    if name not in EMULATORS and name in UNUSABLE:
        raise BadInput(f"emulate.target: {name}: {UNUSABLE[name]}")
    return name


if TYPE_CHECKING:
    AnyCalibrate = CalibrateSection
else:
    AnyCalibrate = Annotated[
        Union[tuple(Annotated[made, Tag(kind)] for kind, made in SECTIONS.items())],  # noqa: UP007
        Discriminator(scheme),
    ]

if TYPE_CHECKING:
    AnyEmulate = EmulateSection
else:
    AnyEmulate = Annotated[
        Union[tuple(Annotated[made, Tag(kind)] for kind, made in EMULATE.items())],  # noqa: UP007
        Discriminator(emulator),
    ]


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
