"""Section "Parameters": from the prior over the iterations to the posterior."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from fatescal.base.types import Array
from fatescal.report.corner_plot import corner
from fatescal.report.figure import COLOUR, Plot, canvas, styled, wrap
from fatescal.report.markup import Markup, breakable, paragraph, rounded, spread, table
from fatescal.report.parameter_tables import U, correlated, density, draws, shown
from fatescal.report.results import Results, ran
from fatescal.report.section import ReportSection

COLUMNS = 3
MOST_IN_CORNER = 8
BINS = 40  # of the posterior's histogram


class Parameters(ReportSection):
    """From the prior over the iterations to the posterior."""

    kind = "parameters"
    title = "Parameters"

    def plots(self, results: Results) -> Sequence[Plot]:
        made = [
            Plot(
                "parameters",
                lambda: panels(results),
                _described(results),
                lambda: _data(results),
                vector=False,
            )
        ]
        if results.posterior is not None and 1 < len(results.parameter) <= MOST_IN_CORNER:
            sampled = results.posterior.draws_theta
            alt = "Corner plot of the posterior draws; the table of correlations below has its numbers"
            made.append(
                Plot(
                    "corner", lambda: corner(results), alt, lambda: (results.parameter, sampled), vector=False
                )
            )
        return made

    def content(self, results: Results) -> Sequence[object]:
        panels, *pairs = self.figures(results)
        content = [
            paragraph(
                "Above each axis: the prior's density (orange) and, once sampled, the posterior draws "
                "(blue); below: the members of every ensemble run, a dot each, with median and quartiles. A "
                "parameter the data inform has a posterior much narrower than its prior; one that piles up "
                "at an end of its prior contradicts the prior or makes up for an error of the model."
            ),
            panels.shown,
            shown(results),
            *_beside_prior(results),
            *_following(results),
        ]
        for pair in pairs:
            content += [
                paragraph(
                    "Pairs of parameters in the posterior: contours hold 50 % and 95 % of the draws, numbers "
                    "are correlations. A long thin ridge means that the data see only a combination of the "
                    "two."
                ),
                pair.shown,
            ]
        return [*content, *correlated(results)]


def _described(results: Results) -> str:
    """Return what the panels show, in words."""
    sampled, shifts = draws(results), []
    for p in range(len(results.parameter)):
        unit = f" {results.unit_of(p)}" if results.unit_of(p) else ""
        if sampled is not None:
            mean, sd = sampled[:, p].mean(), sampled[:, p].std()
            shifts.append(
                f"{results.name_of(p)} {mean:.3g} ± {sd:.2g}{unit}, default {results.default[p]:.3g}"
            )
    what = "Prior, iterations and posterior" if sampled is not None else "Prior and ensembles"
    return f"{what} of {len(results.parameter)} parameters" + (f": {'; '.join(shifts)}" if shifts else "")


def _data(results: Results) -> tuple[Sequence[str], list[Sequence[object]]]:
    """Return what the panels show as a table: densities with their abscissa, members with their stage."""
    theta, values = density(results)
    rows: list[Sequence[object]] = []
    for p, name in enumerate(results.parameter):
        rows += [
            (name, "prior density", *pair)
            for pair in zip(theta[:, p].tolist(), values[:, p].tolist(), strict=True)
        ]
        rows += [
            (name, f"{label}, member", x, "")
            for label, _, members in _strips(results)
            for x in members[:, p].tolist()
        ]
        sampled = draws(results)
        if sampled is not None:
            height, edges = np.histogram(sampled[:, p], bins=BINS, density=True)
            middles = (edges[1:] + edges[:-1]) / 2
            rows += [
                (name, "posterior density", *pair)
                for pair in zip(middles.tolist(), height.tolist(), strict=True)
            ]
    return ("parameter", "series", "value", "density"), rows


def _beside_prior(results: Results) -> list[Markup]:
    """Return the table of posterior and prior, and whether they are in conflict: none, or one."""
    if not results.conflicts:
        return []
    rows = [
        [
            breakable(name), rounded(c.shift), rounded(c.inside), rounded(c.lower), rounded(c.upper),
            ", ".join(c.reasons) or "none",
        ]
        for name, c in zip(results.names, results.conflicts, strict=True)
    ]  # fmt: skip
    header = [
        "parameter", "mean of the posterior [prior sd]", "share of the draws in the prior's central 95 %",
        "share at the lower bound", "share at the upper bound", "conflict",
    ]  # fmt: skip
    caption = (
        "The posterior beside its prior. A conflict means that the prior is too narrow, or that the "
        "parameter makes up for an error of the model."
    )
    return [table(header, rows, caption)]


def _following(results: Results) -> list[Markup]:
    """Return the table of parameters that are not calibrated: none, or one."""
    default = results.prior.following(results.default)
    if not default:
        return []
    sampled = draws(results)
    after = {} if sampled is None else results.prior.following(sampled)
    rows = [
        [
            breakable(name),
            str(results.prior.rules[name]),
            float(values[0]),
            *([spread(after[name].mean(), after[name].std())] if after else []),
        ]
        for name, values in default.items()
    ]
    header = ["not calibrated", "value", "default run", *(["posterior"] if after else [])]
    return [table(header, rows, "Given to the model beside the calibrated parameters.")]


@styled
def panels(results: Results) -> Figure:
    """Return a panel for each parameter: densities above, strips of the ensembles below."""
    n_rows = -(-len(results.parameter) // COLUMNS)
    strips = _strips(results)
    height = 1.5 + 0.19 * len(strips)
    figure = canvas(n_rows * height + 0.4)
    axes = figure.subplots(
        2 * n_rows, COLUMNS, squeeze=False,
        height_ratios=[1.1, 0.4 + 0.19 * len(strips)] * n_rows,
    )  # fmt: skip
    theta, values = density(results)
    for p in range(n_rows * COLUMNS):
        upper, lower = axes[2 * (p // COLUMNS), p % COLUMNS], axes[2 * (p // COLUMNS) + 1, p % COLUMNS]
        if p >= len(results.parameter):
            upper.remove()
            lower.remove()
            continue
        _densities(upper, results, p, theta[:, p], values[:, p])
        _strip_plot(lower, strips, p)
        low, high = _extent(results, strips, theta[:, p], p)
        for ax in (upper, lower):
            ax.set_xlim(low, high)
            ax.axvline(results.default[p], color=COLOUR["default"], lw=1.4, ls="--", label="default")
            if results.truth is not None:
                ax.axvline(results.truth[p], color=COLOUR["truth"], lw=1.6, label="truth")
        lower.set_xlabel(results.unit_of(p))
        if p % COLUMNS:
            lower.set_yticklabels([])
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper left", ncols=len(labels))
    return figure


def _extent(results: Results, strips: list, theta: Array, p: int) -> tuple[float, float]:
    """Return the axis of a panel: the prior within 3.3 standard deviations and all that is marked."""
    inside = theta[np.abs(U) < 3.3]
    marked = [inside[[0, -1]], *(e[:, p] for _, _, e in strips), results.default[[p]]]
    marked += [results.truth[[p]]] if results.truth is not None else []
    low, high = np.min(np.concatenate(marked)), np.max(np.concatenate(marked))
    margin = 0.02 * (high - low)
    return low - margin, high + margin


def _densities(ax, results: Results, p: int, theta: Array, values: Array) -> None:
    ax.fill_between(theta, values, color=COLOUR["prior"], alpha=0.3, lw=0)
    ax.plot(theta, values, color=COLOUR["prior"], lw=1.3, label="prior")
    sampled = draws(results)
    if sampled is not None:
        ax.hist(
            sampled[:, p], bins=BINS, density=True, color=COLOUR["posterior"], alpha=0.75, label="posterior"
        )
    ax.set_title(wrap(results.name_of(p), 38), loc="left")
    ax.set_yticks([])
    ax.spines["left"].set_visible(False)
    ax.tick_params(labelbottom=False)
    ax.set_ylim(0)


def _strips(results: Results) -> list[tuple[str, str, Array]]:
    """Return label, colour and members that ran (J, P) of every evaluation, in order."""
    return [
        (results.label(stage), COLOUR[results.role(stage)], evaluation.theta[ran(evaluation)])
        for stage, evaluation in results.history.items()
        if ran(evaluation).any()
    ]


def _strip_plot(ax, strips: list[tuple[str, str, Array]], p: int) -> None:
    for row, (_, colour, theta) in enumerate(strips):
        x = theta[:, p]
        # spread over the row by their number, so that dots part without random jitter
        y = row + 0.5 * (np.arange(len(x)) / max(len(x) - 1, 1) - 0.5)
        ax.scatter(x, y, s=5, color=colour, alpha=0.6, lw=0)
        low, median, high = np.quantile(x, [0.25, 0.5, 0.75])
        ax.plot([low, high], [row, row], color="#222222", lw=1)
        ax.plot(median, row, "o", ms=3.5, color="#222222")
    ax.set_yticks(range(len(strips)), [label for label, _, _ in strips])
    ax.set_ylim(len(strips) - 0.45, -0.55)
    ax.tick_params(axis="y", length=0)
