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
from fatescal.hpc.launch import HIDDEN_PREFIXES, never, require_launcher
from fatescal.models.base import Context, Model, ModelOptions
from fatescal.parameters.space import ParameterSpace
from fatescal.storage.inputs import Source, Sources
from fatescal.workflow.preflight import Launching

C = TypeVar("C", bound=Config)


@contextmanager
def at_site(site_config: OneSite) -> Iterator[None]:
    """Put the name of the site, where it is one of several, before what is wrong there."""
    try:
        yield
    except BadInput as error:
        if not site_config.site:
            raise
        raise BadInput(f"sites.{site_config.site}: {error}") from None


def located(chosen: C) -> C:
    """Return the config with what each model looks up once."""
    return chosen.with_models({site: _located(site_config) for site, site_config in chosen.by_site.items()})


def _located(site_config: OneSite) -> ModelOptions:
    with at_site(site_config):
        return site_config.model.located(context(site_config))


def context(site_config: OneSite, stop: Callable[[], bool] = never) -> Context:
    """Return what a site's model gets; `stop` is for models that wait for another process."""
    machine = site_config.machine
    return Context(
        folder=site_config.folder,
        run=site_config.run.directory.absolute(),
        preparation=preparation.folder(members_folder(site_config), site_config.site),
        variables=tuple(variable.model for variable in site_config.observations.variables.values()),
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


def fallback(site_config: OneSite) -> OneSite | None:
    """Return a site's config with the model's fallback as its model, located."""
    other = site_config.model.alternative
    return None if other is None else located(site_config.model_copy(update={"model": other}))


def model(site_config: OneSite, stop: Callable[[], bool]) -> Model:
    """Return the model of a site whose options are located; `stop` as in `context`."""
    return site_config.model.make(context(site_config, stop))


def files(site_config: OneSite, forward: Model) -> Sources:
    """Return the files from outside that a site's model reads, by the key of the config that names them.

    Of a model from another package that does not say: those that its options name, and its own source.
    """
    sources = site_config.model.sources(forward)
    if sources is not None:
        return dict(sources)
    own = {} if forward.source is None else {"model.kind": [forward.source]}
    return {**_named_by(site_config), **own}


def _named_by(site_config: OneSite) -> dict[str, list[Source]]:
    """Return the files that the options of a model name, at any depth."""
    files: dict[str, list[Source]] = {}

    def look(value: object, key: str) -> None:
        if isinstance(value, Mapping):
            for name, below in value.items():
                look(below, f"{key}.{name}")
        elif isinstance(value, list | tuple):
            for below in value:
                look(below, key)
        elif isinstance(value, str | Path) and value and (path := site_config.path(str(value))).exists():
            files.setdefault(key, []).append(path)

    look(site_config.model.model_dump(exclude={"kind", "fallback"}), "model")
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
