"""Parameters in numbers: prior, ensembles and posterior of each, correlations; for the page and as csv."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from fatescal.base.types import Array
from fatescal.report.markup import Markup, breakable, element, fixed, interval, rounded, spread, table
from fatescal.report.results import Results, ran

U = np.linspace(-6.0, 6.0, 1201)  # prior coordinates at which the prior's density and moments are computed
TAIL = 1.6448536269514722  # half width, in standard deviations, of a normal's central 90 %
SHARES = (0.05, 0.5, 0.95)
MOST_CORRELATED = 12  # parameters whose correlations the page shows as a table


class Moments(NamedTuple):
    """Mean, sd, 5 %, median and 95 % of one parameter."""

    mean: float
    sd: float
    low: float
    median: float
    high: float

    @classmethod
    def of(cls, values: Array) -> Moments:
        """Return those of draws (N)."""
        sd = values.std(ddof=1) if len(values) > 1 else np.nan
        return cls(*map(float, (values.mean(), sd, *np.quantile(values, SHARES))))


def density(results: Results) -> tuple[Array, Array]:
    """Return theta (M, P) at coordinates U and the prior's density there (M, P)."""
    theta = results.prior.margins(np.repeat(U[:, None], len(results.parameter), axis=1))
    with np.errstate(divide="ignore", invalid="ignore"):  # where theta saturates at a bound
        values = np.exp(-0.5 * U[:, None] ** 2) / np.sqrt(2 * np.pi) / np.gradient(theta, U, axis=0)
    return theta, np.where(np.isfinite(values), values, 0.0)


def prior_moments(results: Results) -> list[Moments]:
    """Return the moments (P) of the prior: mean and sd by quadrature over U, the quantiles exactly.

    The sum at equal steps converges geometrically for a smooth map, so the grid leaves no visible error.
    """
    theta, _ = density(results)
    weight = np.exp(-0.5 * U**2)
    weight /= weight.sum()
    mean = weight @ theta
    sd = np.sqrt(weight @ (theta - mean) ** 2)
    at = results.prior.margins(np.repeat(np.array([[-TAIL], [0.0], [TAIL]]), len(mean), axis=1))
    return [Moments(*map(float, row)) for row in zip(mean, sd, *at, strict=True)]


def draws(results: Results) -> Array | None:
    """Return the posterior draws (N, P): of the chains."""
    return None if results.posterior is None else results.posterior.draws_theta


def columns(results: Results) -> tuple[list[str], list[list[Any]]]:
    """Return the table of the parameters as csv has it: header, and a row for each."""
    prior, last, sampled = prior_moments(results), results.ensembles.get("last"), draws(results)
    header = ["parameter", "label", "unit", "default"]
    header += [f"prior_{name}" for name in Moments._fields]
    header += [f"last_{name}" for name in Moments._fields] if last is not None else []
    header += [f"posterior_{name}" for name in Moments._fields] if sampled is not None else []
    header += ["truth"] if results.truth is not None else []
    rows = []
    for p, name in enumerate(results.parameter):
        row = [name, results.name_of(p), results.units.get(name, "1"), float(results.default[p]), *prior[p]]
        row += Moments.of(last.theta[ran(last), p]) if last is not None else []
        row += Moments.of(sampled[:, p]) if sampled is not None else []
        rows.append(row + ([float(results.truth[p])] if results.truth is not None else []))
    return header, rows


def named(results: Results, p: int) -> Markup:
    """Return a parameter's label, its name below where that is another, and its unit."""
    label, name, unit = results.name_of(p), results.parameter[p], results.unit_of(p)
    full = breakable(name) if label != name else Markup()
    more = Markup(full + (element("span", f" [{unit}]", class_="unit") if unit else ""))
    return Markup(breakable(label) + (element("small", more, class_="name") if more else ""))


def shown(results: Results) -> Markup:
    """Return the table of the parameters as the page has it."""
    prior, last, sampled = prior_moments(results), results.ensembles.get("last"), draws(results)
    header = ["parameter", "default", "prior", "prior: median (5 – 95 %)"]
    header += ["last ensemble"] if last is not None else []
    header += ["posterior", "posterior: median (5 – 95 %)", "posterior sd / prior sd"] * (sampled is not None)
    if results.truth is not None:
        header += ["truth", "z"] if sampled is not None else ["truth"]
    rows = []
    for p in range(len(results.parameter)):
        row: list[object] = [named(results, p), float(results.default[p])]
        row += _cells(prior[p])
        row += _cells(Moments.of(last.theta[ran(last), p]))[:1] if last is not None else []
        if sampled is not None:
            moments = Moments.of(sampled[:, p])
            row += [*_cells(moments), rounded(moments.sd / prior[p].sd)]
        if results.truth is not None:
            row.append(float(results.truth[p]))
            row += [fixed((moments.mean - results.truth[p]) / moments.sd, 2)] if sampled is not None else []
        rows.append(row)
    caption = "Mean ± standard deviation; median, 5 % and 95 % quantile. The same as parameters.csv."
    if results.truth is not None and sampled is not None:
        caption += " z = (posterior mean − truth) / posterior sd; |z| above 3 should not happen."
    return table(header, rows, caption)


def _cells(of: Moments) -> list[Markup]:
    return [spread(of.mean, of.sd), interval(of.median, of.low, of.high, of.sd)]


def correlation(theta: Array) -> Array:
    """Return the correlations (P, P) of draws (N, P); NaN of a parameter that does not vary."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.atleast_2d(np.corrcoef(theta.T))


def correlations(results: Results) -> tuple[Sequence[str], Iterable[Iterable[Any]]]:
    """Return the correlations of the posterior as csv has them: header, and a row for each parameter."""
    sampled = draws(results)
    matrix = np.eye(len(results.parameter)) if sampled is None else correlation(sampled)
    names = results.parameter
    return ["parameter", *names], ([name, *row.tolist()] for name, row in zip(names, matrix, strict=True))


def correlated(results: Results) -> list[Markup]:
    """Return the table of the correlations as the page has it; of many parameters the ten strongest pairs."""
    sampled, n = draws(results), len(results.parameter)
    if sampled is None or n < 2:
        return []
    matrix = correlation(sampled)
    caption = "Correlations of the posterior draws, the whole of them in correlations.csv."
    if n <= MOST_CORRELATED:
        rows: list[list[object]] = [
            [
                Markup(breakable(results.name_of(p))),
                *(fixed(float(x), 2) for x in matrix[p, :p]), *[""] * (n - 1 - p),
            ]
            for p in range(1, n)
        ]  # fmt: skip
        header = ["parameter", *(Markup(breakable(results.name_of(p))) for p in range(n - 1))]
        return [table(header, rows, caption)]
    pairs = [(p, q) for p in range(n) for q in range(p)]
    strongest = sorted(pairs, key=lambda pair: -abs(matrix[pair]))[:10]
    rows = [[Markup(breakable(results.name_of(p))), results.name_of(q), fixed(float(matrix[p, q]), 2)]
            for p, q in strongest]  # fmt: skip
    return [table(["parameter", "with", "correlation"], rows, f"The ten strongest. {caption}")]
