"""Write docs/reference.md from the config's schema and the registries: `make reference`."""

from __future__ import annotations

import inspect
import json
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from fatescal.config import Machine, schema
from fatescal.diagnostics.scores import SCORES
from fatescal.hpc.schedulers.registry import schedulers
from fatescal.models.registry import MODELS
from fatescal.observations.readers.registry import READERS
from fatescal.parameters.registry import DESIGNS, PRIORS
from fatescal.report.registry import sections
from fatescal.update.registry import SCHEMES

PAGE = Path(__file__).with_name("reference.md")
HEAD = """# Reference of the config

Made by `make reference` from the classes of fatescal: do not edit. [Configuration](configuration.md) explains
how the sections work together. Every key that has a default may be left out.
"""
FAMILIES = """## Families

What a config chooses by name, or the page is made of, is a class each. A package adds its own by an entry
point of the family's group, whose name is that of the class. ARCHITECTURE.md says what each class has.
"""
TAG = ("kind", "scheme")  # keys that tell alternatives apart
LIMITS = {
    "minimum": ">=", "exclusiveMinimum": ">", "maximum": "<=", "exclusiveMaximum": "<",
}  # fmt: skip
NAMES = {"number": "number", "integer": "whole number", "boolean": "true or false", "null": "null"}


class Described:
    """A JSON schema, walked section by section."""

    def __init__(self, schema: Mapping[str, Any]) -> None:
        self.schema = schema

    def alternatives(self, node: Mapping[str, Any]) -> list[Mapping[str, Any]]:
        """Return what a node may be, references and unions resolved, without null."""
        if "$ref" in node:
            return self.alternatives(self.schema["$defs"][node["$ref"].rsplit("/", 1)[-1]])
        several = node.get("anyOf") or node.get("oneOf") or node.get("allOf")
        if several and "properties" not in node:
            return [one for part in several for one in self.alternatives(part)]
        return [] if node.get("type") == "null" else [node]

    def values(self, node: Mapping[str, Any]) -> str:
        """Return what may stand at a node."""
        return " or ".join(dict.fromkeys(map(self._of_one, self.alternatives(node)))) or "anything"

    def _of_one(self, node: Mapping[str, Any]) -> str:
        if "const" in node:
            return f"`{_plain(node['const'])}`"
        if "enum" in node:
            return ", ".join(f"`{_plain(value)}`" for value in node["enum"])
        of = node.get("type")
        if of == "array":
            items = node.get("items") or node.get("prefixItems", [{}])[0]
            return f"list of {self.values(items)}"
        if of == "object":
            return "section"
        if of == "string":
            return {"date": "day", "path": "path"}.get(node.get("format", ""), "text")
        limits = " and ".join(f"{sign} {node[key]:g}" for key, sign in LIMITS.items() if key in node)
        return f"{NAMES.get(str(of), 'anything')} {limits}".strip()

    def sections(self, path: str, node: Mapping[str, Any]) -> Iterator[str]:
        """Yield a table for each section at a node and below it."""
        for one in self.alternatives(node):
            if "properties" in one:
                yield self._table(path, one)
                for key, below in one["properties"].items():
                    yield from self.sections(f"{path}.{key}", below)
            elif isinstance(one.get("additionalProperties"), dict):
                yield from self.sections(f"{path}.NAME", one["additionalProperties"])

    def _table(self, path: str, node: Mapping[str, Any]) -> str:
        tags = [
            (key, node["properties"][key]["const"])
            for key in TAG
            if "const" in node["properties"].get(key, {})
        ]
        title = f"`{path}`" + "".join(f", {key}: {value}" for key, value in tags)
        rows = []
        for key, below in node["properties"].items():
            default = f"`{_plain(below['default'])}`" if below.get("default") is not None else ""
            default = "required" if key in node.get("required", ()) else default
            rows.append([f"`{key}`", self.values(below), default, _sentence(below["description"])])
        summary = textwrap.fill(_sentence(node.get("description", "")), 110, break_on_hyphens=False)
        return f"### {title}\n\n{summary}\n\n{_markdown(['key', 'value', 'default', ''], rows)}"


def _plain(value: Any) -> str:
    return value if isinstance(value, str) and value else json.dumps(value)


def _sentence(text: str) -> str:
    """Return the first paragraph of a description in one line that begins with a capital."""
    words = " ".join(inspect.cleandoc(text).split("\n\n")[0].split())
    return words[:1].upper() + words[1:]


def _markdown(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    cells = ([cell.replace("|", "\\|") for cell in line] for line in lines)
    return "".join(f"| {' | '.join(line)} |\n".replace("|  |", "| |") for line in cells)


def _families() -> Iterator[str]:
    """Yield a table for each family."""
    families: dict[str, Mapping[str, type[Any]]] = {
        "Update schemes, `fatescal.schemes`": SCHEMES,
        "Priors, `fatescal.priors`": PRIORS,
        "Designs, `fatescal.designs`": DESIGNS,
        "Formats of observations, `fatescal.readers`": READERS,
        "Models, `fatescal.models`": MODELS,
        "Schedulers, `fatescal.schedulers`": schedulers(),
    }
    for title, family in families.items():
        rows = [[f"`{kind}`", _sentence(str(choice.__doc__))] for kind, choice in family.items()]
        yield f"### {title}\n\n{_markdown(['name', ''], rows)}"
    scores = [
        [f"`{kind}`", _sentence(score.description), score.unit or "of the variable", f"{score.best:g}"]
        for kind, score in SCORES.items()
    ]
    yield f"### Scores, `fatescal.scores`\n\n{_markdown(['name', '', 'unit', 'best'], scores)}"
    shown = [[f"`{kind}`", s.title, s.needs or "nothing"] for kind, s in sections().items()]
    header = ["name", "title", "needs"]
    yield f"### Sections of the report, `fatescal.report_sections`\n\n{_markdown(header, shown)}"


def page() -> str:
    """Return the page."""
    config = schema()
    parts = [HEAD, "## The config\n"]
    described = Described(config)
    keys = config["properties"]
    top = [[f"`{key}`", _sentence(below["description"])] for key, below in keys.items()]
    parts.append(_markdown(["section", ""], top))
    for key, below in keys.items():
        if key != "sites":  # what a site has of its own is what the config has of it
            parts += dict.fromkeys(described.sections(key, below))
    machine = Machine.model_json_schema()
    parts += ["## The machine file\n", *Described(machine).sections("machine", machine)]
    return "\n".join([*parts, FAMILIES, *_families()])


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
