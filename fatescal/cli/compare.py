"""The verb `compare`: scores, posteriors and costs of several runs side by side."""

from __future__ import annotations

import csv
import math
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fatescal.base.errors import BadInput
from fatescal.cli.run_folder import opened, results_of
from fatescal.diagnostics.scores import units_of
from fatescal.hpc.communicator import Communicator
from fatescal.report import parameter_tables
from fatescal.report.results import Results


def compare(directories: Sequence[Path], comm: Communicator, form: str) -> int:
    """Print runs side by side, a column each: whether each may be used, scores, posterior, cost.

    A run that has not come so far has an empty cell. Of each the posterior ensemble is scored, or the last
    one that it has.
    """
    names = _names(directories)
    results = {}
    for name, directory in zip(names, directories, strict=True):
        store = opened(directory, comm)
        if not store.path("observations").exists():
            raise BadInput(f"{directory} has nothing to compare yet", hint=f"fatescal status {directory}")
        results[name] = results_of(directory, store)
    cells: dict[tuple[str, str, str], dict[str, str]] = {}
    for name, of_run in results.items():
        for key, value in _entries(of_run).items():
            cells.setdefault(key, {})[name] = value
    if form == "csv":
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(["group", "of", "unit", *names])
        writer.writerows([*key, *(row.get(name, "") for name in names)] for key, row in cells.items())
        return 0
    print(_table(cells, names))
    return 0


def _names(directories: Sequence[Path]) -> list[str]:
    """Return a name for each run: the folder's, or its whole path where that is not enough."""
    short = [directory.name for directory in directories]
    if len(set(short)) == len(short):
        return short
    if len(set(directories)) < len(directories):
        twice = next(d for d in directories if directories.count(d) > 1)
        raise BadInput(f"{twice} is named twice", expected="several runs")
    return [str(directory) for directory in directories]


def _entries(results: Results) -> dict[tuple[str, str, str], str]:
    """Return what is compared of one run, by group, what it is of, and unit."""
    entries = {("answer", "may I use it", ""): f"{results.answer.word}: {results.answer.headline}"}
    card = results.scorecard
    if card is not None:
        best = next(e for e in ("posterior", "last", "prior", "default") if e in card.ensemble)
        units = units_of(card, {v: results.unit(v) for v in results.variables})
        keys = zip(card.variable, card.period, card.ensemble, card.score, card.value, units, strict=True)
        for variable, period, ensemble, score, value, unit in keys:
            if ensemble == best:
                shown = unit if unit != "1" else ""
                entries["score", f"{variable} {period} {score}", shown] = f"{float(value):.3g}"
        entries["score", "of the ensemble", ""] = best
    sampled = parameter_tables.draws(results)
    for p, name in enumerate(results.parameter):
        if sampled is not None:
            moments = parameter_tables.Moments.of(sampled[:, p])
            entries["posterior", name, results.unit_of(p)] = _spread(moments.mean, moments.sd)
    batches = list(results.history.values())
    entries["cost", "model runs", ""] = str(sum(len(e.status) for e in batches))
    entries["cost", "failed", ""] = str(sum(int((~e.ok).sum()) for e in batches))
    entries["cost", "hours of model runs", "h"] = f"{sum(np.nansum(e.seconds) for e in batches) / 3600:.3g}"
    return entries


def _spread(mean: float, sd: float) -> str:
    """Return mean and sd, both to the second digit of the sd.

    >>> _spread(53.5412, 5.713), _spread(1234.5, 234.5), _spread(1.0, 0.0)
    ('53.5 +- 5.7', '1234 +- 234', '1 +- 0')
    """
    if not sd > 0:
        return f"{mean:.4g} +- {sd:.2g}"
    decimals = max(0, 1 - math.floor(math.log10(sd)))
    return f"{mean:.{decimals}f} +- {sd:.{decimals}f}"


def _table(cells: dict[tuple[str, str, str], dict[str, str]], names: Sequence[str]) -> str:
    """Return the comparison as aligned text, a block for each group."""
    head = max(len(f"  {of} [{unit}]") for _, of, unit in cells)
    wide = {n: max(len(n), *(len(row.get(n, "")) for row in cells.values())) for n in names}
    lines = [" " * head + "".join(f"  {name:>{wide[name]}}" for name in names)]
    for group in ("answer", "score", "posterior", "cost"):
        rows = {key: row for key, row in cells.items() if key[0] == group}
        lines += [group] if rows else []
        for (_, of, unit), row in rows.items():
            label = f"  {of} [{unit}]" if unit else f"  {of}"
            lines.append(f"{label:<{head}}" + "".join(f"  {row.get(n, ''):>{wide[n]}}" for n in names))
    return "\n".join(lines)
