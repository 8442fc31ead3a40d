"""The config as it is kept with its run, and the refusal of one that contradicts what is finished."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from fatescal.errors import BadInput
from fatescal.settings import Config, revived

# The stages that a key of the config decides, by the beginning of their names: all from the first of them on
# would come out differently. The longest matching key counts; an empty tuple decides nothing.
DECIDES: Mapping[str, tuple[str, ...]] = {
    "run.name": (),
    "run.directory": (),
    "run.seed": ("observations", "ensemble"),
    # Which sites there are; what each of them has is looked up without its name.
    "sites": ("truth", "observations", "evaluation"),
    "run.stop_after": (),
    "model": ("truth", "evaluation"),
    "model.timeout": (),
    "model.source.no_output_timeout": (),
    "model.keep": (),
    "parameters": ("truth", "ensemble"),
    "correlations": ("truth", "ensemble"),
    "observations": ("truth", "observations"),
    "observations.synthetic.noise": ("observations",),
    "observations.synthetic.seed": ("observations",),
    "calibrate": ("update",),
    "calibrate.members": ("ensemble",),
    "calibrate.design": ("ensemble",),
    "calibrate.iterations": ("update", "surrogate"),
    "calibrate.force": (),
    "emulate": ("surrogate",),
    "emulate.variance": ("warm-up",),
    "emulate.rounds": ("posterior", "scorecard"),
    "emulate.force": ("posterior", "scorecard"),
    "sample": ("warm-up",),
    "sample.max_steps": ("posterior",),
    "sample.rhat": ("posterior",),
    "sample.ess": ("posterior",),
    "posterior": ("posterior",),
}

# Their order is that of the columns of all arrays.
ORDERED = ("sites", "parameters", "observations.variables")


def freeze(chosen: Config, directory: Path, versions: Mapping[str, str], finished: Sequence[str]) -> None:
    """Write `RUN/config.yaml`: the config with its folder and the versions of what computes it.

    Raises
    ------
    BadInput
        If the run was begun with another config, and the difference decides a `finished` stage.
    """
    path = directory / "config.yaml"
    now = chosen.plain()
    if path.exists():
        _refuse_contradiction(_content(path)["config"], now, directory, finished)
    frozen = {"config": now, "folder": str(chosen.folder), "versions": dict(versions)}
    part = path.with_suffix(".part")
    part.write_text(
        "# Written by fatescal: the config of this run.\n" + yaml.safe_dump(frozen, sort_keys=False)
    )
    os.replace(part, path)


def thaw(directory: Path) -> tuple[Config, dict[str, str]]:
    """Return the settings a run was started with, and the versions it ran on."""
    content = _content(directory / "config.yaml")
    try:
        chosen = revived({**content["config"], "folder": content["folder"]})
    except ValidationError as error:
        raise BadInput(f"{directory / 'config.yaml'} is of another version of fatescal: {error}") from None
    return chosen, content["versions"]


def _content(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text())
        assert {"config", "folder", "versions"} <= set(content)
    except (OSError, yaml.YAMLError, AssertionError, TypeError) as error:
        raise BadInput(
            f"{path} cannot be read: {error or 'it is not the config of a run'}",
            hint="another run.directory; the stages of this one are kept",
        ) from None
    return content


def _refuse_contradiction(
    before: Mapping[str, Any], now: Mapping[str, Any], directory: Path, finished: Sequence[str]
) -> None:
    for key in changed(before, now):
        known = max((k for k in DECIDES if _bare(key) == k or _bare(key).startswith(f"{k}.")), key=len)
        stage = next((s for s in finished if s.startswith(DECIDES[known])), None) if DECIDES[known] else None
        if stage is not None:
            raise BadInput(
                f"{key} has changed since stage {stage} of {directory} was computed",
                expected=f"{_at(before, key)} as before",
                got=_at(now, key),
                hint=f"another run.directory, or: fatescal reset {directory} --from {stage}",
            )


def changed(before: Any, now: Any, where: str = "") -> list[str]:
    """Return the dotted keys in which two configs differ; in `ORDERED` ones the order counts.

    >>> changed({"a": {"b": 1, "c": 2}}, {"a": {"b": 1, "c": 3}, "d": 0})
    ['a.c', 'd']
    >>> changed({"parameters": {"a": 1, "b": 2}}, {"parameters": {"b": 2, "a": 1}})
    ['parameters']
    """
    if not (isinstance(before, Mapping) and isinstance(now, Mapping)):
        return [] if before == now else [where]
    keys = dict.fromkeys([*before, *now])
    moved = before == now and list(before) != list(now) and _bare(where) in ORDERED
    below = [k for key in keys for k in changed(before.get(key), now.get(key), f"{where}.{key}".lstrip("."))]
    return [where, *below] if moved else below


def _bare(key: str) -> str:
    """Return a dotted key as it would be in a config of one site."""
    return re.sub(r"^sites\.[^.]+\.", "", key)


def _at(config: Any, key: str) -> Any:
    for part in key.split("."):
        config = config.get(part) if isinstance(config, Mapping) else None
    return ", ".join(config) if _bare(key) in ORDERED and isinstance(config, Mapping) else config
