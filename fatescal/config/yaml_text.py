"""YAML as people mean it: no key twice, nothing read as another number than the one written, every refusal
with its line."""

from __future__ import annotations

import re
from typing import Any

import yaml

from fatescal.base.errors import BadInput

LARGEST = 100_000  # values in a file, aliases written out
BOOL, INT, FLOAT, NULL, TEXT = (
    f"tag:yaml.org,2002:{kind}" for kind in ("bool", "int", "float", "null", "str")
)
# Of YAML 1.1 whose reading surprises: 1:30 is 90, 1_000 is 1000, dates are no text, = is an error. They stay
# text; numbers with an exponent need no point (1e-3, 2e6), but 12e0345 stays a commit.
NUMBERS = {
    INT: (r"[-+]?[0-9]+|0x[0-9a-fA-F]+|0b[01]+", "-+0123456789"),
    FLOAT: (
        r"[-+]?([0-9]+\.[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?|[-+]?[0-9]+[eE][-+][0-9]+|[-+]?[0-9]{1,3}[eE][0-9]{1,2}"
        r"|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        "-+.0123456789",
    ),
}
Lines = dict[tuple[str, ...], int]


class _Loader(yaml.SafeLoader):
    """The safe loader, less what it silently drops or reads as something else."""

    yaml_implicit_resolvers = {  # noqa: RUF012
        first: [
            (tag, pattern) for tag, pattern in known if tag.rpartition(":")[2] in ("bool", "null", "merge")
        ]
        for first, known in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        """Return a mapping whose keys are scalars, each there once; `on`, `no` and the like are text as
        keys."""
        node = super().compose_mapping_node(anchor)
        lines: dict[Any, int] = {}
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise BadInput(
                    f"line {_line(key)}: a key is a list or a section",
                    expected="a plain word before the colon",
                    hint="quotes around text that begins with { or [",
                )
            if key.tag in (BOOL, NULL):
                key.tag = TEXT
            name = key.value if key.tag.endswith(":merge") else self.construct_object(key)
            if name in lines:
                raise BadInput(
                    f"key '{name}' is given twice (line {_line(key)}, and line {lines[name]})",
                    hint="<<: [*first, *second]" if name == "<<" else "keep one of them",
                )
            lines[name] = _line(key)
        return node

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        """Return a value; one that is not what its tag says is an error with its line."""
        try:
            return super().construct_object(node, deep)
        except (ValueError, TypeError, AttributeError, LookupError, ArithmeticError) as error:
            raise BadInput(
                f"line {_line(node)}: '{str(node.value)[:40]}' cannot be read: {str(error)[:80]}"
            ) from None

    def whole_number(self, node: yaml.ScalarNode) -> int:
        """Return an integer, of which those with a leading zero are refused: octal in YAML 1.1, decimal in
        1.2."""
        if re.fullmatch("[-+]?0[0-9]+", node.value):
            raise BadInput(
                f"line {_line(node)}: {node.value} begins with 0, which makes it an octal number for some "
                "programs",
                hint=f"{int(node.value)}, or '{node.value}' in quotes where text is meant",
            )
        return int(node.value, 0)


for _tag, (_pattern, _first) in NUMBERS.items():
    _Loader.add_implicit_resolver(_tag, re.compile(f"({_pattern})$"), list(_first))
_Loader.add_constructor(INT, _Loader.whole_number)


def read(text: str) -> tuple[Any, Lines]:
    """Return what a YAML text holds, and the line of each of its values by their path of keys.

    Dates and times of day stay text; `on`, `off`, `yes` and `no` are logical values, but text as keys.

    Raises
    ------
    BadInput
        For what is not YAML, holds a key twice or one that is a list, an octal number, an anchor within
        itself, or more than `LARGEST` values when its aliases are written out.

    >>> read("a: &base {b: 1e-3, on: 1:30}\\nc:\\n  <<: *base\\n  b: 2004-01-31\\n")[0]
    {'a': {'b': 0.001, 'on': '1:30'}, 'c': {'b': '2004-01-31', 'on': '1:30'}}
    """
    loader = None
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        if node is None:
            return None, {}
        _require_finite(node)
        value = loader.construct_document(node)
    except yaml.YAMLError as error:
        raise BadInput(f"it is not valid YAML: {_problem(error)}", hint=_advice(error)) from None
    except RecursionError:
        raise BadInput("it is not valid YAML: too deeply nested", hint="close the brackets") from None
    finally:
        if loader is not None:
            loader.dispose()
    lines: Lines = {}
    _note_lines(node, (), lines)
    return value, lines


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1


def _problem(error: yaml.YAMLError) -> str:
    """Return what is wrong where, without the quotation that spans lines."""
    if not isinstance(error, yaml.MarkedYAMLError) or error.problem_mark is None:
        return str(error)
    mark = error.problem_mark
    return f"line {mark.line + 1}, column {mark.column + 1}: {error.context or ''} {error.problem}".replace(
        ":  ", ": "
    )


def _advice(error: yaml.YAMLError) -> str:
    text = str(error)
    if "'\\t'" in text:
        return "spaces in place of the tab: YAML indents with spaces alone"
    if "constructor for the tag" in text:
        return "leave out the tag (!...), or quote the text"
    if "expected a single document" in text:
        return "one config in a file: leave out the line ---"
    return "check indentation, colons and quotes"


def _require_finite(root: yaml.Node) -> None:
    """Refuse anchors that hold themselves, and aliases that write out to more than `LARGEST` values."""
    sizes: dict[int, int] = {}
    above: set[int] = set()

    def size(node: yaml.Node) -> int:
        if id(node) in above:
            raise BadInput(f"line {_line(node)}: an anchor (&) holds itself", hint="write the value out")
        if isinstance(node, yaml.ScalarNode):
            return 1
        if id(node) not in sizes:
            above.add(id(node))
            below = (
                node.value
                if isinstance(node, yaml.SequenceNode)
                else [v for pair in node.value for v in pair]
            )
            sizes[id(node)] = 1 + sum(size(part) for part in below)
            above.discard(id(node))
        return sizes[id(node)]

    if size(root) > LARGEST:
        raise BadInput(f"it has more than {LARGEST} values, aliases (*) written out", hint="fewer aliases")


def _note_lines(node: yaml.Node, where: tuple[str, ...], lines: Lines) -> None:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:  # those merged in come first, and are overwritten by their own
            lines[(*where, key.value)] = _line(key)
            _note_lines(value, (*where, key.value), lines)
    elif isinstance(node, yaml.SequenceNode):
        for i, value in enumerate(node.value):
            lines[(*where, str(i))] = _line(value)
            _note_lines(value, (*where, str(i)), lines)
