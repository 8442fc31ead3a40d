"""Section "Parameters": from the prior over the iterations to the posterior."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from fatescal.base.types import Array
from fatescal.report.figure import COLOUR, WIDTH, canvas, embed, styled, wrap
from fatescal.report.markup import Markup, breakable, element, paragraph, spread, table
from fatescal.report.results import Results, ran
from fatescal.report.section import ReportSection

COLUMNS = 3
MOST_IN_CORNER = 8
U = np.linspace(-6.0, 6.0, 1201)  # prior coordinates at which the prior's density and moments are computed


class Parameters(ReportSection):
    """From the prior over the iterations to the posterior."""

    kind = "parameters"
    title = "Parameters"

    def content(self, results: Results) -> Sequence[object]:
        content = [
            paragraph(
                "Above each axis: the prior's density (orange) and, once sampled, the posterior draws "
                "(blue); below: the members of every ensemble run, a dot each, with median and quartiles. A "
                "parameter the data inform has a posterior much narrower than its prior; one that piles up "
                "at an end of its prior contradicts the prior or makes up for an error of the model."
            ),
            embed(
                panels(results),
                f"Prior, iterations and posterior of {len(results.parameter)} parameters",
                vector=False,
            ),
            _table(results),
            *_beside_prior(results),
            *_following(results),
        ]
        if results.posterior is not None and 1 < len(results.parameter) <= MOST_IN_CORNER:
            content += [
                paragraph(
                    "Pairs of parameters in the posterior: contours hold 50 % and 95 % of the draws, numbers "
                    "are correlations. A long thin ridge means that the data see only a combination of the "
                    "two."
                ),
                embed(corner(results), "Corner plot of the posterior draws", vector=False),
            ]
        return content


def density(results: Results) -> tuple[Array, Array]:
    """Return theta (M, P) at coordinates U and the prior's density there (M, P)."""
    theta = results.prior.margins(np.repeat(U[:, None], len(results.parameter), axis=1))
    with np.errstate(divide="ignore", invalid="ignore"):  # where theta saturates at a bound
        values = np.exp(-0.5 * U[:, None] ** 2) / np.sqrt(2 * np.pi) / np.gradient(theta, U, axis=0)
    return theta, np.where(np.isfinite(values), values, 0.0)


def prior_moments(results: Results) -> tuple[Array, Array]:
    """Return mean and sd (P) of the prior, by quadrature over U.

    The sum at equal steps converges geometrically for a smooth map, so the grid leaves no visible error.
    """
    theta, _ = density(results)
    weight = np.exp(-0.5 * U**2)
    weight /= weight.sum()
    mean = weight @ theta
    return mean, np.sqrt(weight @ (theta - mean) ** 2)


def draws(results: Results) -> Array | None:
    """Return the posterior draws (N, P): of the chains."""
    return None if results.posterior is None else results.posterior.draws_theta


def _unit(results: Results, p: int) -> str:
    """Return a parameter's unit, nothing for a dimensionless one."""
    unit = results.units.get(results.parameter[p], "1")
    return "" if unit == "1" else unit


def _table(results: Results) -> Markup:
    prior_mean, prior_sd = prior_moments(results)
    last = results.ensembles.get("last")
    sampled = draws(results)
    header = ["parameter", "default", "prior"]
    header += ["last ensemble"] if last is not None else []
    header += ["posterior", "posterior sd / prior sd"] if sampled is not None else []
    if results.truth is not None:
        header += ["truth", "z"] if sampled is not None else ["truth"]
    rows = []
    for p, name in enumerate(results.parameter):
        unit = _unit(results, p)
        named = Markup(breakable(name) + (element("span", f" [{unit}]", class_="unit") if unit else ""))
        row: list[object] = [named, float(results.default[p])]
        row.append(spread(prior_mean[p], prior_sd[p]))
        if last is not None:
            theta = last.theta[ran(last), p]
            row.append(spread(theta.mean(), theta.std(ddof=1) if len(theta) > 1 else np.nan))
        if sampled is not None:
            mean, sd = sampled[:, p].mean(), sampled[:, p].std(ddof=1)
            row += [spread(mean, sd), float(sd / prior_sd[p])]
        if results.truth is not None:
            row.append(float(results.truth[p]))
            row += [float((mean - results.truth[p]) / sd)] if sampled is not None else []
        rows.append(row)
    caption = "Mean ± standard deviation."
    if results.truth is not None and sampled is not None:
        caption += " z = (posterior mean − truth) / posterior sd; |z| above 3 should not happen."
    return table(header, rows, caption)


def _beside_prior(results: Results) -> list[Markup]:
    """Return the table of posterior and prior, and whether they are in conflict: none, or one."""
    if not results.conflicts:
        return []
    rows = [
        [
            breakable(c.parameter), c.shift, c.inside, c.lower, c.upper,
            ", ".join(c.reasons) or "none",
        ]
        for c in results.conflicts
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
        lower.set_xlabel(_unit(results, p))
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
            sampled[:, p], bins=40, density=True, color=COLOUR["posterior"], alpha=0.75, label="posterior"
        )
    ax.set_title(wrap(results.parameter[p], 38), loc="left")
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


@styled
def corner(results: Results) -> Figure:
    """Return the pairs of parameters in the posterior."""
    theta, n = draws(results), len(results.parameter)
    assert theta is not None
    side = min(WIDTH / n, 2.2)
    figure = canvas(side * n, max(side * n, 5.0))
    axes = figure.subplots(n, n, squeeze=False)
    correlation = np.corrcoef(theta.T)
    limits = [np.quantile(x, [0.001, 0.999]) for x in theta.T]
    for i in range(n):
        for j in range(n):
            ax = axes[i, j]
            ax.set_xlim(limits[j])
            if i == j:
                ax.hist(theta[:, i], bins=30, range=limits[i], color=COLOUR["posterior"], alpha=0.75)
                ax.set_yticks([])
            elif j < i:
                _pair(ax, theta[:, j], theta[:, i], limits[j], limits[i])
            else:
                ax.axis("off")
                shown = f"{correlation[i, j].round(2) + 0.0:.2f}".replace("-", "−")
                ax.text(0.5, 0.5, shown, transform=ax.transAxes,
                        ha="center", va="center", fontsize=8 + 6 * abs(correlation[i, j]))  # fmt: skip
                continue
            if results.truth is not None:
                ax.axvline(results.truth[j], color=COLOUR["truth"], lw=1)
                if j < i:
                    ax.axhline(results.truth[i], color=COLOUR["truth"], lw=1)
            ax.tick_params(labelleft=j == 0 and i > 0, labelbottom=i == n - 1, labelsize=7)
            if i == n - 1:
                ax.set_xlabel(wrap(results.parameter[j], 14), fontsize=7)
            if j == 0 and i > 0:
                ax.set_ylabel(wrap(results.parameter[i], 14), fontsize=7)
    return figure


def _pair(ax, x: Array, y: Array, x_limits: Array, y_limits: Array) -> None:
    """Draw the contours that hold 50 % and 95 % of the draws, from a histogram smoothed over its cells."""
    from scipy.ndimage import gaussian_filter

    count, x_edges, y_edges = np.histogram2d(x, y, bins=30, range=[x_limits, y_limits])
    smooth = gaussian_filter(count.T, 1.5)
    ordered = np.sort(smooth.ravel())[::-1]
    levels = [ordered[np.searchsorted(np.cumsum(ordered), share * ordered.sum())] for share in (0.95, 0.5)]
    centres = [(e[1:] + e[:-1]) / 2 for e in (x_edges, y_edges)]
    if not 0 < levels[0] < levels[1] < ordered[0]:  # too few distinct draws for contours
        ax.plot(x, y, ".", ms=2, color=COLOUR["posterior"])
        return
    ax.contourf(*centres, smooth, levels=[*levels, ordered[0]], colors=["#9cc6e2", COLOUR["posterior"]])
    ax.set_ylim(y_limits)
