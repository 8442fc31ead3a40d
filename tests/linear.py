"""The linear problem as a user would pose it, and its exact posterior."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml
from conftest import mpi_command, mpi_environment
from linear_model import N_DAYS, fluxes

if TYPE_CHECKING:
    from fatescal.config import Machine
    from fatescal.storage.records import Evaluation

MODEL = Path(__file__).parent / "linear_model.py"
PRIOR = {"mean": (5.0, 1.0), "wave": (1.0, 0.5), "trend": (0.0, 0.8)}
SD = {"GPP": 1.5, "ET": 0.8}
TRUTH = {"mean": 5.6, "wave": 0.5, "trend": 0.7}
CALIBRATION_DAYS = 60
QUICK = {"target": "misfit"}  # an emulator of half the time, for runs that try something else


def write_problem(folder: Path, *options: str, **changes: dict) -> Path:
    """Write observations and config of the linear problem; return the config's path.

    `options` go to the model's command line; `changes` update the sections of the config.
    """
    noise = np.random.default_rng(7)
    made = {k: np.array(v) + SD[k] * noise.standard_normal(N_DAYS) for k, v in fluxes(TRUTH).items()}
    days = np.datetime64("2004-01-01") + np.arange(N_DAYS)
    rows = "\n".join(
        f"{d},{g!r},{e!r}" for d, g, e in zip(days, *(made[k].tolist() for k in made), strict=True)
    )
    (folder / "fluxes.csv").write_text(f"# made by tests/linear.py\ndate,GPP,ET\n{rows}\n")
    config: dict[str, Any] = {
        "run": {"name": "linear", "directory": str(folder / "run"), "seed": 3},
        "model": {
            "kind": "command",
            "command": [sys.executable, "-SE", str(MODEL), *options],
            "timeout": "60 s",
        },
        "parameters": {
            name: {"prior": {"kind": "normal", "mean": mean, "sd": sd}} for name, (mean, sd) in PRIOR.items()
        },
        "observations": {
            "file": "fluxes.csv",
            "time_column": "date",
            "calibration": ["2004-01-01", "2004-02-29"],
            "validation": ["2004-03-01", "2004-03-30"],
            "variables": {
                "GPP": {"model": "GPP", "unit": "g C m-2 d-1", "error": {"sd": SD["GPP"]}},
                "ET": {"model": "ET", "unit": "mm d-1", "error": {"sd": SD["ET"]}},
            },
        },
        "calibrate": {"scheme": "ienks", "members": 20, "iterations": 2},
        "posterior": {"members": 12},
    }
    for section, values in changes.items():
        config.setdefault(section, {}).update(values)
    path = folder / "linear.yaml"
    path.write_text(yaml.safe_dump(config, sort_keys=False))
    return path


def exact_posterior(folder: Path, correlation: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and sd (3) of the parameters given the calibration period, by the normal equations.

    `correlation` (3, 3) is that of the prior; None: there is none.
    """
    table = np.genfromtxt(folder / "fluxes.csv", delimiter=",", skip_header=2, usecols=(1, 2))[
        :CALIBRATION_DAYS
    ]
    base = fluxes(dict.fromkeys(PRIOR, 0.0))
    rows, rest = [], []
    for column, (name, sd) in enumerate(SD.items()):
        gradient = [
            np.array(fluxes({p: float(p == q) for p in PRIOR})[name]) - np.array(base[name]) for q in PRIOR
        ]
        rows.append(np.array(gradient)[:, :CALIBRATION_DAYS].T / sd)
        rest.append((table[:, column] - np.array(base[name])[:CALIBRATION_DAYS]) / sd)
    a, y = np.concatenate(rows), np.concatenate(rest)
    prior_mean, prior_sd = (np.array(x) for x in zip(*PRIOR.values(), strict=True))
    correlation = np.eye(len(PRIOR)) if correlation is None else correlation
    prior_precision = np.linalg.inv(correlation * np.outer(prior_sd, prior_sd))
    precision = a.T @ a + prior_precision
    return np.linalg.solve(precision, a.T @ y + prior_precision @ prior_mean), np.sqrt(
        np.diag(np.linalg.inv(precision))
    )


def draws(run: Path) -> np.ndarray:
    """Return the draws (N, 3) in a run's `posterior.csv`."""
    with open(run / "posterior.csv") as file:
        return np.array([[float(row[name]) for name in PRIOR] for row in csv.DictReader(file)])


def require_exact(folder: Path, correlation: np.ndarray | None = None) -> None:
    """Require of the run in a folder mean and sd of the exact posterior, within 0.1 sd and 10 %."""
    found = draws(folder / "run")
    mean, sd = exact_posterior(folder, correlation)
    assert (np.abs(found.mean(axis=0) - mean) < 0.1 * sd).all()
    np.testing.assert_allclose(found.std(axis=0), sd, rtol=0.1)


def run_program(
    command: list[str], folder: Path, timeout: float = 900, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run a command in a folder, as a user without a terminal does."""
    return subprocess.run(
        command,
        env={**mpi_environment(), **environment},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=timeout,
        stdin=subprocess.DEVNULL,
    )


def fatescal(
    n_ranks: int, *arguments: object, timeout: float = 900, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run the program on n ranks (0: without mpirun); the last argument is a path."""
    words = ["-m", "fatescal", *map(str, arguments)]
    command = mpi_command(n_ranks, *words) if n_ranks else [sys.executable, *words]
    return run_program(command, Path(str(arguments[-1])).parent, timeout, **environment)


def write_two_years(folder: Path, *options: str, **changes: dict) -> Path:
    """Write the linear problem moved to 17 November 2003, 45 days in each of two years; return the
    config's path.
    """
    model = folder / "model.py"
    model.write_text(MODEL.read_text().replace("days since 2004-01-01", "days since 2003-11-17"))
    config = write_problem(
        folder,
        model={"command": [sys.executable, "-SE", str(model), *options]},
        observations={"calibration": ["2003-11-17", "2004-02-14"], "validation": None},
        **changes,
    )
    head, names, *rows = (folder / "fluxes.csv").read_text().splitlines()
    days = np.datetime64("2003-11-17") + np.arange(len(rows))
    moved = [f"{day},{row.split(',', 1)[1]}" for day, row in zip(days, rows, strict=True)]
    (folder / "fluxes.csv").write_text("\n".join([head, names, *moved]) + "\n")
    return config


def evaluated(config: Path, machine: Machine | None = None) -> Evaluation:
    """Return what an ensemble of a config comes to; on root."""
    from fatescal import config as settings
    from fatescal.hpc.communicator import Communicator
    from fatescal.storage.store import Store
    from fatescal.workflow.problem import assemble

    comm = Communicator()
    chosen = settings.load(config).on(machine or settings.Machine())
    problem = assemble(chosen, comm)
    u = np.random.default_rng(5).normal(size=(11, 3))
    store = Store(config.parent / "run" / "stages", comm)
    comm.on_root(lambda: store.folder.mkdir(parents=True, exist_ok=True))
    result = problem.members.evaluate("evaluation-00", u, comm, store)
    assert result is not None or not comm.is_root
    return result  # type: ignore[return-value]


CHECK = """
import contextlib, io, json, sys
from fatescal.__main__ import main
results = []
for path in sys.argv[1:]:
    with contextlib.redirect_stderr(io.StringIO()) as err, contextlib.redirect_stdout(io.StringIO()):
        results.append((main(["check", path]), err.getvalue()))
print(json.dumps(results))
"""


def checked(folder: Path, python_path: str, changes: list[dict[str, Any]]) -> list[tuple[int, str]]:
    """Return exit code and message of `check` for the problem with each of some changes, by one process."""
    paths = []
    for number, sections in enumerate(changes):
        (folder / f"config-{number}").mkdir()
        paths.append(write_problem(folder / f"config-{number}", **sections))
    command = [sys.executable, "-c", CHECK, *map(str, paths)]
    done = run_program(command, folder, PYTHONPATH=python_path)
    assert done.returncode == 0, done.stderr
    return [(code, message) for code, message in json.loads(done.stdout.splitlines()[-1])]
