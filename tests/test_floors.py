"""The architecture, read off the imports: floors only look down, every heavy library has one door."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "fatescal"

FLOORS = [
    {"atomic", "errors", "randoms"},
    {"inputs", "records", "units", "calendars", "missing", "watchdog", "schedulers"},
    {
        "fluxnet",
        "linalg",
        "noise",
        "outliers",
        "priors",
        "protocols",
        "quality",
        "rules",
        "settings",
        "stages",
        "tables",
    },
    {"parameters", "observations"},
    {"designs", "update", "emulate", "sample", "scores"},
    {"evidence", "failures", "kept", "overview", "stragglers", "world", "align", "forward"},
    {"store", "frozen", "cases"},
    {"members", "report"},
    {"effects"},
    {"preparation", "ensemble", "trial"},
    {"workflow", "models", "measurements", "costs"},
    {"assemble", "products"},
    {"run"},
    {"__main__", "__init__"},
]
DOORS = {
    "mpi4py": {"world"},
    "h5py": {"store"},
    "pint": {"units"},
    "pydantic": {"settings", "frozen"},
    "pandas": {"tables"},
    "sklearn": set(),
    "matplotlib": {"report"},
    "arviz_stats": {"sample"},
    "numba": {"forward"},
    "netCDF4": {"forward"},
    "pyrealm": {"forward"},
}
LIGHT = {"numpy", "yaml", "pydantic", "mpi4py", "h5py"}  # what a rank may import at its start


def part(path: Path) -> str:
    """Return the module or subpackage of fatescal that a file belongs to."""
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def imports(path: Path):
    """Yield (top-level name or fatescal part, at module level?) of every import that runs."""
    tree = ast.parse(path.read_text())
    for parent in ast.walk(tree):
        for child in ast.iter_child_nodes(parent):
            child.parent = parent  # type: ignore[attr-defined]
    for node in ast.walk(tree):
        above, top = getattr(node, "parent", None), True
        typing_only = False
        while above is not None:
            top &= not isinstance(above, ast.FunctionDef)
            typing_only |= isinstance(above, ast.If) and "TYPE_CHECKING" in ast.unparse(above.test)
            above = getattr(above, "parent", None)
        if typing_only:
            continue
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module == "fatescal":
            names = [f"fatescal.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module]
        for name in names:
            parts = name.split(".")
            if parts[0] == "fatescal" and len(parts) > 1:
                yield parts[1], top
            elif parts[0] != "fatescal":
                yield parts[0], top


FILES = sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_go_down(path):
    floor = {name: level for level, names in enumerate(FLOORS) for name in names}
    here = part(path)
    assert here in floor, f"{here} stands on no floor: put it into FLOORS"
    for name, _ in imports(path):
        if name in floor and name != here:
            assert floor[name] < floor[here], f"{here} imports {name}, which is not below"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_every_library_has_one_door(path):
    for name, _ in imports(path):
        if name in DOORS:
            assert part(path) in DOORS[name], f"{name} is imported in {path.name}"


def reachable() -> set[Path]:
    """Return the modules that a rank imports at the start of a run."""
    found, waiting = set(), [PACKAGE / "run.py", PACKAGE / "__main__.py"]
    while waiting:
        path = waiting.pop()
        found.add(path)
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("fatescal"):
                module = PACKAGE / Path(*node.module.split(".")[1:])
                targets = [module.with_suffix(".py"), *(module / f"{a.name}.py" for a in node.names)]
                waiting += [t for t in targets if t.is_file() and t not in found]
    return found


def test_a_rank_starts_without_heavy_libraries():
    heavy = {"scipy", "pandas", "xarray", "matplotlib", "arviz_stats", "sklearn", "pint", "netCDF4", "numba"}
    for path in reachable():
        if part(path) == "report" or "canopy" in path.parts:
            continue  # imported inside functions
        for name, top in imports(path):
            assert not (top and name in heavy), f"{path.name} imports {name} at module level"
