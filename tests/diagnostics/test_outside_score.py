"""A score of another package: one class, one entry point; it stands in the scorecard and on the page."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from linear import fatescal, write_problem

SCORE = '''
"""The Nash-Sutcliffe efficiency of the ensemble mean."""

import numpy as np
from fatescal.diagnostics.scores import Score


class NSE(Score):
    kind = "nash-sutcliffe"
    title = "NSE"
    unit = "1"
    best = 1.0
    description = "one minus the squared error over the variance of the observations"

    def value(self, y, ensemble, sd):
        return 1 - np.sum((y - ensemble.mean(axis=0)) ** 2) / np.sum((y - y.mean()) ** 2)
'''


def package(folder: Path, source: str) -> str:
    """Write a package with a score as an installer does; return the PYTHONPATH to find it on."""
    about = folder / "others_score-1.0.dist-info"
    about.mkdir(parents=True)
    (folder / "others_score.py").write_text(source)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: others-score\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[fatescal.scores]\nnash-sutcliffe = others_score:NSE\n")
    return os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH")]))


@pytest.mark.mpi
def test_a_score_of_another_package_is_in_scorecard_and_report(tmp_path: Path) -> None:
    path = write_problem(tmp_path, run={"stop_after": "prior", "scores": ["nash-sutcliffe", "rmse"]})
    outside = package(tmp_path / "site", SCORE)
    done = fatescal(1, path, PYTHONPATH=outside)
    assert done.returncode == 0, done.stderr
    run = tmp_path / "run"
    card = (run / "scorecard.txt").read_text()
    table = card.splitlines()[card.splitlines().index("") + 1 :]
    header = "GPP [g C m-2 d-1], calibration nash-sutcliffe rmse"
    assert " ".join(table[0].split()) == header
    assert len({len(line) for line in table if line}) == 1
    assert "GPP,calibration,prior,nash-sutcliffe," in (run / "scorecard.csv").read_text()
    page = (run / "report" / "index.html").read_text()
    assert '<th scope="col">NSE</th>' in page
    assert "<b>NSE</b>: one minus the squared error over the variance of the observations; best at 1" in page
    assert "CRPS" not in page

    for verb in ("report", "status"):  # where the package is not
        without = fatescal(1, verb, str(run))
        assert without.returncode == 0, without.stderr
        assert without.stderr == ""
    assert (run / "scorecard.txt").read_text() == card
    assert '<th scope="col">nash-sutcliffe</th>' in (run / "report" / "index.html").read_text()

    write_problem(tmp_path, run={"stop_after": "prior", "scores": ["rmse"]})
    other = fatescal(0, path, PYTHONPATH=outside)
    assert other.returncode == 2, other.stderr
    assert "run.scores" in other.stderr
    assert "reset" in other.stderr


@pytest.mark.parametrize(
    ("source", "scores", "words"),
    [
        (SCORE, ["nash-sutclif"], "unknown score 'nash-sutclif'; did you mean 'nash-sutcliffe'?"),
        (SCORE, ["rmse", "rmse"], "run.scores: rmse is named twice"),
        (SCORE, [], "run.scores: "),
        ("import no_such_module\n", ["nash-sutcliffe"], "which cannot be used: ModuleNotFoundError"),
        (SCORE.replace("def value", "def number"), ["nash-sutcliffe"], "the class lacks value"),
    ],
    ids=["misspelt", "twice", "none", "absent", "half"],
)
def test_a_score_that_cannot_be_used_is_told(
    tmp_path: Path, source: str, scores: list[str], words: str
) -> None:
    path = write_problem(tmp_path, run={"scores": scores})
    done = fatescal(0, "check", path, PYTHONPATH=package(tmp_path / "site", source))
    assert done.returncode == 2
    assert words in done.stderr
    assert "Traceback" not in done.stderr
