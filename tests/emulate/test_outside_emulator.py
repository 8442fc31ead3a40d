"""An emulator from another package: one class, one entry point; and packages that cannot be used."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import h5py
import pytest
from linear import checked, fatescal, run_program, write_problem

EMULATOR = '''
"""A plane through each latent output by least squares, for models that are nearly linear."""

from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

import numpy as np
from fatescal.base.options import Field, Positive
from fatescal.emulate.base import Emulator
from fatescal.emulate.encoder import encode
from fatescal.emulate.kernels import trend
from fatescal.storage.records import Surrogate, array


@dataclass(frozen=True, eq=False, kw_only=True)
class PolynomialSurrogate(Surrogate):
    coefficients: np.ndarray = array("B K")
    variance: np.ndarray = array("K")


class Polynomial:
    def __init__(self, surrogate):
        self.surrogate, self.nugget = surrogate, surrogate.variance
        h = trend(surrogate.u, 1)
        self.inverse, self.hat = np.linalg.inv(h.T @ h), h @ np.linalg.inv(h.T @ h) @ h.T

    def __call__(self, u):
        h = trend(u, 1)
        spread = 1 + np.einsum("mb,bc,mc->m", h, self.inverse, h)
        return h @ self.surrogate.coefficients, spread[:, None] * self.nugget

    def covariance(self, u):
        h = trend(u, 1)
        return self.nugget[:, None, None] * (np.eye(len(u)) + h @ self.inverse @ h.T)

    def hold_out(self, outputs, groups):
        mean, variance = np.empty((2, len(groups), len(self.nugget)))
        rest = np.eye(len(outputs)) - self.hat
        for g, rows in enumerate(groups):
            inverse = np.linalg.inv(rest[np.ix_(rows, rows)])
            mean[g] = outputs[rows[0]] - inverse[0] @ (rest @ outputs)[rows]
            variance[g] = self.nugget * inverse[0, 0]
        return mean, variance


ready = lru_cache(maxsize=2)(Polynomial)


class PolynomialEmulator(Emulator):
    """Polynomials of the outputs."""

    kind: ClassVar[str] = "polynomial"

    noise: Positive = 1e-3
    """least sd of an output"""

    @property
    def record(self):
        return PolynomialSurrogate

    def fit(self, rng, training, obs, map=None):
        near = np.ones(len(training.u), dtype=bool)
        mean, basis, latent = encode(obs, training.predictions, near, training.u.shape[1])
        h = trend(training.u, 1)
        coefficients = np.linalg.lstsq(h, latent, rcond=None)[0]
        variance = np.maximum(np.var(latent - h @ coefficients, axis=0), self.noise**2)
        return PolynomialSurrogate(
            mean=mean, basis=basis, u=training.u, latent=latent, scores=np.ones(latent.shape[1]),
            coefficients=coefficients, variance=variance,
        )

    def conditioned(self, surrogate):
        return ready(surrogate)

    def misfit(self, surrogate, obs, mean, variance):
        y = obs.whiten(obs.y) - surrogate.mean
        target = surrogate.basis.T @ y
        error2 = (target - mean) ** 2
        phi = 0.5 * (np.sum(error2, axis=1) + y @ y - target @ target)
        return phi, np.sqrt(np.sum(error2 * variance + 0.5 * variance**2, axis=1))

    def log_likelihood(self, surrogate, obs):
        return lambda u: -self.misfit(surrogate, obs, *self.predict(surrogate, u))[0]
'''


def package(folder: Path, module: str, source: str, **points: str) -> str:
    """Write a package and its entry points as an installer does; return the PYTHONPATH to find it on."""
    folder.mkdir(exist_ok=True)
    (folder / f"{module}.py").write_text(source)
    about = folder / f"{module}-1.0.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.0\n")
    lines = "".join(f"{name} = {value}\n" for name, value in points.items())
    (about / "entry_points.txt").write_text(f"[fatescal.emulators]\n{lines}")
    return os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH")]))


@pytest.fixture
def polynomial(tmp_path: Path) -> str:
    entry = {"polynomial": "others_polynomial:PolynomialEmulator"}
    return package(tmp_path / "site", "others_polynomial", EMULATOR, **entry)


@pytest.mark.mpi
@pytest.mark.slow
def test_an_emulator_from_another_package_is_sampled_by_its_name(tmp_path: Path, polynomial: str) -> None:
    path = write_problem(
        tmp_path, emulate={"target": "polynomial", "noise": 0.01, "force": True, "rounds": 0}
    )
    done = fatescal(2, path, PYTHONPATH=polynomial)
    assert done.returncode in (0, 1), done.stderr  # 1: the model does not confirm the posterior
    assert "Traceback" not in done.stderr
    with h5py.File(tmp_path / "run" / "stages" / "surrogate-00.h5") as file:
        assert (file.attrs["record"], file["variance"].attrs["dims"]) == ("PolynomialSurrogate", "K")
    (tmp_path / "run" / "stages" / "verdict-00.h5").unlink()  # it goes on from what the emulator remembers
    again = fatescal(2, path, PYTHONPATH=polynomial)
    assert again.returncode == done.returncode, again.stderr
    assert fatescal(0, "report", tmp_path / "run", PYTHONPATH=polynomial).returncode == 0


def test_its_options_are_in_the_schema(tmp_path: Path, polynomial: str) -> None:
    command = [sys.executable, "-m", "fatescal", "schema"]
    described = json.loads(run_program(command, tmp_path, PYTHONPATH=polynomial).stdout)
    own = next(one for one in described["$defs"].values() if one["title"] == "Emulate_polynomial")
    assert own["properties"]["noise"]["description"] == "least sd of an output"
    assert own["properties"]["target"]["const"] == "polynomial"
    assert {"force", "rounds"} <= own["properties"].keys()
    assert len(described["properties"]["emulate"]["oneOf"]) == 3


def test_a_wrong_option_of_it_is_told_in_words(tmp_path: Path, polynomial: str) -> None:
    mistakes: dict[str, dict[str, Any]] = {
        "unknown emulator 'polynomials'; did you mean 'polynomial'?": {"target": "polynomials"},
        "emulate.nois: unknown key; did you mean 'noise'?": {"target": "polynomial", "nois": 2},
        "emulate.noise: input should be greater than 0, got 0": {"target": "polynomial", "noise": 0},
        "`variance` is an option of target outputs, not of polynomial": {
            "target": "polynomial",
            "variance": "auto",
        },
        "`noise` is an option of target polynomial, not of outputs": {"noise": 2},
    }
    told = checked(tmp_path, polynomial, [{"emulate": raw} for raw in mistakes.values()])
    for words, (code, message) in zip(mistakes, told, strict=True):
        assert (code, words in message, "Traceback" in message) == (2, True, False), message


HEAD = """
from fatescal.emulate.base import Emulator
from fatescal.emulate.output_emulator import OutputsEmulator
"""
BROKEN = {  # by name in a config: a module, what its entry point names, and what is said of it
    "absent": ("import no_such_module\n", "Own", "ModuleNotFoundError"),
    "misnamed": (HEAD, "Missing", "AttributeError"),
    "function": ("def own(): pass\n", "own", "it is no class of the family"),
    "other-kind": (
        HEAD + "class Own(OutputsEmulator): kind = 'third'\n",
        "Own",
        "another name than the class",
    ),
    "reserved": (
        HEAD + "class Own(OutputsEmulator):\n    kind = 'reserved'\n    rounds: int = 3\n",
        "Own",
        "has an option `rounds`, a key of `emulate` whatever the emulator",
    ),
    "half": (HEAD + "class Own(Emulator): kind = 'half'\n", "Own", "the class lacks conditioned, fit"),
}


def test_a_package_that_cannot_be_used_is_named_where_its_emulator_is_chosen(tmp_path: Path) -> None:
    python_path = ""
    for number, (name, (source, attribute, _)) in enumerate(BROKEN.items()):
        module = f"others_{number}"
        python_path = package(tmp_path / "site", module, source, **{name: f"{module}:{attribute}"})
    told = checked(tmp_path, python_path, [{"emulate": {"target": name}} for name in (*BROKEN, "outputs")])
    for number, (name, (code, message)) in enumerate(zip(BROKEN, told[:-1], strict=True)):
        assert code == 2, message
        assert f"emulate.target: {name}: others_{number} brings it by others_{number}:" in message
        assert BROKEN[name][2] in message
        assert "Traceback" not in message
    assert told[-1][0] == 0, told[-1]
