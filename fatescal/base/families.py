"""Families of choices: what is chosen by its `kind` is one class, of this package or of another one.

A family is a mapping from kinds to classes. Another package adds a class by an entry point of the family's
group, whose name is the kind:

    [project.entry-points."fatescal.priors"]
    triangular = "my_package:Triangular"
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import cache
from importlib.metadata import EntryPoint, EntryPoints, entry_points
from inspect import isabstract
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, TypeVar, Union

from pydantic import ConfigDict, Field

from fatescal.base.errors import BadInput
from fatescal.base.options import Section

if TYPE_CHECKING:
    from pydantic import GetCoreSchemaHandler


def _complete(schema: dict[str, Any], choice: type[Choice]) -> None:
    """Have the kind required in the JSON schema, and the example shown."""
    schema["required"] = list(dict.fromkeys(["kind", *schema.get("required", ())]))
    schema["examples"] = [dict(choice.example)]


class Choice(Section):
    """One of a family: its fields are its keys in the config, its methods do the work.

    Attributes
    ----------
    kind : str
        Its name in the config; a subclass declares `kind: Literal["name"] = "name"`.
    example : mapping
        A section of a config that chooses it, for the JSON schema and the family's contract test.
    """

    model_config = ConfigDict(json_schema_extra=_complete)

    kind: str
    example: ClassVar[Mapping[str, Any]] = {}


Chosen = TypeVar("Chosen")
UNUSABLE: dict[str, str] = {}  # why a kind that a package announces cannot be chosen


def kind_of(choice: type[Any]) -> str:
    """Return the name that a config chooses a class of options by, '' where it has none."""
    kind = choice.model_fields["kind"].default
    return kind if isinstance(kind, str) else ""


def family(
    base: type[Chosen],
    own: Iterable[type[Chosen]],
    group: str,
    kind_of: Callable[[type[Chosen]], str] = kind_of,
    check: Callable[[type[Chosen]], None] = lambda choice: None,
) -> dict[str, type[Chosen]]:
    """Return the classes of a family by kind: this package's own, then those of other packages.

    A class that cannot be imported or does not fit is left out; `UNUSABLE` keeps the reason, for who chooses
    it.

    Parameters
    ----------
    base : type
        What all of the family derive from.
    own : iterable of type
        Those of this package.
    group : str
        Entry point group of the others.
    kind_of : callable
        Class -> the name it is chosen by.
    check : callable
        Raises `BadInput` for a class of another package that the family cannot have.

    Raises
    ------
    BadInput
        If two packages bring the same kind: which one is meant cannot be known.
    """
    known = {kind_of(choice): choice for choice in own}
    brought = dict.fromkeys(known, "fatescal")
    for point in announced(group):
        package = "a package" if point.dist is None else point.dist.name
        if point.name in brought:
            raise BadInput(
                f"{group}: '{point.name}' is brought by two packages, {brought[point.name]} and {package}",
                hint=f"uninstall {package}, or have it renamed there",
            )
        brought[point.name] = package
        try:
            loaded = _loaded(point, base, kind_of)
            check(loaded)
            known[point.name] = loaded
        except (Exception, SystemExit) as error:  # whatever a module of others raises when it is imported
            reason = str(error) if isinstance(error, BadInput) else f"{type(error).__name__}: {error}"
            UNUSABLE[point.name] = f"{package} brings it by {point.value}, which cannot be used: {reason}"
    return known


def announced(group: str) -> EntryPoints:
    """Return what all packages announce in a group of entry points."""
    return _installed().select(group=group)


@cache
def _installed() -> Any:
    """Return the entry points of all packages, read from their metadata once."""
    return entry_points()


def _loaded(point: EntryPoint, base: type[Chosen], kind_of: Callable[[type[Chosen]], str]) -> type[Chosen]:
    """Return the class of an entry point, checked to be of the family and of the kind it is announced as."""
    loaded = point.load()
    if not (isinstance(loaded, type) and issubclass(loaded, base)):
        raise BadInput("it is no class of the family", expected=f"a class that derives from {base.__name__}")
    if isabstract(loaded):
        missing = sorted(getattr(loaded, "__abstractmethods__", ()))
        raise BadInput(f"the class lacks {', '.join(missing)}")
    kind = kind_of(loaded)
    if kind != point.name:
        is_field = "kind" in getattr(base, "model_fields", {})
        annotation = f': Literal["{point.name}"]' if is_field else ""
        raise BadInput(
            "the entry point has another name than the class",
            expected=f'kind{annotation} = "{point.name}"',
            got=kind or "no kind",
        )
    return loaded


class ByKind:
    """Annotation of a field that holds one of a family: `Annotated[Prior, ByKind(PRIORS)]`."""

    def __init__(self, of: Mapping[str, type[Choice]]) -> None:
        self.of = of

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> Any:
        classes = tuple(self.of.values())
        if len(classes) == 1:
            return handler.generate_schema(classes[0])
        return handler.generate_schema(Annotated[Union[classes], Field(discriminator="kind")])  # noqa: UP007
