"""A scheme from another package: one class, one entry point; and packages whose schemes cannot be used."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import h5py
import pytest
from linear import QUICK, checked, fatescal, require_exact, run_program, write_problem

SCHEME = '''
"""A deterministic ensemble transform in equal steps, that remembers the mean of each ensemble."""

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import numpy as np
from fatescal.base.linalg import centred, symmetric_function
from fatescal.base.options import Count, Field, GoesWith, Positive
from fatescal.storage.declaration import array
from fatescal.storage.records import KalmanInfo, KalmanState
from fatescal.update.base import UpdateScheme
from fatescal.update.residuals import misfit, whitened_residuals
from fatescal.update.survivors import survivors


@dataclass(frozen=True, eq=False, kw_only=True)
class TrailState(KalmanState):
    means: np.ndarray = array("I P")


class Transform(UpdateScheme):
    """Ensemble transform in equal steps."""

    kind: ClassVar[str] = "etkf-steps"

    steps: Count = 3
    """number of equal steps"""
    prior_spread: Literal["kept", "inflated"] = "kept"
    """whether the first ensemble is widened"""
    inflation: Annotated[Positive, GoesWith("prior_spread", "inflated")] = 1.0
    """factor by which the first ensemble is widened"""

    @property
    def planned_updates(self):
        return self.steps

    @property
    def record(self):
        return TrailState

    def step(self, rng, state, predictions, obs):
        alive = survivors(predictions, state.u.shape[1], n_started=len(state.u), fraction=self.min_survivors)
        residuals = whitened_residuals(predictions, obs, alive)
        innovation, minus_y = centred(residuals)
        mean, anomalies = centred(state.u[alive])
        scale = (len(anomalies) - 1) * self.steps
        gram = minus_y @ minus_y.T / scale
        shrink = symmetric_function(lambda s2: 1 / np.sqrt(1 + s2), gram)
        inner = np.linalg.solve(np.eye(len(gram)) + gram, minus_y @ innovation)
        u = mean - anomalies.T @ inner / scale + shrink @ anomalies
        means = np.vstack([state.means if isinstance(state, TrailState) else np.empty((0, len(mean))), mean])
        n, last = state.iteration + 1, state.iteration + 1 == self.steps
        info = KalmanInfo(float(self.steps), misfit(residuals), u.std(axis=0, ddof=1))
        return TrailState(u=u, iteration=n, pseudo_time=n / self.steps, finished=last, means=means), info
'''


def package(folder: Path, module: str, source: str, **points: str) -> str:
    """Write a package and its entry points as an installer does; return the PYTHONPATH to find it on."""
    (folder / f"{module}.py").write_text(source)
    about = folder / f"{module}-1.0.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.0\n")
    lines = "".join(f"{name} = {value}\n" for name, value in points.items())
    (about / "entry_points.txt").write_text(f"[fatescal.schemes]\n{lines}")
    return os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH")]))


@pytest.fixture
def etkf(tmp_path: Path) -> str:
    folder = tmp_path / "site"
    folder.mkdir()
    return package(folder, "others_etkf", SCHEME, **{"etkf-steps": "others_etkf:Transform"})


@pytest.mark.mpi
@pytest.mark.slow
def test_a_scheme_from_another_package_calibrates_by_its_name(tmp_path: Path, etkf: str) -> None:
    calibrate = {"scheme": "etkf-steps", "steps": 2, "iterations": None}
    path = write_problem(tmp_path, calibrate=calibrate, emulate=QUICK)
    done = fatescal(2, path, PYTHONPATH=etkf)
    assert done.returncode == 0, done.stderr
    require_exact(tmp_path)
    stages = tmp_path / "run" / "stages"
    assert not (stages / "ensemble-03.h5").exists()
    with h5py.File(stages / "ensemble-02.h5") as file:
        assert (file.attrs["record"], file["means"].attrs["dims"]) == ("TrailState", "I P")
        assert file["means"].shape == (2, 3)
    (stages / "ensemble-02.h5").unlink()  # it goes on from what the scheme remembers
    again = fatescal(2, path, PYTHONPATH=etkf)
    assert again.returncode == 0, again.stderr
    assert fatescal(0, "report", tmp_path / "run", PYTHONPATH=etkf).returncode == 0


def test_its_options_are_in_the_schema(tmp_path: Path, etkf: str) -> None:
    command = [sys.executable, "-m", "fatescal", "schema"]
    described = json.loads(run_program(command, tmp_path, PYTHONPATH=etkf).stdout)
    own = next(one for one in described["$defs"].values() if one["title"] == "Calibrate_etkf-steps")
    assert own["properties"]["steps"]["description"] == "number of equal steps"
    assert own["properties"]["scheme"]["const"] == "etkf-steps"
    assert {"members", "design", "force", "min_survivors"} <= own["properties"].keys()
    assert len(described["properties"]["calibrate"]["oneOf"]) == 4


def test_a_wrong_option_of_it_is_told_in_words(tmp_path: Path, etkf: str) -> None:
    mistakes: dict[str, dict[str, Any]] = {
        "calibrate: unknown scheme 'etkf-step'; did you mean 'etkf-steps'?": {"scheme": "etkf-step"},
        "calibrate.step: unknown key; did you mean 'steps'?": {"scheme": "etkf-steps", "step": 2},
        "calibrate.steps: input should be greater than or equal to 1, got 0": {
            "scheme": "etkf-steps",
            "steps": 0,
        },
        "`damping` is an option of scheme ienks, not of etkf-steps": {"scheme": "etkf-steps", "damping": 2},
        "`inflation` goes with `prior_spread: inflated`": {"scheme": "etkf-steps", "inflation": 2},
        "`steps` is an option of scheme etkf-steps, not of ienks": {"scheme": "ienks", "steps": 2},
        "at least 6, got 5": {"scheme": "etkf-steps", "members": 5},
    }
    told = checked(tmp_path, etkf, [{"calibrate": raw | {"iterations": None}} for raw in mistakes.values()])
    for words, (code, message) in zip(mistakes, told, strict=True):
        assert (code, words in message, "Traceback" in message) == (2, True, False), message


HEAD = "from fatescal.update.es_mda import ESMDA\nfrom fatescal.update.base import UpdateScheme\n"
BROKEN = {  # by name in a config: a module, what its entry point names, and what is said of it
    "absent": ("import no_such_module\n", "Own", "ModuleNotFoundError"),
    "stops": ("raise SystemExit('no licence')\n", "Own", "SystemExit: no licence"),
    "misnamed": (HEAD, "Missing", "AttributeError"),
    "function": (
        "def own(): pass\n",
        "own",
        "Expected a class that derives from UpdateScheme",
    ),
    "other-kind": (
        HEAD + "class Own(ESMDA): kind = 'third'\n",
        "Own",
        'Expected kind = "other-kind", got third',
    ),
    "reserved": (
        HEAD + "class Own(ESMDA):\n    kind = 'reserved'\n    members: int = 3\n",
        "Own",
        "it has an option `members`, a key of `calibrate` whatever the scheme",
    ),
    "half": (
        HEAD
        + "class Own(UpdateScheme):\n    kind = 'half'\n    planned_updates = property(lambda self: 1)\n",
        "Own",
        "the class lacks step",
    ),
    "own-start": (
        HEAD + "class Own(ESMDA):\n    kind = 'own-start'\n    def start(self, u): pass\n",
        "Own",
        "it overrides `start`",
    ),
}


def test_a_package_that_cannot_be_used_is_named_where_its_scheme_is_chosen(tmp_path: Path) -> None:
    folder = tmp_path / "site"
    folder.mkdir()
    for number, (name, (source, attribute, _)) in enumerate(BROKEN.items()):
        module = f"others_{number}"
        python_path = package(folder, module, source, **{name: f"{module}:{attribute}"})
    told = checked(
        tmp_path,
        python_path,
        [{"calibrate": {"scheme": name, "iterations": None}} for name in (*BROKEN, "ienks")],
    )
    for number, (name, (code, message)) in enumerate(zip(BROKEN, told[:-1], strict=True)):
        assert code == 2, message
        assert f"calibrate.scheme: unknown scheme '{name}'; others_{number} brings it by others_" in message
        assert f":{BROKEN[name][1]}, which cannot be used: " in message
        assert BROKEN[name][2] in message
        assert "Traceback" not in message
    assert told[-1][0] == 0, told[-1]
