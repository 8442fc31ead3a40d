"""The config as it is kept with its run, and the refusal of one that contradicts what is finished."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from fatescal.errors import BadInput
from fatescal.settings import Settings

# The stages that a key of the config decides, by the beginning of their names: all from the first of them on
# would come out differently. The longest matching key counts; an empty tuple decides nothing.
DECIDES: Mapping[str, tuple[str, ...]] = {
    "run.name": (),
    "run.directory": (),
    "run.seed": ("observations", "ensemble"),
    "model": ("truth", "evaluation"),
    "model.timeout": (),
    "model.keep": (),
    "parameters": ("truth", "ensemble"),
    "correlations": ("truth", "ensemble"),
    "observations": ("truth", "observations"),
    "calibrate": ("update",),
    "calibrate.members": ("ensemble",),
    "calibrate.design": ("ensemble",),
    "emulate": ("surrogate",),
    "emulate.rounds": ("posterior", "scorecard"),
    "emulate.force": ("posterior", "scorecard"),
    "sample": ("warm-up",),
    "sample.max_steps": ("posterior",),
    "sample.rhat": ("posterior",),
    "sample.ess": ("posterior",),
    "posterior": ("posterior",),
}


def freeze(chosen: Settings, directory: Path, versions: Mapping[str, str], finished: Sequence[str]) -> None:
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


def thaw(directory: Path) -> tuple[Settings, dict[str, str]]:
    """Return the settings a run was started with, and the versions it ran on."""
    content = _content(directory / "config.yaml")
    try:
        chosen = Settings.model_validate({**content["config"], "folder": content["folder"]})
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
        known = max((k for k in DECIDES if key == k or key.startswith(f"{k}.")), key=len)
        stage = next((s for s in finished if s.startswith(DECIDES[known])), None) if DECIDES[known] else None
        if stage is not None:
            raise BadInput(
                f"{key} has changed since stage {stage} of {directory} was computed",
                expected=f"{_at(before, key)} as before",
                got=_at(now, key),
                hint=f"another run.directory, or: fatescal reset {directory} --from {stage}",
            )


def changed(before: Any, now: Any, where: str = "") -> list[str]:
    """Return the dotted keys in which two configs differ.

    >>> changed({"a": {"b": 1, "c": 2}}, {"a": {"b": 1, "c": 3}, "d": 0})
    ['a.c', 'd']
    """
    if not (isinstance(before, Mapping) and isinstance(now, Mapping)):
        return [] if before == now else [where]
    keys = dict.fromkeys([*before, *now])
    return [k for key in keys for k in changed(before.get(key), now.get(key), f"{where}.{key}".lstrip("."))]


def _at(config: Any, key: str) -> Any:
    for part in key.split("."):
        config = config.get(part) if isinstance(config, Mapping) else None
    return config
