"""Every key is described, and the reference is what the classes say."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fatescal.config import Machine, schema

DOCS = Path(__file__).parents[2] / "docs"


def undescribed(node: Any, where: str = "") -> Iterator[str]:
    """Yield the keys below a node of a JSON schema that have no description."""
    if isinstance(node, list):
        for part in node:
            yield from undescribed(part, where)
    elif isinstance(node, dict):
        described = node.get("properties", {})
        for name, key in described.items():
            if isinstance(key, dict) and not str(key.get("description") or "").strip():
                yield f"{where}.{name}"
        for name, below in node.items():
            yield from undescribed(below, f"{where}.{name}")


def test_every_key_of_config_and_machine_file_has_a_description() -> None:
    assert list(undescribed(schema())) == []
    assert list(undescribed(Machine.model_json_schema())) == []


def test_a_key_without_one_is_found() -> None:
    node = {"properties": {"a": {"type": "string"}, "b": {"description": "its text"}}}
    assert list(undescribed(node)) == [".a"]


def test_the_reference_is_what_the_classes_say() -> None:
    path = DOCS / "make_reference.py"
    spec = importlib.util.spec_from_file_location("make_reference", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    written = (DOCS / "reference.md").read_text(encoding="utf-8")
    assert written == module.page(), "docs/reference.md is not up to date: make reference"
