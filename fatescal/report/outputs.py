"""The files of a finished run, made from its stages alone: tables, chains, report."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import numpy as np

from fatescal.diagnostics import scores
from fatescal.report import annual_section, inference_data, parameter_tables, residual_tables
from fatescal.report.csv_table import write_csv
from fatescal.report.results import Results
from fatescal.storage import atomic
from fatescal.storage.records import Scorecard

FIGURES = "figures"  # folder below the run's


def write(results: Results, directory: Path, figures: bool = False) -> Path:
    """Write tables and report into the run's folder, each whole or not at all; return the page.

    Parameters
    ----------
    figures : bool
        Whether each figure becomes files for a paper too, which takes longer than all else. Where a run has
        such files already they are always written anew.
    """
    from fatescal.report import figure_files  # matplotlib, for root alone and only here
    from fatescal.report.page import write as write_page
    from fatescal.report.registry import made_sections

    card, posterior = results.scorecard, results.posterior
    if card is not None:
        names = ("variable", "period", "ensemble", "score", "value")
        units = scores.units_of(card, {v: results.unit(v) for v in results.variables})
        columns = [*(getattr(card, name) for name in names), units]
        write_csv(directory / "scorecard.csv", [*names, "unit"], zip(*columns, strict=True))
        atomic.write(directory / "scorecard.txt", lambda part: part.write_text(_scored(results, card)))
    else:
        _remove(directory, "scorecard.csv", "scorecard.txt")
    if posterior is not None:
        following = [name for name in results.prior.rules if name in posterior.draws_following]
        header = [*posterior.parameter, *following]
        draws = np.column_stack(
            [posterior.draws_theta, *(posterior.draws_following[name] for name in following)]
        )
        write_csv(directory / "posterior.csv", header, draws)
        write_csv(directory / "correlations.csv", *parameter_tables.correlations(results))
        atomic.write(directory / "posterior.nc", lambda part: _write_chains(part, results))
    else:
        _remove(directory, "posterior.csv", "posterior.nc", "correlations.csv")
    write_csv(directory / "residuals.csv", *residual_tables.columns(results))
    write_csv(directory / "residual_autocorrelation.csv", *residual_tables.correlations(results))
    write_csv(directory / "annual_sums.csv", *annual_section.sums(results))
    write_csv(directory / "parameters.csv", *parameter_tables.columns(results))
    sections = made_sections()
    page = write_page(results, directory / "report", sections)
    if figures or (directory / FIGURES).is_dir():
        figure_files.write(results, directory / FIGURES, sections)
    return page


def _remove(directory: Path, *stale: str) -> None:
    """Remove files of what a run has reached no more, since a stage was reset."""
    for name in stale:
        with suppress(FileNotFoundError):
            (directory / name).unlink()


def _scored(results: Results, card: Scorecard) -> str:
    """Return the scorecard as text, under the answer whether its posterior may be used."""
    head, units = "\n".join(results.answer.lines), {v: results.unit(v) for v in results.variables}
    doubts = "".join(f"\n{doubt.why}" for doubt in results.overconfident)
    return f"{head}\n\n{scores.render(card, units)}\n{doubts}"


def _write_chains(path: Path, results: Results) -> None:
    """Write the groups of ArviZ's InferenceData."""
    inference_data.tree(results).to_netcdf(path)
