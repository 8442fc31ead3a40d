"""A verb of the command line that a model brings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Verb:
    """A verb of the command line that a model brings.

    Attributes
    ----------
    name, help : str
        As the command line shows them.
    action : callable
        (options and context of each site, a function that prints a line, the flags by name) -> None.
    flags : mapping of str to str
        Names of its options that are on or off, with their help.
    """

    name: str
    help: str
    action: Callable[..., None]
    flags: Mapping[str, str] = field(default_factory=dict)
