"""The notebooks of docs/notebooks, executed as a user does: all cells in order, in one process."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest
from linear import QUICK, fatescal, run_program, write_problem

NOTEBOOKS = Path(__file__).parents[1] / "docs" / "notebooks"
EXECUTE = """
import json, sys
names = {"__name__": "__main__"}
for cell in json.load(open(sys.argv[1], encoding="utf-8"))["cells"]:
    if cell["cell_type"] == "code":
        exec(compile("".join(cell["source"]), cell["id"], "exec"), names)
exec(sys.argv[2], names)
"""


def executed(name: str, folder: Path, afterwards: str = "") -> None:
    command = [sys.executable, "-c", EXECUTE, str(NOTEBOOKS / name), afterwards]
    done = run_program(command, folder, MPLBACKEND="agg")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("path", sorted(NOTEBOOKS.glob("*.ipynb")), ids=lambda path: path.stem)
def test_notebooks_are_kept_without_outputs(path: Path) -> None:
    book = json.loads(path.read_text(encoding="utf-8"))
    assert (book["nbformat"], book["nbformat_minor"]) == (4, 5)
    for cell in book["cells"]:
        assert set(cell) - {"execution_count", "outputs"} == {"cell_type", "id", "metadata", "source"}
        assert cell.get("outputs", []) == []
        assert cell.get("execution_count") is None


@pytest.mark.mpi
def test_the_tour_reads_a_finished_run(tmp_path: Path) -> None:
    done = fatescal(1, write_problem(tmp_path, emulate=QUICK, posterior={"members": 20}))
    assert "May I use this posterior?" in done.stdout, done.stderr
    (tmp_path / "runs").mkdir()
    shutil.move(tmp_path / "run", tmp_path / "runs" / "hyytiala_twin")
    executed("tour.ipynb", tmp_path, "assert 'GPP' in figure.axes[0].figure.get_supylabel()")
    assert (tmp_path / "fit-GPP.pdf").read_bytes()[:4] == b"%PDF"


@pytest.mark.mpi
def test_an_own_model_is_calibrated_to_its_truth(tmp_path: Path) -> None:
    close = "assert (abs(found.mean() - pd.Series(truth)) < 4 * found.std()).all(), found.describe()"
    executed("own_model.ipynb", tmp_path, f"{close}\nassert run.answer.headline == 'confirmed by the model'")
