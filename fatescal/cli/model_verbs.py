"""The verbs that models bring, as `install` and `build`."""

from __future__ import annotations

from pathlib import Path

from fatescal import config as settings
from fatescal.base.errors import BadInput
from fatescal.cli.run_folder import load_config
from fatescal.models import registry
from fatescal.models.base import Verb
from fatescal.workflow import site_models


def of_models(
    name: str,
    path: Path,
    machine: str | None = None,
    changes: settings.Changes | None = None,
    **flags: bool,
) -> int:
    """Do what a verb that a model brings does, for the config's sites; return the exit code."""
    config = load_config(path, None, machine, changes)
    verbs = {site.model.kind: _verb(site, name) for site in config.by_site.values()}
    for kind, verb in verbs.items():
        sites = [site for site in config.by_site.values() if site.model.kind == kind]
        verb.action([(site.model, site_models.context(site)) for site in sites], _print_now, **flags)
    return 0


def _verb(site: settings.OneSite, name: str) -> Verb:
    """Return the verb of that name of a site's model."""
    verb = next((verb for verb in site.model.verbs if verb.name == name), None)
    if verb is None:
        kinds = [kind for kind, c in registry.described().items() if name in {v.name for v in c.verbs}]
        raise BadInput(
            f"model.kind is {site.model.kind}", expected=f"{' or '.join(kinds)}: no other can {name}"
        )
    return verb


def _print_now(line: str) -> None:
    print(line, flush=True)
