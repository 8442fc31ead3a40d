"""Read a config file: every key known, no key twice, every mistake with a message."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from fatescal.base.errors import BadInput, did_you_mean
from fatescal.base.families import UNUSABLE
from fatescal.base.options import key_descriptions, merged
from fatescal.config.configuration import SITE, Config, OneSite, SeveralSites, SiteSection
from fatescal.config.machine import Machine
from fatescal.config.overrides import Changes, changed
from fatescal.config.shipped_files import SHIPPED
from fatescal.config.yaml_text import Lines, read

INTERNAL = {"folder", "machine", "site"}  # fields of Settings that are no keys of a config
SHARED = ("model", "observations")  # sections that `sites` may have of their own


TAGS = ("union_tag_invalid", "union_tag_not_found")  # of the one key that tells alternatives apart
Checked = TypeVar("Checked", bound=BaseModel)


def _expand(value: Any, where: str = "") -> Any:
    """Expand `$VARIABLES` in all strings below `value`; an undefined one is an error."""
    if isinstance(value, dict):
        return {k: _expand(v, f"{where}.{k}".lstrip(".")) for k, v in value.items()}
    if isinstance(value, list):
        return [_expand(v, where) for v in value]
    if not isinstance(value, str):
        return value
    filled = re.sub(r"\$\{(\w+):-([^}]*)\}", lambda m: os.environ.get(m[1]) or m[2], value)
    expanded = os.path.expandvars(os.path.expanduser(filled) if filled.startswith("~") else filled)
    missing = re.search(r"\$\{?([A-Za-z_]\w*)", expanded)
    if missing:
        raise BadInput(
            f"{where}: environment variable {missing[1]} is not set (in '{value}')",
            hint=f"export {missing[1]}=/path/to/it before starting",
        )
    return expanded


def _described(model: Any, where: tuple[Any, ...]) -> list[dict[str, Any]]:
    """Return the schemas, several where there are alternatives, at a path of the config."""
    schema = model.model_json_schema()

    def resolve(node: dict[str, Any]) -> list[dict[str, Any]]:
        if "$ref" in node:
            node = schema["$defs"][node["$ref"].rsplit("/", 1)[-1]]
        alternatives = node.get("anyOf") or node.get("oneOf")
        return [n for a in alternatives for n in resolve(a)] if alternatives else [node]

    nodes = resolve(schema)
    for part in where:
        below = []
        for node in nodes:
            if part in node.get("properties", {}):
                below += resolve(node["properties"][part])
            elif isinstance(node.get("additionalProperties"), dict):
                below += resolve(node["additionalProperties"])
            elif "patternProperties" in node:
                below += [n for described in node["patternProperties"].values() for n in resolve(described)]
            elif any(described.get("const") == part for described in node.get("properties", {}).values()):
                below.append(node)  # pydantic names the chosen alternative of a tagged union
        nodes = below or nodes
    return nodes


def _known_keys(model: Any, where: tuple[Any, ...]) -> list[str]:
    """Return the keys allowed at a path of the config, for the nearest-name hint."""
    return sorted({k for n in _described(model, where) for k in n.get("properties", {}) if k not in INTERNAL})


def _known_kinds(model: Any, where: tuple[Any, ...]) -> list[str]:
    """Return the kinds that can be chosen at a path of the config."""
    kinds = (n.get("properties", {}).get("kind", {}).get("const") for n in _described(model, where))
    return [kind for kind in kinds if kind is not None]


PLAIN_TERMS = {  # of pydantic, that mean little to who writes YAML
    "a valid dictionary": "a section with keys (a: 1)",
    "a valid list": "a list ([a, b])",
    "a valid tuple": "a list ([a, b])",
    "a valid string": "text",
    "a valid number, unable to parse string as a number": "a number",
    "a valid integer, unable to parse string as an integer": "a whole number",
    "a valid integer, got a number with a fractional part": "a whole number",
    "a valid integer": "a whole number",
    "a valid boolean, unable to interpret input": "true or false",
    "Keys should be strings": "a key here is text: put it in quotes",
    "Dictionary should have at least 1 item after validation, not 0": "at least one entry is needed",
}
A_DAY = "input should be a day as 2004-01-31"


def _explain(error: ValidationError, model: type[BaseModel], raw: Any, lines: Lines) -> str:
    """Return the first mistakes, a line each, of what should be a `model` and is `raw`."""
    messages: dict[tuple[str, ...], list[str]] = {}
    got: dict[tuple[str, ...], str] = {}
    errors = error.errors()
    # pydantic counts the items that are right: a wrong one makes a list too short as well
    wrong_within = {m["loc"][:-1] for m in errors}
    for mistake in errors:
        if mistake["type"] == "too_short" and mistake["loc"] in wrong_within:
            continue
        where = tuple(_written(mistake["loc"], raw, mistake["type"] == "missing"))
        messages.setdefault(where, []).append(_explanation(mistake, model))
        if mistake["type"] not in ("extra_forbidden", "missing", "value_error", *TAGS):
            got[where] = f", got {mistake['input']!r}"
    mistakes = []
    for where, several in messages.items():
        message = " or ".join(dict.fromkeys(several)).replace(" or input should be", " or")
        mistakes.append(
            f"{'.'.join(where)}: {message}{got.get(where, '')}{_at_line(where, lines)}".lstrip(": ")
        )
    return "\n  ".join(mistakes[:5])


def _at_line(where: tuple[str, ...], lines: Lines) -> str:
    """Return the line of a path, or of what is nearest above it; of a site's part, that of the common
    section."""
    common = where[2:] if where[:1] == ("sites",) else ()
    for path in (where, common):
        if path in lines:
            return f" (line {lines[path]})"
    while where and where not in lines:
        where = where[:-1]
    return f" (line {lines[where]})" if where else ""


def _written(loc: tuple[Any, ...], raw: Any, missing: bool) -> list[str]:
    """Return the keys of a path that are in the file, or `missing` from it: pydantic names alternatives in
    between, and where the mistake is one of a section as a whole at the end."""
    keys = []
    for i, part in enumerate(loc):
        held = part in raw if isinstance(raw, dict) else isinstance(raw, list) and part in range(len(raw))
        if held:
            raw = raw[part]
        if held or (missing and i == len(loc) - 1):
            keys.append(str(part))
    return keys


def _explanation(mistake: Any, model: type[BaseModel]) -> str:
    """Return what is wrong, as a sentence."""
    if mistake["type"] == "extra_forbidden":
        known = _known_keys(model, mistake["loc"][:-1])
        hint = did_you_mean(mistake["loc"][-1], known) or f"known here: {', '.join(known)}"
        return f"unknown key; {hint}"
    if mistake["type"] == "union_tag_invalid":
        tag, expected = mistake["ctx"]["tag"], mistake["ctx"]["expected_tags"]
        near = did_you_mean(tag, re.findall(r"'([^']*)'", expected))
        hint = UNUSABLE.get(tag) or near or f"known are {expected}"
        key = mistake["ctx"]["discriminator"].strip("'()")  # the one key that tells alternatives apart
        return f"unknown {key} {tag!r}; {hint}"
    if mistake["type"] == "union_tag_not_found":
        return f"`kind` is missing, one of {', '.join(_known_kinds(model, mistake['loc']))}"
    if mistake["type"].startswith("date_"):
        return A_DAY
    text = mistake["msg"].removeprefix("Value error, ")
    text = re.sub(r"(a valid dictionary) or instance of \w+", r"\1", text)
    for theirs, ours in PLAIN_TERMS.items():
        text = text.replace(theirs, ours)
    return f"{text[0].lower()}{text[1:]}"


def load(path: Path, changes: Changes | None = None) -> Config:
    """Return the settings of a config file: `OneSite`, or `SeveralSites` where it has several.

    Parameters
    ----------
    path : Path
        The YAML file.
    changes : mapping, optional
        Values that take the place of those in the file, by dotted keys: ``{"calibrate.members": 32}``.

    Raises
    ------
    BadInput
        If the file cannot be read, is not YAML, or contradicts the schema.
    """
    raw, lines = _raw(path, "config", "sections run, model, parameters ...")
    for key in INTERNAL & raw.keys():
        hint = {"machine": "--machine on the command line", "site": "`sites`, or model.site"}.get(key, "")
        raise BadInput(f"{path}: {key}: unknown key", hint=hint)
    if changes:
        raw = changed(raw, changes)
        set_here = {tuple(key.split(".")) for key in changes}
        lines = {where: n for where, n in lines.items() if not any(where[: len(s)] == s for s in set_here)}
    kind = SeveralSites if "sites" in raw else OneSite
    try:
        raw = _spread(raw)
    except BadInput as error:
        raise BadInput(f"{path}: {error}") from None
    return _valid(kind, path, raw, lines, folder=path.resolve().parent)


def _spread(raw: dict[str, Any]) -> dict[str, Any]:
    """Return a config whose `sites` each have in full what the config gives for all of them."""
    if "sites" not in raw:
        return raw
    if not (raw["sites"] and isinstance(raw["sites"], dict)):
        raise BadInput(
            "sites",
            expected="each by its name: {NAME: {model: {...}, observations: {...}}}",
            got=raw["sites"],
        )
    for name in raw["sites"]:
        if not re.fullmatch(SITE, str(name)):
            raise BadInput(
                f"sites: {name!r} is no name of a site", expected="a letter, then letters, digits, _ and -"
            )
    shared = {key: raw[key] for key in SHARED if key in raw}
    sites = {name: merged(shared, {} if own is None else own) for name, own in raw["sites"].items()}
    return {key: value for key, value in raw.items() if key not in SHARED} | {"sites": sites}


def load_machine(name: str) -> Machine:
    """Return the machine of a file, given by its path or by its name in `machines/` (`fram`, `fram.yaml`).

    Raises
    ------
    BadInput
        If there is no such file, or as `load`.
    """
    folders = [Path(), Path("machines"), SHIPPED / "machines"]
    candidates = [folder / f"{name}{suffix}" for suffix in ("", ".yaml") for folder in folders]
    path = next((path for path in candidates if path.is_file()), None)
    if path is None:
        known = sorted({file.stem for folder in folders[1:] for file in folder.glob("*.yaml")})
        raise BadInput(
            f"--machine: there is no file {name}", expected=f"a path, or one of {', '.join(known)}"
        )
    return _valid(Machine, path, *_raw(path, "machine file", "keys as in machines/template.yaml"))


def _raw(path: Path, what: str, expected: str) -> tuple[dict[str, Any], Lines]:
    """Return the mapping in a YAML file, and the lines of its values."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(
            f"cannot read the {what} {path}: {getattr(error, 'strerror', None) or error}",
            hint="give the path of a YAML file",
        ) from None
    try:
        raw, lines = read(text)
    except BadInput as error:
        raise BadInput(f"{path}: {error}") from None
    if not isinstance(raw, dict):
        raise BadInput(f"{path} is not a {what}", expected=expected, got=_short(raw))
    return raw, lines


def _short(raw: Any) -> str:
    """Return the beginning of what stands in a file, which may be a table of many rows."""
    text = str(raw)
    return text if len(text) <= 60 else f"{text[:60]} ..."


def _valid(model: type[Checked], path: Path, raw: dict[str, Any], lines: Lines, **more: Any) -> Checked:
    """Return the `model` that a file holds, its `$VARIABLES` expanded."""
    try:
        return model.model_validate({**_expand(raw), **more})
    except ValidationError as error:
        raise BadInput(f"{path} has mistakes:\n  {_explain(error, model, raw, lines)}") from None
    except BadInput as error:
        raise BadInput(f"{path}: {error}") from None


def revived(raw: dict[str, Any]) -> Config:
    """Return the settings that `Config.plain` made plain.

    Raises
    ------
    BadInput
        If they are of another version of fatescal.
    """
    try:
        return (SeveralSites if "sites" in raw else OneSite).model_validate(raw, context={"snapshot": True})
    except ValidationError as error:
        raise BadInput(str(error)) from None


def schema() -> dict[str, Any]:
    """Return the JSON schema of a config, for editors."""
    described = OneSite.model_json_schema()
    for key in INTERNAL:
        described["properties"].pop(key)
    of_site = key_descriptions(SiteSection)
    own = {
        "type": "object",
        "additionalProperties": False,
        "properties": {key: {"type": "object", "description": of_site[key]} for key in SHARED},
    }
    described["properties"]["sites"] = {
        "type": "object",
        "description": key_descriptions(SeveralSites)["sites"],
        "additionalProperties": own,
    }
    described["required"] = [key for key in described["required"] if key not in SHARED]
    described["anyOf"] = [{"required": list(SHARED)}, {"required": ["sites"]}]
    return described
