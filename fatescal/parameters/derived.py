"""Values that follow from other parameters: fixed, tied, scaled, derived by an arithmetic expression."""

from __future__ import annotations

import ast
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Protocol, Self

from fatescal.base.errors import BadInput, did_you_mean

FUNCTIONS: Mapping[str, Callable[..., float]] = {
    "abs": abs,
    "exp": math.exp,
    "log": math.log,
    "log10": math.log10,
    "max": max,
    "min": min,
    "sqrt": math.sqrt,
}
OPERATIONS: Mapping[type[ast.AST], Callable[..., float]] = {
    ast.Add: lambda a, b: a + b,
    ast.Sub: lambda a, b: a - b,
    ast.Mult: lambda a, b: a * b,
    ast.Div: lambda a, b: a / b,
    ast.Pow: math.pow,  # a ** b would leave the real numbers
    ast.USub: lambda a: -a,
    ast.UAdd: lambda a: a,
}
LONGEST = 1000  # characters of an expression


class DerivedValue(Protocol):
    """How one parameter that is not calibrated gets its value; its text says so to a reader."""

    @property
    def names(self) -> Sequence[str]:
        """The parameters it follows from."""

    def value(self, values: Mapping[str, float]) -> float:
        """Return its value, given those of its `names`; NaN where it has none."""


@dataclass(frozen=True)
class Fixed:
    """A number.

    >>> str(Fixed(0.2))
    'fixed at 0.2'
    """

    key: ClassVar[str] = "fixed"
    number: float
    names: tuple[str, ...] = ()

    @classmethod
    def of(cls, number: float, meant: Callable[[str], str]) -> Self:
        return cls(number)

    def value(self, values: Mapping[str, float]) -> float:
        return self.number

    def __str__(self) -> str:
        return f"fixed at {self.number:g}"


@dataclass(frozen=True)
class Same:
    """The value of another parameter."""

    key: ClassVar[str] = "same_as"
    name: str

    @classmethod
    def of(cls, name: str, meant: Callable[[str], str]) -> Self:
        return cls(meant(name))

    @property
    def names(self) -> tuple[str, ...]:
        return (self.name,)

    def value(self, values: Mapping[str, float]) -> float:
        return values[self.name]

    def __str__(self) -> str:
        return f"same as {self.name}"


@dataclass(frozen=True)
class Scaled:
    """A number times the factor of its group."""

    factor: str
    number: float

    @property
    def names(self) -> tuple[str, ...]:
        return (self.factor,)

    def value(self, values: Mapping[str, float]) -> float:
        return values[self.factor] * self.number

    def __str__(self) -> str:
        return f"{self.factor} times {self.number:g}"


@dataclass(frozen=True)
class Expression:
    """Arithmetic of other parameters; only what is listed above is ever computed.

    `meaning` tells which parameter a name in the text stands for, where that is not the name itself.

    Raises
    ------
    BadInput
        With the position in the text of whatever is neither number, name, + - * / **, nor a known function.

    >>> Expression("2 * exp(a) - b / 4").value({"a": 0.0, "b": 2.0})
    1.5
    >>> Expression("log(a)").value({"a": -1.0})
    nan
    """

    key: ClassVar[str] = "derived"
    text: str
    meaning: Mapping[str, str] | None = None

    @classmethod
    def of(cls, text: str, meant: Callable[[str], str]) -> Self:
        meaning = {name: meant(name) for name in cls(text).written}
        return cls(text, {n: m for n, m in meaning.items() if n != m} or None)

    def __post_init__(self) -> None:
        if len(self.text) > LONGEST:
            raise BadInput(f"an expression of {len(self.text)} characters", expected=f"at most {LONGEST}")
        for _ in self._known_parts(self._tree):
            pass

    @cached_property
    def _tree(self) -> ast.expr:
        try:
            return ast.parse(self.text.strip(), mode="eval").body
        except SyntaxError as error:
            raise self._wrong(max((error.offset or 1) - 1, 0), error.msg) from None
        except (ValueError, RecursionError, MemoryError) as error:
            raise self._wrong(0, str(error) or "too deeply nested") from None

    @property
    def written(self) -> dict[str, int]:
        """The names in the text, with their position."""
        parts = [part for part in self._known_parts(self._tree) if isinstance(part, ast.Name)]
        return {part.id: part.col_offset for part in reversed(parts)}

    @property
    def names(self) -> tuple[str, ...]:
        return tuple((self.meaning or {}).get(name, name) for name in self.written)

    def value(self, values: Mapping[str, float]) -> float:
        try:
            return float(self._value(self._tree, values))
        except (ArithmeticError, ValueError):
            return math.nan

    def _value(self, part: ast.expr, values: Mapping[str, float]) -> float:
        match part:
            case ast.Constant():
                return float(part.value)  # type: ignore[arg-type]
            case ast.Name():
                return values[(self.meaning or {}).get(part.id, part.id)]
            case ast.UnaryOp():
                return OPERATIONS[type(part.op)](self._value(part.operand, values))
            case ast.BinOp():
                sides = (self._value(side, values) for side in (part.left, part.right))
                return OPERATIONS[type(part.op)](*sides)
            case ast.Call(func=ast.Name(id=function)):
                return FUNCTIONS[function](*(self._value(a, values) for a in part.args))
        raise TypeError(part)

    def _known_parts(self, part: ast.expr) -> Iterator[ast.expr]:
        """Yield all numbers, names, operations and calls; refuse anything else."""
        match part:
            case ast.Constant() if type(part.value) in (int, float):
                within: list[ast.expr] = []
            case ast.Name():
                within = []
            case ast.UnaryOp() if type(part.op) in OPERATIONS:
                within = [part.operand]
            case ast.BinOp() if type(part.op) in OPERATIONS:
                within = [part.left, part.right]
            case ast.Call(func=ast.Name(id=function), keywords=[]) if function in FUNCTIONS:
                n, least = len(part.args), 2 if function in ("min", "max") else 1
                if n < least or (n > 1 and least == 1):
                    counted = "two or more numbers" if least == 2 else "one number"
                    raise self._wrong(part.col_offset, f"{function} takes {counted}")
                within = part.args
            case ast.Call(func=ast.Name(id=function)):
                raise self._wrong(part.col_offset, f"there is no function {function} of such arguments")
            case _:
                raise self._wrong(
                    part.col_offset, f"'{ast.get_source_segment(self.text.strip(), part)}' is not allowed"
                )
        yield part
        for inner in within:
            yield from self._known_parts(inner)

    def _wrong(self, position: int, why: str) -> BadInput:
        return BadInput(
            f"'{self.text.strip()}', position {position + 1}: {why}",
            expected=f"numbers, parameters, + - * / ** and {', '.join(FUNCTIONS)}",
            hint="a power is written **" if "^" in self.text else "",
        )

    def __getstate__(self) -> dict[str, object]:
        return {"text": self.text, "meaning": self.meaning}  # the tree is parsed again where it is needed

    def __str__(self) -> str:
        return f"derived, {self.text.strip()}"


# By the key of a config: the rules of one parameter, each of a value and of what a name in it stands for.
RULES: Mapping[str, Any] = {c.key: c for c in (Fixed, Same, Expression)}


def ordered(rules: Mapping[str, DerivedValue], known: Sequence[str]) -> dict[str, DerivedValue]:
    """Return the rules in an order in which each follows from what is `known` and those before.

    Raises
    ------
    BadInput
        For a name that nobody knows, with its position in an expression, or rules that follow from each
        other.

    >>> list(ordered({"b": Same("a"), "a": Same("c")}, ["c"]))
    ['a', 'b']
    """
    done: dict[str, DerivedValue] = {}
    for name, rule in rules.items():
        for other in rule.names:
            if other not in rules and other not in known:
                _refuse(name, rule, other, [*known, *rules])
    waiting = dict(rules)
    while waiting:
        ready = [n for n, rule in waiting.items() if not set(rule.names) & waiting.keys()]
        if not ready:
            raise BadInput(
                f"parameters: {', '.join(_circle(waiting))} follow from each other in a circle",
                hint="give one of them a prior or a fixed value",
            )
        for n in ready:
            done[n] = waiting.pop(n)
    return done


def _refuse(name: str, rule: DerivedValue, other: str, known: Sequence[str]) -> None:
    written = getattr(rule, "written", {}).get(other)
    where = "" if written is None else f" (position {written + 1} of '{getattr(rule, 'text', '')}')"
    raise BadInput(
        f"parameters.{name}: there is no parameter {other}{where}",
        expected=f"one of {', '.join(known)}" if len(known) <= 50 else None,
        hint=did_you_mean(other, known),
    )


def _circle(waiting: Mapping[str, DerivedValue]) -> list[str]:
    """Return the names of a circle among rules of which none can be first."""
    path = [next(iter(waiting))]
    while True:
        following = next(other for other in waiting[path[-1]].names if other in waiting)
        if following in path:
            return path[path.index(following) :]
        path.append(following)
