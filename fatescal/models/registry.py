"""The kinds of models by name. A new one is a file and a line here, or an entry point of another package."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from importlib.metadata import EntryPoint
from typing import Any, get_args

from pydantic import ConfigDict

from fatescal.base.errors import BadInput, did_you_mean
from fatescal.base.families import announced
from fatescal.base.options import Section
from fatescal.models.base import Context, Model, ModelOptions, Verb
from fatescal.models.canopy.canopy_options import CanopyOptions
from fatescal.models.clm_fates.clm_options import ClmFatesOptions
from fatescal.models.command import CommandOptions
from fatescal.models.external import Adapted
from fatescal.models.pyrealm import PyrealmOptions


def kind_of(options: type[ModelOptions]) -> str:
    """Return the name by which a config chooses a model, which it must give: the field has no default."""
    (kind,) = get_args(options.model_fields["kind"].annotation)  # a Literal of one
    return str(kind)


MODELS: Mapping[str, type[ModelOptions]] = {
    kind_of(c): c for c in (CanopyOptions, CommandOptions, PyrealmOptions, ClmFatesOptions)
}
ENTRY_POINTS = ("fatescal.models", "fatescal.forward_models")  # the second is the older name


class ExternalOptions(ModelOptions):
    """Options of a model that declares none: whatever the config gives.

    They are those of a function of the options and the config's folder, in a package written before there was
    `ModelOptions`, and of a kind that no package here brings: a run's folder is read also where its model
    is not.
    """

    model_config = ConfigDict(extra="allow", frozen=True)

    def make(self, context: Context) -> Model:
        """Return the model.

        Raises
        ------
        BadInput
            If no package brings this kind, or it cannot be imported.
        """
        point = _elsewhere().get(self.kind)
        if point is None:
            raise BadInput(
                f"model.kind {self.kind} is unknown",
                expected=f"one of {', '.join(known())}",
                hint=did_you_mean(self.kind, known()) or "install the package that brings it",
            )
        made = _loaded(point)(self.model_dump(exclude={"kind", "fallback"}), context.folder)
        return made if isinstance(made, Model) else Adapted(made)


def _elsewhere() -> dict[str, EntryPoint]:
    """Return the entry points of other packages, by kind; the models here go before."""
    points = {point.name: point for group in reversed(ENTRY_POINTS) for point in announced(group)}
    return {kind: point for kind, point in points.items() if kind not in MODELS}


def _loaded(point: EntryPoint) -> Any:
    """Return what an entry point names; `BadInput` where it cannot be imported."""
    try:
        return point.load()
    except Exception as error:  # whatever a package of others raises as it is imported
        raise BadInput(
            f"model.kind {point.name}: {point.value} cannot be imported ({type(error).__name__}: {error})",
            hint="mend the package that brings it, or install it again",
        ) from error


def options_of(kind: str) -> type[ModelOptions]:
    """Return the options of a kind of model; those of an unknown kind are kept as they are."""
    if kind in MODELS:
        return MODELS[kind]
    point = _elsewhere().get(kind)
    loaded = None if point is None else _loaded(point)
    return loaded if isinstance(loaded, type) and issubclass(loaded, ModelOptions) else ExternalOptions


def known() -> list[str]:
    """Return the names of all kinds."""
    return [*MODELS, *_elsewhere()]


def described() -> dict[str, type[ModelOptions]]:
    """Return the options of all kinds that declare them, but those of packages that cannot be imported."""
    every = dict(MODELS)
    for kind in _elsewhere():
        with suppress(BadInput):
            every[kind] = options_of(kind)
    return {kind: c for kind, c in every.items() if c is not ExternalOptions}


def machine_sections() -> dict[str, type[Section]]:
    """Return the sections of the machine file that the models here declare."""
    return {name: section for c in MODELS.values() for name, section in c.machine_sections.items()}


def verbs(*, of_others: bool = False) -> dict[str, Verb]:
    """Return the verbs of the command line that models bring, those of other packages' models too."""
    every = {**MODELS, **(described() if of_others else {})}
    return {verb.name: verb for c in every.values() for verb in c.verbs}
