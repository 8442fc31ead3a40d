"""The verb `report`: the files of a run, or of its folds, written again."""

from __future__ import annotations

import csv
from pathlib import Path

from fatescal.base.errors import BadInput
from fatescal.cli.run_folder import opened, results_of
from fatescal.diagnostics import scores
from fatescal.hpc.communicator import Communicator
from fatescal.report import outputs
from fatescal.storage import atomic
from fatescal.storage.records import Observations, Scorecard


def report(directory: Path, comm: Communicator) -> int:
    """Write the files and the report of a run again, from its stages alone; of folds, their mean scores."""
    folds = sorted(directory.glob("fold-*-of-*"))
    if folds and not (directory / "stages").is_dir():
        return _report_folds(directory, folds, comm)
    store = opened(directory, comm)
    if not store.path("observations").exists():
        raise BadInput(f"{directory} has nothing to report yet", hint=f"fatescal status {directory}")
    results = results_of(directory, store)
    print(f"report: {outputs.write(results, directory, figures=True)}")
    return 0


def _report_folds(directory: Path, folds: list[Path], comm: Communicator) -> int:
    """Print the mean scores of the finished folds and write them, with their sd, into ``folds.csv``."""
    counts = {folder.name.rsplit("-", 1)[-1] for folder in folds}
    if len(counts) > 1:
        raise BadInput(f"{directory} holds folds of {' and '.join(sorted(counts))}", hint="move one set away")
    stores = {folder.name: opened(folder, comm) for folder in folds if (folder / "stages").is_dir()}
    cards = {n: s.load("scorecard", Scorecard) for n, s in stores.items() if s.path("scorecard").exists()}
    wanted = [f"fold-{i}-of-{n}" for n in counts for i in range(1, int(n) + 1)]
    missing = [name for name in wanted if name not in cards]
    without = f"; missing: {', '.join(missing)}" if missing else ""
    print(f"{len(cards)} of {len(wanted)} folds are scored{without}")
    if not cards:
        return 1
    mean, sd = scores.over_folds(list(cards.values()))
    observed = stores[next(iter(cards))].load("observations", Observations)
    units = dict(zip(observed.variable.tolist(), observed.unit.tolist(), strict=True))
    print("mean over the folds; each validates with the years it was not fitted to")
    print(scores.render(mean, units))

    columns = (mean.variable, mean.period, mean.ensemble, mean.score, mean.value.tolist(), sd.tolist())

    def fill(part: Path) -> None:
        with open(part, "w", newline="", encoding="utf-8") as file:
            table = csv.writer(file, lineterminator="\n")
            table.writerow(["variable", "period", "ensemble", "score", "mean", "sd", "folds"])
            table.writerows([*row, len(cards)] for row in zip(*columns, strict=True))

    atomic.write(directory / "folds.csv", fill)
    print(f"report: {directory / 'folds.csv'}")
    return 1 if missing else 0
