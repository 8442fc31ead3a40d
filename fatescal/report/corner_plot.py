"""The pairs of parameters in the posterior."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from fatescal.base.types import Array
from fatescal.report.figure import COLOUR, WIDTH, canvas, styled, wrap
from fatescal.report.parameter_tables import correlation, draws
from fatescal.report.results import Results


@styled
def corner(results: Results) -> Figure:
    """Return the pairs of parameters in the posterior."""
    theta, n = draws(results), len(results.parameter)
    assert theta is not None
    side = min(WIDTH / n, 2.2)
    figure = canvas(side * n, max(side * n, 5.0))
    axes = figure.subplots(n, n, squeeze=False)
    correlations = correlation(theta)
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
                shown = f"{correlations[i, j].round(2) + 0.0:.2f}".replace("-", "−")
                ax.text(0.5, 0.5, shown, transform=ax.transAxes,
                        ha="center", va="center", fontsize=8 + 6 * abs(correlations[i, j]))  # fmt: skip
                continue
            if results.truth is not None:
                ax.axvline(results.truth[j], color=COLOUR["truth"], lw=1)
                if j < i:
                    ax.axhline(results.truth[i], color=COLOUR["truth"], lw=1)
            ax.tick_params(labelleft=j == 0 and i > 0, labelbottom=i == n - 1, labelsize=7)
            if i == n - 1:
                ax.set_xlabel(_axis_label(results, j), fontsize=7)
            if j == 0 and i > 0:
                ax.set_ylabel(_axis_label(results, i), fontsize=7)
    return figure


def _axis_label(results: Results, p: int) -> str:
    unit = results.unit_of(p)
    return wrap(results.name_of(p), 16) + (f"\n[{unit}]" if unit else "")


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
