"""Section "Chains": whether the sampler has converged, and how well its levels mixed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from fatescal.base.types import Array
from fatescal.diagnostics.convergence import Diagnosis, Mixing, mixing
from fatescal.report.figure import COLOUR, RUNS, Plot, canvas, styled, wrap
from fatescal.report.markup import Markup, breakable, element, number, paragraph, table
from fatescal.report.results import Results
from fatescal.report.section import ReportSection
from fatescal.sample.log_evidence import LogEvidence, evidence

COLUMNS = 2
SHOWN_STEPS = 400  # of a trace; more would only blacken the panel


class Chains(ReportSection):
    """Whether the sampler has converged, and how well its levels mixed."""

    kind = "chains"
    title = "Chains"
    needs = "sampled chains"

    def plots(self, results: Results) -> Sequence[Plot]:
        draws = results.cold
        if draws is None:
            return ()
        mixed, names = mixing(results.chains), results.names
        step = max(draws.shape[1] // SHOWN_STEPS, 1)
        traces = (
            (run, kept, *draws[run, kept, 0].tolist())
            for run in range(len(draws)) for kept in range(0, draws.shape[1], step)
        )  # fmt: skip
        edges = (np.r_[x, np.nan] for x in (mixed.rejection,))
        levels = zip(
            *(x.tolist() for x in (mixed.beta, mixed.acceptance, *edges, mixed.barrier)), strict=True
        )
        return (
            Plot(
                "traces", lambda: _traces(draws, names, step),
                f"Traces of the untempered level: {len(draws)} runs, {len(names)} parameters",
                lambda: (("run", "step", *results.parameter), traces),
                "One walker of every run" + (f", every {_ordinal(step)} step." if step > 1 else "."),
                vector=False,
            ),
            Plot(
                "ladder", lambda: _ladder(mixed),
                "Acceptance of local moves, rejection of swaps and barrier over the ladder of "
                f"{len(mixed.beta)} levels; the largest rejection is {mixed.rejection.max():.2f}",
                lambda: (("beta", "accepted", "rejected_with_next", "barrier"), levels),
            ),
        )  # fmt: skip

    def content(self, results: Results) -> Sequence[object] | None:
        draws = results.cold
        if draws is None:
            return None
        n_runs, n_steps, n_walkers, _ = draws.shape
        mixed = mixing(results.chains)
        traces, ladder = self.figures(results)
        content = [
            paragraph(
                f"{n_runs} independent tempered runs with {n_walkers} walkers each kept {n_steps} steps. ",
                "The traces of the untempered level must look alike for all runs (colours), without trend "
                "and without long pauses. R-hat of runs (nested R-hat) compares the runs with each other, "
                "R-hat of walkers each single chain with all others, as ArviZ does with posterior.nc; ESS is "
                "the number of independent draws the chains are worth (bulk: centre, tail: 5 % and 95 % "
                "quantiles), MCSE the standard error of the posterior mean that is due to sampling.",
            ),
            traces.shown,
        ]
        if results.diagnosis is not None:
            content.append(_of_parameters(results.diagnosis, results.names))
        content += [
            paragraph(
                "The ladder leads from the prior (β = 0) to the posterior (β = 1). Rejected swaps should be "
                "about equal between all neighbours and well below 1, local moves accepted with about 0.234; "
                f"a walker made the round trip prior to posterior {_rate(mixed.round_trip_rate)}, where the "
                f"swaps alone would allow {_rate(mixed.ideal_round_trip_rate)}."
            ),
            ladder.shown,
            _reference(results),
            _evidence(evidence(results.chains)),
        ]
        return content


def _ordinal(n: int) -> str:
    """Return 2nd, 3rd, 4th ... 11th, 21st."""
    suffix = {1: "st", 2: "nd", 3: "rd"}.get(n % 10, "th") if n % 100 not in (11, 12, 13) else "th"
    return f"{n}{suffix}"


def _rate(per_step: float) -> str:
    return f"once in {1 / per_step:.3g} steps" if per_step > 0 else "never"


@styled
def _traces(draws: Array, parameter: tuple[str, ...], step: int) -> Figure:
    """Return a panel for each parameter with the first walker of every run."""
    n_rows = -(-len(parameter) // COLUMNS)
    figure = canvas(1.5 * n_rows + 0.3)
    axes = figure.subplots(n_rows, COLUMNS, squeeze=False, sharex=True)
    steps = np.arange(0, draws.shape[1], step)
    for p, ax in enumerate(axes.flat):
        if p >= len(parameter):
            ax.remove()
            continue
        for run in range(len(draws)):
            ax.plot(steps, draws[run, ::step, 0, p], lw=0.6, alpha=0.8, color=RUNS[run % len(RUNS)])
        ax.set_title(wrap(parameter[p], 90), loc="left", fontsize=8)
    for ax in axes[-1]:
        ax.set_xlabel("kept step")
    return figure


def _of_parameters(diagnosis: Diagnosis, names: Sequence[str]) -> Markup:
    rows = zip(
        map(breakable, names),
        *(
            x.tolist()
            for x in (
                diagnosis.rhat,
                diagnosis.rhat_walkers,
                diagnosis.ess_bulk,
                diagnosis.ess_tail,
                diagnosis.mcse,
            )
        ),
        strict=True,
    )
    shown = table(
        ["parameter", "R-hat of runs", "R-hat of walkers", "bulk ESS", "tail ESS", "MCSE of the mean"], rows
    )
    if diagnosis.converged:
        return Markup(shown + paragraph("All thresholds of the config are met."))
    return Markup(
        shown + paragraph("Not met: ") + element("ul", *(element("li", r) for r in diagnosis.reasons))
    )


@styled
def _ladder(mixed: Mixing) -> Figure:
    level = np.arange(len(mixed.beta))
    figure = canvas(2.5)
    accepted, rejected, barrier = figure.subplots(1, 3)
    accepted.plot(level[1:], mixed.acceptance[1:], "o-", color=COLOUR["posterior"])
    accepted.axhline(0.234, color="#aaaaaa", lw=0.8)
    accepted.set_title("accepted local moves (the prior is drawn afresh)")
    rejected.bar(level[:-1] + 0.5, mixed.rejection, color=COLOUR["last"])
    rejected.set_title("rejected swaps of neighbours")
    barrier.plot(mixed.beta, mixed.barrier, "o-", color=COLOUR["prior"])
    barrier.set_title(f"barrier, in all {number(float(mixed.barrier[-1]))}")
    barrier.set_xlabel("β")
    for ax in (accepted, rejected):
        ax.set_ylim(0, 1)
        ax.set_xlabel("level (0: prior)")
    return figure


def _reference(results: Results) -> Markup:
    """Say how near the fitted normal is to the posterior, and how often the levels towards the prior
    moved.
    """
    blocks = results.chains
    rejected = np.mean([block.reference_rejected.mean(axis=0) for block in blocks], axis=0)
    every = int(blocks[-1].end_prior_every[0])
    return paragraph(
        f"A second ladder of {len(rejected)} levels leads to a normal fitted to the posterior's own draws: "
        f"swaps are rejected with at most {float(rejected.max()):.2f}. Where that is well below 1 its fresh "
        "draws reach the posterior within a few steps; the levels towards the prior, which find separate "
        f"modes, move every {_ordinal(every)} step."
        if every > 1
        else "A second ladder leads to a normal fitted to the posterior's own draws, which is far from the "
        f"posterior (swaps are rejected with up to {float(rejected.max()):.2f}): the levels towards the "
        "prior move every step."
    )


def _evidence(evidence: LogEvidence) -> Markup:
    return paragraph(
        "Log evidence (for comparing models and priors on the same data): ", evidence.log_z,
        f"; the estimators differ by {number(evidence.disagreement)}.",
        evidence.warning and f" {evidence.warning}.",
    )  # fmt: skip
