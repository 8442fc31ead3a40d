"""What all sections of a config share; option classes of all rooms import what they need of pydantic here."""

from __future__ import annotations

import ast
import inspect
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Annotated, Any

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    PlainSerializer,
    SerializerFunctionWrapHandler,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
    model_serializer,
    model_validator,
)
from pydantic_core import CoreSchema

__all__ = [
    "BeforeValidator",
    "Count",
    "Field",
    "Finite",
    "Number",
    "PlainSerializer",
    "Positive",
    "Section",
    "Share",
    "ValidationInfo",
    "Whole",
    "WithJsonSchema",
    "field_validator",
    "key_descriptions",
    "merged",
    "model_validator",
    "wrong_name",
]


def _no_logical_value(value: Any) -> Any:
    """Refuse true and false (`yes`, `on` ...), which would count as 1 and 0."""
    if isinstance(value, bool):
        raise ValueError(f"input should be a number, got {str(value).lower()}")
    return value


Number = Annotated[float, BeforeValidator(_no_logical_value)]
Whole = Annotated[int, BeforeValidator(_no_logical_value)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False), BeforeValidator(_no_logical_value)]
Finite = Annotated[float, Field(allow_inf_nan=False), BeforeValidator(_no_logical_value)]
Count = Annotated[Whole, Field(ge=1)]
Share = Annotated[Number, Field(ge=0, le=1)]
Step = Annotated[Number, Field(gt=0, le=1)]


class Section(BaseModel):
    """Part of a config; the docstring below a field describes its key in the schema."""

    # use_attribute_docstrings would read the source of every class on every rank: 0.15 s of its 0.8 s
    model_config = ConfigDict(extra="forbid", frozen=True)

    @classmethod
    def __get_pydantic_json_schema__(
        cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        made = handler(core_schema)
        properties = handler.resolve_ref_schema(made).get("properties", {})
        for key, text in key_descriptions(cls).items():
            if key in properties:
                properties[key].setdefault("description", text)
        return made


def key_descriptions(section: type) -> dict[str, str]:
    """Return the docstrings below the fields of a section and of its bases, by key."""
    described: dict[str, str] = {}
    for cls in (c for c in reversed(section.__mro__) if issubclass(c, Section)):
        described |= _of_module(cls.__module__).get(cls.__qualname__, {})
    return described


@cache
def _of_module(name: str) -> dict[str, dict[str, str]]:
    """Return the docstrings of the fields of all classes of a module, by class and key."""
    try:
        tree = ast.parse(inspect.getsource(sys.modules[name]))
    except (OSError, TypeError):  # it has no source: written at a prompt, or built in
        return {}
    return {node.name: _of_class(node) for node in tree.body if isinstance(node, ast.ClassDef)}


def _of_class(node: ast.ClassDef) -> dict[str, str]:
    return {
        field.target.id: inspect.cleandoc(text.value.value)
        for field, text in pairwise(node.body)
        if isinstance(field, ast.AnnAssign)
        and isinstance(field.target, ast.Name)
        and isinstance(text, ast.Expr)
        and isinstance(text.value, ast.Constant)
        and isinstance(text.value.value, str)
    }


@dataclass(frozen=True)
class GoesWith:
    """Annotation of an option that has a meaning only where another key has a certain value.

    >>> from typing import Annotated
    >>> class Pen(Options):
    ...     kind: str = "ink"
    ...     hardness: Annotated[int, GoesWith("kind", "lead")] = 2
    >>> Pen(kind="lead").model_dump(), Pen().model_dump()
    ({'kind': 'lead', 'hardness': 2}, {'kind': 'ink'})
    >>> Pen(hardness=3)
    Traceback (most recent call last):
    ...
    pydantic_core._pydantic_core.ValidationError: 1 validation error for Pen
      Value error, `hardness` goes with `kind: lead` [type=value_error, ...
    """

    key: str
    value: str


class Options(Section):
    """A section some of whose options go with the value of another (`GoesWith`).

    Such an option is refused where it has no meaning, and left out of what the section is written as.
    """

    def _without_meaning(self) -> Iterator[tuple[str, GoesWith]]:
        for name, field in type(self).model_fields.items():
            for rule in field.metadata:
                if isinstance(rule, GoesWith) and getattr(self, rule.key) != rule.value:
                    yield name, rule

    @model_validator(mode="after")
    def _each_with_a_meaning(self) -> Any:
        for name, rule in self._without_meaning():
            if name in self.model_fields_set:
                raise ValueError(f"`{name}` goes with `{rule.key}: {rule.value}`")
        return self

    @model_serializer(mode="wrap")
    def _with_a_meaning(self, written: SerializerFunctionWrapHandler) -> dict[str, Any]:
        without = {name for name, _ in self._without_meaning()}
        return {key: value for key, value in written(self).items() if key not in without}


def merged(shared: Any, own: Any) -> Any:
    """Return `shared` with the keys of `own` put in, section by section; null leaves a key out.

    >>> merged({"a": {"b": 1, "c": 2}, "d": [3]}, {"a": {"b": None, "e": 4}, "d": [5]})
    {'a': {'c': 2, 'e': 4}, 'd': [5]}
    """
    if not (isinstance(shared, dict) and isinstance(own, dict)):
        return own
    both = {**shared, **{key: merged(shared.get(key), value) for key, value in own.items()}}
    return {key: value for key, value in both.items() if value is not None}


LONGEST_NAME = 200  # bytes: a file or folder may be called by it, with a prefix
_NAME = re.compile(r"""\w[^/\\"'`\x00-\x1f\x7f]*""")


def wrong_name(name: str, taken: Sequence[str] = ()) -> str:
    """Return why no file can hold a parameter or variable of this name, '' where all can.

    netCDF variables begin with a letter, digit or underscore and hold no slash; files and folders are named
    after some of them.

    >>> wrong_name("a/b"), wrong_name("k%leaf (1)")
    ("it has a character that no netCDF variable or file name can have: '/'", '')
    >>> wrong_name("chain", ["chain", "draw"])
    'it is the name of a dimension in posterior.nc'
    """
    if not name.strip() or name != name.strip():
        return "it is empty" if not name.strip() else "it begins or ends with a space"
    if name in taken:
        return "it is the name of a dimension in posterior.nc"
    if len(name.encode()) > LONGEST_NAME:
        return f"it has {len(name.encode())} bytes, more than {LONGEST_NAME}"
    if not re.match(r"\w", name):
        return f"it begins with {name[0]!r}, not with a letter, a digit or an underscore"
    if not _NAME.fullmatch(name):
        bad = next(c for k, c in enumerate(name) if not _NAME.fullmatch(name[: k + 1]))
        return f"it has a character that no netCDF variable or file name can have: {bad!r}"
    return ""
