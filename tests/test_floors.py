"""The architecture, read off the imports: rooms only look down, every heavy library has one door."""

from __future__ import annotations

import ast
import re
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
    "config",
    "sample",
    "diagnostics",
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
    entries = [p.name for p in PACKAGE.iterdir() if p.name != "__pycache__"]
    assert len(entries) <= 18, sorted(entries)


# Files whose comments tell of experiments with CLM-FATES, or name its conventions: the list may only shrink.
NAMING_A_MODEL = {
    "emulate/encoder.py",
    "emulate/fit.py",
    "emulate/kernels.py",
    "emulate/likelihood.py",
    "hpc/schedulers/base.py",
    "observations/units.py",
    "observations/windows.py",
}


def test_nothing_but_its_own_folder_knows_clm_fates():
    """No name, text, comment or import; the embedded model has its parameter names, the registry a line."""
    word = re.compile(r"\b(cime|ctsm|clm_fates|fates)\b", re.IGNORECASE)
    naming = set()
    for path in FILES:
        name = path.relative_to(PACKAGE).as_posix()
        if not name.startswith(("models/clm_fates/", "models/canopy/")) and word.search(path.read_text()):
            naming.add(name)
    assert naming <= NAMING_A_MODEL | {"models/registry.py"}
    line = "from fatescal.models.clm_fates.clm_options import ClmFatesOptions"
    left = (PACKAGE / "models/registry.py").read_text().replace(line, "")
    assert not word.search(left.replace("ClmFatesOptions", ""))
