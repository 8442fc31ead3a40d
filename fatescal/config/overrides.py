"""Keys of a config set from outside it: `--set a.b=1` on the command line, `set={...}` in Python."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from fatescal.base.errors import BadInput, did_you_mean
from fatescal.config.yaml_text import read

Changes = Mapping[str, Any]  # new values by dotted keys


def from_text(items: Iterable[str]) -> dict[str, Any]:
    """Return the changes that texts KEY=VALUE ask for; a value is read as YAML.

    >>> from_text(["calibrate.members=32", "run.name=a=b", "model.fallback=null"])
    {'calibrate.members': 32, 'run.name': 'a=b', 'model.fallback': None}

    Raises
    ------
    BadInput
        For a text without = or key, or a value that is no YAML.
    """
    changes: dict[str, Any] = {}
    for item in items:
        key, equals, value = item.partition("=")
        if not equals or not key.strip(" ."):
            raise BadInput(f"--set {item}", expected="KEY=VALUE", hint="--set calibrate.members=32")
        try:
            changes[key.strip()] = read(f"value: {value}" if value.strip() else "value: ''")[0]["value"]
        except BadInput as error:
            raise BadInput(f"--set {item}: the value is no YAML: {error}") from None
    return changes


def changed(raw: Mapping[str, Any], changes: Changes) -> dict[str, Any]:
    """Return a config's plain content with the changes; it itself stays as it is.

    A section that is missing is made; None stands as `null` does in a file.

    >>> changed({"a": {"b": 1, "c": 2}}, {"a.b": 3, "d.e": 4})
    {'a': {'b': 3, 'c': 2}, 'd': {'e': 4}}

    Raises
    ------
    BadInput
        Where a key goes below a value that is no section.
    """
    content = dict(raw)
    for key, value in changes.items():
        content = _with(content, key, _names(content, key), value)
    return content


def _names(content: Mapping[str, Any], key: str) -> list[str]:
    """Return the names that a dotted key is made of; a name of the file may hold a dot itself."""
    for name in sorted(map(str, content), key=len, reverse=True):
        if "." in name and key.startswith(f"{name}."):
            return [name, *key[len(name) + 1 :].split(".")]
    return key.split(".")


def _with(content: Mapping[str, Any], key: str, names: list[str], value: Any) -> dict[str, Any]:
    first, *rest = names
    if not rest:
        return {**content, first: value}
    below = content.get(first)
    if below is not None and not isinstance(below, Mapping):
        near = did_you_mean(first, [name for name, held in content.items() if isinstance(held, Mapping)])
        raise BadInput(f"--set {key}: {first} is no section, it is {below!r}", hint=near)
    return {**content, first: _with(below or {}, key, rest, value)}
