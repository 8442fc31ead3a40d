"""A run's snapshot of what it was started with, and the refusal of a start with anything else.

`RUN/config.yaml` holds the config, `RUN/model.json` what the model says of its parameters: with these two a
run's folder tells all that its report needs, without model, data or the config's own file. Of files from
outside the stages keep digests (`inputs.py`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from fatescal.base.errors import BadInput
from fatescal.base.types import Array
from fatescal.config import Config, revived
from fatescal.parameters.assembly import parameter_space
from fatescal.parameters.space import ParameterSpace
from fatescal.parameters.truth import truth
from fatescal.storage import atomic, stage_graph
from fatescal.storage.inputs import Register
from fatescal.storage.stage_graph import Reached

CONFIG, MODEL = "config.yaml", "model.json"
# Their order is that of the columns of all arrays.
ORDERED = ("sites", "parameters", "observations.variables")
# Given later it is for the members that failed, also in a stage of which some are finished.
LATER = ("model.fallback",)


@dataclass(frozen=True)
class ModelFacts:
    """What the models of a run, which agree in this, say of parameters.

    Attributes
    ----------
    defaults : mapping of str to float
        The model's own values; empty where it tells none.
    pfts : tuple of str
        Its plant functional types.
    numbered : bool
        Whether the config may call these by their number.
    units : mapping of str to str
        The units of those parameters that have one.
    """

    defaults: Mapping[str, float]
    pfts: tuple[str, ...]
    numbered: bool
    units: Mapping[str, str]


@dataclass(frozen=True)
class Snapshot:
    """What a run was started with: config, versions of the software, what the model says of parameters."""

    config: Config
    versions: Mapping[str, str]
    facts: ModelFacts

    @cached_property
    def space(self) -> ParameterSpace:
        """The parameters with their priors and defaults."""
        facts, of = self.facts, self.config
        return parameter_space(of.parameters, facts.defaults, facts.pfts, facts.numbered, of.correlations)

    @property
    def truth(self) -> Array | None:
        """The parameters (P) that made the observations; None where these were measured."""
        synthetic = next(iter(self.config.by_site.values())).observations.synthetic
        return None if synthetic is None else truth(synthetic.truth, self.space)

    @property
    def estimated(self) -> list[str]:
        """The observed variables whose model discrepancy is estimated."""
        observed = ((p, p.observations.variables) for p in self.config.by_site.values())
        return [p.label(n) for p, of in observed for n, v in of.items() if v.error.estimate]

    def write(self, directory: Path) -> None:
        """Write the snapshot into a run's folder."""
        content = {
            "config": self.config.plain(),
            "folder": str(self.config.folder),
            "versions": dict(self.versions),
        }
        text = yaml.safe_dump(content, sort_keys=False)
        atomic.write_text(directory / CONFIG, f"# Written by fatescal: the config of this run.\n{text}")
        atomic.write_text(directory / MODEL, json.dumps(asdict(self.facts), indent=1) + "\n")

    @classmethod
    def read(cls, directory: Path) -> Snapshot:
        """Return the snapshot in a run's folder.

        Raises
        ------
        BadInput
            If it is damaged, incomplete or of another version of fatescal.
        """
        content = _content(directory / CONFIG)
        try:
            chosen = revived({**content["config"], "folder": content["folder"]})
        except BadInput as error:
            raise BadInput(f"{directory / CONFIG} is of another version of fatescal: {error}") from None
        try:
            facts = json.loads((directory / MODEL).read_text())
            return cls(chosen, content["versions"], ModelFacts(**facts | {"pfts": tuple(facts["pfts"])}))
        except FileNotFoundError:
            raise BadInput(
                f"{directory} has no {MODEL}: it is a run of an earlier version of fatescal, which kept less",
                hint="start its config once more where the model is; nothing finished is computed again",
            ) from None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise BadInput(
                f"{directory / MODEL} cannot be read: {error}", hint="start the config of this run once more"
            ) from None


def _content(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text())
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        reason = str(error)
    else:
        if isinstance(content, dict) and {"config", "folder", "versions"} <= set(content):
            return content
        reason = "it is not the config of a run"
    raise BadInput(
        f"{path} cannot be read: {reason}", hint="another run.directory; the stages of this one are kept"
    )


def _with_defaults(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return the config of a snapshot with the keys that are younger; as it is if it has older ones."""
    try:
        return revived({**content["config"], "folder": content["folder"]}).plain()
    except BadInput:
        return content["config"]


def require_same_config(chosen: Config, directory: Path, reached: Mapping[str, Reached]) -> None:
    """Refuse a config in which a key has changed that decides what is there already.

    Raises
    ------
    BadInput
        With the key, the first stage it decides, and the ways out.
    """
    for difference in differences(chosen, directory, reached):
        raise difference


def differences(chosen: Config, directory: Path, reached: Mapping[str, Reached]) -> list[BadInput]:
    """Return what of a config contradicts a run, an error for each key."""
    if not (directory / CONFIG).exists():
        return []
    before, now = _with_defaults(_content(directory / CONFIG)), chosen.plain()
    errors = []
    for key in changed(before, now):
        later = stage_graph.bare(key).startswith(LATER)
        stage = stage_graph.decided(key, {s: r for s, r in reached.items() if r.finished or not later})
        if stage is not None:
            errors.append(
                BadInput(
                    f"{key} has changed since {_computed(stage, directory, reached[stage])}",
                    expected=f"{_at(before, key)} as before",
                    got=_at(now, key),
                    hint=f"another run.directory, or: fatescal reset {directory} --from {stage}",
                )
            )
    return errors


def require_same_files(
    now: Mapping[str, str], register: Register, directory: Path, reached: Mapping[str, Reached]
) -> None:
    """Refuse files from outside with another content than those that are in what is there already.

    Parameters
    ----------
    now : mapping of str to str
        Digest of each key's files.

    Raises
    ------
    BadInput
        With the key, the files, the first stage that read them, and the ways out.
    """
    for stage, there in reached.items():
        for key, before in there.files.items():
            if now.get(key, before) == before:
                continue
            files = register.changed(key, before, now[key])
            raise BadInput(
                f"{key} has changed since {_computed(stage, directory, there)}: {_listed(files)}",
                expected=f"the same content as then (digest {before[:12]})",
                got=now[key][:12],
                hint=f"put it back; or another run.directory; or, to compute anew what it decides: "
                f"fatescal reset {directory} --from {stage}",
            )


def unverified(now: Mapping[str, str], reached: Mapping[str, Reached]) -> list[str]:
    """Return a sentence for each key of whose files a finished stage that reads them keeps no digest."""
    sentences: dict[str, str] = {}
    for stage, there in reached.items():
        for key in now:
            read = there.finished and stage != stage_graph.PREPARATION and stage_graph.reads(stage, key)
            if read and key not in there.files and key not in sentences:
                sentences[key] = (
                    f"{stage} is of a version of fatescal that kept no digest of {key}: "
                    "whether that has changed since is not known"
                )
    return list(sentences.values())


def edited_files(directory: Path, reached: Mapping[str, Reached]) -> list[str]:
    """Return a sentence for each key whose files are here with other content than the run has read."""
    register, sentences = Register.of(directory), {}
    for stage, there in reached.items():
        for key, digest in there.files.items():
            if key not in sentences and (files := register.edited(key, digest)):
                part = "" if any(whole for _, whole in files) else " (perhaps in nothing that decides a run)"
                sentences[key] = (
                    f"{key} has changed since {_computed(stage, directory, there)}: "
                    f"{_listed([path for path, _ in files])}{part}; "
                    "what stands here is of the content it had then"
                )
    return list(sentences.values())


def _computed(stage: str, directory: Path, there: Reached) -> str:
    if stage == stage_graph.PREPARATION:
        return f"the {stage} of {directory} was computed"
    return f"stage {stage} of {directory} was {'computed' if there.finished else 'begun'}"


def _listed(files: Sequence[Path]) -> str:
    """Say which files are meant."""
    if not files:
        return "the files it names"
    what = "has another content" if files[0].exists() else "is not there"
    return f"{files[0]} {what}{f', and {len(files) - 1} more' if len(files) > 1 else ''}"


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
    moved = before == now and list(before) != list(now) and stage_graph.bare(where) in ORDERED
    below = [k for key in keys for k in changed(before.get(key), now.get(key), f"{where}.{key}".lstrip("."))]
    return [where, *below] if moved else below


def _at(config: Any, key: str) -> Any:
    for part in key.split("."):
        config = config.get(part) if isinstance(config, Mapping) else None
    return ", ".join(config) if stage_graph.bare(key) in ORDERED and isinstance(config, Mapping) else config
