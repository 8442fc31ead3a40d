"""The model of each site, as the config describes it: located, made, checked, and how its members are
launched.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from fatescal import config
from fatescal.base.errors import BadInput
from fatescal.config import Config, OneSite
from fatescal.ensemble import preparation
from fatescal.hpc.launch import HIDDEN_PREFIXES, never
from fatescal.models.base import Context, Model, ModelOptions, require_launcher
from fatescal.parameters.space import ParameterSpace
from fatescal.storage.inputs import Source, Sources
from fatescal.workflow.preflight import Launching

C = TypeVar("C", bound=Config)


@contextmanager
def at_site(place: OneSite) -> Iterator[None]:
    """Put the name of the site, where it is one of several, before what is wrong there."""
    try:
        yield
    except BadInput as error:
        if not place.site:
            raise
        raise BadInput(f"sites.{place.site}: {error}") from None


def located(chosen: C) -> C:
    """Return the config with what each model looks up once."""
    return chosen.with_models({site: _located(place) for site, place in chosen.by_site.items()})


def _located(place: OneSite) -> ModelOptions:
    with at_site(place):
        return place.model.located(context(place))


def context(place: OneSite, stop: Callable[[], bool] = never) -> Context:
    """Return what a site's model gets; `stop` is for models that wait for another process."""
    machine = place.machine
    return Context(
        folder=place.folder,
        run=place.run.directory.absolute(),
        preparation=preparation.folder(members_folder(place), place.site),
        variables=tuple(variable.model for variable in place.observations.variables.values()),
        timeout=machine.timeout,
        launcher=machine.launcher,
        hide=HIDDEN_PREFIXES if machine.hide is None else machine.hide,
        retries=machine.retries,
        stop=stop,
        machine=machine.of_models,
    )


def members_folder(chosen: Config) -> Path:
    """Return `RUN/members`."""
    return chosen.run.directory.absolute() / "members"


def fallback(place: OneSite) -> OneSite | None:
    """Return a site's config with the model's fallback as its model, located."""
    other = place.model.alternative
    return None if other is None else located(place.model_copy(update={"model": other}))


def model(place: OneSite, stop: Callable[[], bool]) -> Model:
    """Return the model of a site whose options are located; `stop` as in `context`."""
    return place.model.make(context(place, stop))


def files(place: OneSite, forward: Model) -> Sources:
    """Return the files from outside that a site's model reads, by the key of the config that names them.

    Of a model from another package that does not say: those that its options name, and its own source.
    """
    sources = place.model.sources(forward)
    if sources is not None:
        return dict(sources)
    own = {} if forward.source is None else {"model.kind": [forward.source]}
    return {**_named_by(place), **own}


def _named_by(place: OneSite) -> dict[str, list[Source]]:
    """Return the files that the options of a model name, at any depth."""
    files: dict[str, list[Source]] = {}

    def look(value: object, key: str) -> None:
        if isinstance(value, Mapping):
            for name, below in value.items():
                look(below, f"{key}.{name}")
        elif isinstance(value, list | tuple):
            for below in value:
                look(below, key)
        elif isinstance(value, str | Path) and value and (path := place.path(str(value))).exists():
            files.setdefault(key, []).append(path)

    look(place.model.model_dump(exclude={"kind", "fallback"}), "model")
    return files


def launching(machine: config.Machine) -> Launching:
    """Return how members are launched on a machine.

    Raises
    ------
    BadInput
        If its launcher is not found.
    """
    require_launcher(machine.launcher)
    return Launching(machine.launcher, HIDDEN_PREFIXES if machine.hide is None else machine.hide)


def check_values(forward: Model, space: ParameterSpace) -> None:
    """Let the model see its default and both ends of the priors, at three standard deviations."""
    for theta in (space.theta_default, *space.ends()):
        forward.check_values(space.named(theta))


def check_fallback(other: Model, forward: Model, space: ParameterSpace) -> None:
    """Raise `BadInput` for a fallback that cannot run, or is another model than the one it stands in for."""
    for key in ("calendar", "pfts"):
        if getattr(other, key) != getattr(forward, key):
            raise BadInput(
                f"model.fallback: its {key} differ from those of the model",
                expected=getattr(forward, key),
                got=getattr(other, key),
            )
    try:
        other.check()
        check_values(other, space)
    except BadInput as error:
        raise BadInput(f"model.fallback: {error}") from None
