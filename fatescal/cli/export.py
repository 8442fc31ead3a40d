"""The verb `export`: a run as a folder to publish, without scratch, with checksums."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

import numpy as np

from fatescal.base.errors import BadInput, ModelFailed
from fatescal.base.types import Array
from fatescal.cli.run_folder import opened, results_of
from fatescal.config import Config
from fatescal.hpc.communicator import Communicator
from fatescal.hpc.launch import never
from fatescal.report import outputs
from fatescal.report.results import Results
from fatescal.storage import atomic
from fatescal.storage.linked_stages import link_stages
from fatescal.workflow import site_models
from fatescal.workflow.snapshot import Snapshot

SUMS = "SHA256SUMS"
FILES = (
    *("config.yaml", "model.json", "inputs.json", "run.log", "scorecard.csv", "scorecard.txt"),
    *("posterior.csv", "posterior.nc", "parameters.csv", "correlations.csv", "annual_sums.csv"),
    *("residuals.csv", "residual_autocorrelation.csv"),
)
FOLDERS = ("stages", "report", "figures")
ABOUT = """\
{answer}

A calibration by fatescal {version} ({git}), seed {seed}. What is here:

report/index.html     the whole result on one page; figures/ has each figure as PNG, PDF and csv
posterior.csv         posterior draws in physical units; posterior.nc all chains, for ArviZ
parameters.csv        mean, sd and quantiles of prior and posterior; correlations.csv
scorecard.csv         how well each ensemble predicts the observations; annual_sums.csv
parameter_files/      {written}
run.h5                all stages in one view (links to stages/): h5py, xarray, ncdump read it
config.yaml           the config with all defaults; model.json, inputs.json: what model and files were
{sums}            sha256sum -c {sums}
"""


def export(directory: Path, comm: Communicator, to: Path | None, n_members: int = 0) -> int:
    """Write a run into a new folder that can be published as it is; return the exit code.

    Parameters
    ----------
    directory : Path
        Of the run; it stays as it is, but for tables and report, which are written anew.
    comm : Communicator
    to : Path or None
        A folder that is not there yet, or empty; else NAME-export beside the run.
    n_members : int
        How many posterior members get parameter files, beside mean and median of the draws.
    """
    store = opened(directory, comm)
    if not store.path("observations").exists():
        raise BadInput(f"{directory} has nothing to export yet", hint=f"fatescal status {directory}")
    target = (directory.parent / f"{directory.name}-export" if to is None else to).absolute()
    if target.is_dir() and any(target.iterdir()):
        raise BadInput(f"{target} is not empty", expected="a new folder", hint="--to ANOTHER")
    if directory.absolute() in target.parents:
        raise BadInput(f"{target} is inside the run", expected="a folder elsewhere", hint="--to ANOTHER")
    results, snapshot = results_of(directory, store), Snapshot.read(directory)
    sets = {name: snapshot.space.named(theta) for name, theta in _sets(results, n_members)}
    outputs.write(results, directory, figures=True)
    target.mkdir(parents=True, exist_ok=True)
    for name in FILES:
        with suppress(FileNotFoundError):
            shutil.copy2(directory / name, target / name)
    for name in FOLDERS:
        if (directory / name).is_dir():
            shutil.copytree(directory / name, target / name, ignore=shutil.ignore_patterns(".*"))
    finished = store.keys()
    link_stages(target / "run.h5", {key: Path("stages", f"{key}.h5") for key in finished})
    written = _parameter_files(snapshot.config, sets, target / "parameter_files")
    _about(target, results, written)
    files = sorted(path for path in target.rglob("*") if path.is_file())
    sums = "".join(f"{_digest(path)}  {path.relative_to(target)}\n" for path in files)
    atomic.write_text(target / SUMS, sums)
    size = sum(path.stat().st_size for path in files)
    print(f"{len(files)} files, {size / 1e6:.1f} MB, in {target}\n{written}")
    return 0


def _about(target: Path, results: Results, written: str) -> None:
    text = ABOUT.format(
        answer="\n".join(results.answer.lines),
        version=results.versions.get("fatescal", "of unknown version"),
        git=results.versions.get("git", "unknown"),
        seed=results.settings.get("run", {}).get("seed", 1),
        written=written,
        sums=SUMS,
    )
    atomic.write_text(target / "README.txt", text)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sets(results: Results, n_members: int) -> Iterator[tuple[str, Array]]:
    """Yield name and parameters (P) of what gets parameter files."""
    posterior = results.posterior
    if posterior is None:
        return
    if not 0 <= n_members <= len(posterior.theta):
        most = len(posterior.theta)
        raise BadInput(f"--members {n_members}", expected=f"0 to {most}, the posterior members")
    yield "mean", posterior.draws_theta.mean(axis=0)
    yield "median", np.median(posterior.draws_theta, axis=0)
    for j in range(n_members):
        yield f"member-{j + 1:04d}", posterior.theta[j]


def _parameter_files(config: Config, sets: Mapping[str, Mapping[str, float]], folder: Path) -> str:
    """Write each set of parameters as the model reads it, for every site; say what was written."""
    if not sets:
        return "none: no posterior was sampled"
    try:
        for name, theta in sets.items():
            _of_set(config, theta, folder / name)
    except (BadInput, ModelFailed, OSError) as error:
        return f"NOT written: {error}"
    return f"parameter files of {', '.join(sets)}"


def _of_set(config: Config, theta: Mapping[str, float], folder: Path) -> None:
    for site, site_config in config.by_site.items():
        own = folder / site if site else folder
        own.mkdir(parents=True)
        located = site_models.located(site_config)
        site_models.model(located, never).parameter_files(theta, own)
