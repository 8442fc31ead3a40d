"""The architecture, read off the source: rooms look down, a heavy library has one door, files are short."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections import Counter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "fatescal"

ROOMS = (  # from the ground up: a room imports only from those before it
    "base",
    "hpc",
    "storage",
    "update",
    "parameters",
    "observations",
    "models",
    "emulate",
    "sample",
    "diagnostics",
    "config",
    "ensemble",
    "workflow",
    "report",
    "cli",
    "__main__",
    "__init__",
)
DOORS = {
    "mpi4py": {"hpc"},
    "h5py": {"storage"},
    "pint": {"observations"},
    "pydantic": {"base", "config", "models", "observations"},
    "pandas": {"observations"},
    "sklearn": set(),
    "matplotlib": {"report"},
    "arviz_stats": {"diagnostics"},
    "numba": {"models"},
    "netCDF4": {"models", "observations"},
    "pyrealm": {"models"},
}
HEAVY = {"scipy", "pandas", "xarray", "matplotlib", "arviz_stats", "sklearn", "pint", "netCDF4", "numba"}
FILES = sorted(PACKAGE.rglob("*.py"))


def room(path: Path) -> str:
    """Return the room that a file is in; of a file in none, its own name."""
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def imports(path: Path):
    """Yield (dotted name, at module level?) of every import that runs; of a `from` import, one for each
    name.
    """
    tree = ast.parse(path.read_text())
    for parent in ast.walk(tree):
        for child in ast.iter_child_nodes(parent):
            child.parent = parent  # type: ignore[attr-defined]
    for node in ast.walk(tree):
        above, top, typing_only = getattr(node, "parent", None), True, False
        while above is not None:
            top &= not isinstance(above, ast.FunctionDef)
            typing_only |= isinstance(above, ast.If) and "TYPE_CHECKING" in ast.unparse(above.test)
            above = getattr(above, "parent", None)
        if typing_only:
            continue
        if isinstance(node, ast.Import):
            yield from ((alias.name, top) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from ((f"{node.module}.{alias.name}", top) for alias in node.names)


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_go_down(path):
    floor = {name: level for level, name in enumerate(ROOMS)}
    here = room(path)
    assert here in floor, f"{here} is no room: put it into ROOMS"
    for name, _ in imports(path):
        parts = name.split(".")
        if parts[0] == "fatescal" and parts[1] in floor and parts[1] != here:
            assert floor[parts[1]] < floor[here], f"{here} imports {name}, which is not below"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_every_library_has_one_door(path):
    for name, _ in imports(path):
        library = name.split(".")[0]
        if library in DOORS:
            assert room(path) in DOORS[library], f"{library} is imported in {path.name}"


def modules(name: str) -> list[Path]:
    """Return the files that importing a dotted name of this package runs."""
    parts = name.split(".")[1:]
    found = []
    for n in range(1, len(parts) + 1):
        path = PACKAGE / Path(*parts[:n])
        found += [p for p in (path.with_suffix(".py"), path / "__init__.py") if p.is_file()]
    return found


def reachable() -> set[Path]:
    """Return the modules that a rank imports at the start of a run, in functions too."""
    seen, waiting = set(), [PACKAGE / "__main__.py"]
    while waiting:
        path = waiting.pop()
        seen.add(path)
        for name, _ in imports(path):
            if name.startswith("fatescal."):
                waiting += [p for p in modules(name) if p not in seen]
    return seen


def test_a_rank_starts_without_heavy_libraries():
    for path in reachable():
        if room(path) == "report" or "canopy" in path.parts:
            continue  # imported inside functions
        for name, top in imports(path):
            assert not (top and name.split(".")[0] in HEAVY), f"{path.name} imports {name} at module level"


def test_the_house_fits_on_one_screen():
    entries = [p.name for p in PACKAGE.iterdir() if p.name not in ("__pycache__", "py.typed")]
    assert len(entries) <= 17, sorted(entries)  # 15 rooms, __init__ and __main__


def test_nothing_but_its_own_folder_knows_clm_fates():
    """No name, text, comment or import; the embedded model has its parameter names, the registry a line."""
    word = re.compile(r"\b(cime|ctsm|clm_fates|fates)\b", re.IGNORECASE)
    naming = set()
    for path in FILES:
        name = path.relative_to(PACKAGE).as_posix()
        if not name.startswith(("models/clm_fates/", "models/canopy/")) and word.search(path.read_text()):
            naming.add(name)
    assert naming <= {"models/registry.py"}
    line = "from fatescal.models.clm_fates.clm_options import ClmFatesOptions"
    left = (PACKAGE / "models/registry.py").read_text().replace(line, "")
    assert not word.search(left.replace("ClmFatesOptions", ""))


LONGEST_MODULE, LONGEST_FUNCTION = 350, 60
SAME_NAME = {"__init__.py", "base.py", "options.py", "registry.py"}  # in each family or room that has one


def code_lines(text: str) -> set[int]:
    """Return the numbers of the lines that hold more than a comment."""
    layout = (tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT)
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    return {n for t in tokens if t.type not in layout for n in range(t.start[0], t.end[0] + 1)}


def functions(path: Path):
    """Yield (name, number of code lines without the docstring) of every function and method."""
    text = path.read_text()
    code = code_lines(text)
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            body = node.body[1:] if ast.get_docstring(node) else node.body
            head = range(node.lineno, node.body[0].lineno)
            below = range(body[0].lineno, node.end_lineno + 1) if body and node.end_lineno else range(0)
            yield node.name, len(code & {*head, *below})


def test_a_module_and_a_function_fit_in_a_reader_s_head():
    modules, too_long = set(), set()
    for path in FILES:
        name = path.relative_to(PACKAGE).as_posix()
        if len(path.read_text().splitlines()) > LONGEST_MODULE:
            modules.add(name)
        too_long |= {f"{name}: {function}" for function, n in functions(path) if n > LONGEST_FUNCTION}
    assert modules == set(), f"more than {LONGEST_MODULE} lines"
    assert too_long == set(), f"more than {LONGEST_FUNCTION} lines of code"


def test_a_name_stands_for_one_module_or_class():
    modules = Counter(path.name for path in FILES)
    assert {name for name, n in modules.items() if n > 1} <= SAME_NAME
    trees = [ast.parse(path.read_text()) for path in FILES]
    classes = Counter(
        node.name for tree in trees for node in ast.walk(tree) if isinstance(node, ast.ClassDef)
    )
    assert [name for name, n in classes.items() if n > 1] == []
