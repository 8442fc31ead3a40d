"""All that decides the parameters, a row for each: what the verb `priors` prints."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from fatescal.parameters.derived import Scaled
from fatescal.parameters.designs.sobol import sobol_points
from fatescal.parameters.space import ParameterSpace

N_DRAWS = 4096  # for the quantiles of what follows from them
CENTRAL = (0.025, 0.5, 0.975)  # shares of the quantiles of a row

Row = dict[str, Any]


def parameter_table(
    space: ParameterSpace, correlations: Mapping[str, Mapping[str, float]] | None
) -> list[Row]:
    """Return a row for each calibrated parameter, then for each that follows from them.

    Quantiles of calibrated parameters are exact, those of the others of a Sobol sequence; `numbers` are what
    the prior is made of.

    >>> from fatescal.parameters.priors import Normal
    >>> from fatescal.parameters.derived import Same
    >>> space = ParameterSpace(("a",), (Normal(mean=1.0, sd=2.0),), {"a": 1.0}, rules={"b": Same("a")})
    >>> rows = parameter_table(space, None)
    >>> [(row["parameter"], row["prior"], row["rule"], round(row["q500"], 2)) for row in rows]
    [('a', 'normal', '', 1.0), ('b', '', 'same as a', 1.0)]
    """
    pairs = [(p, q, rho) for p, others in (correlations or {}).items() for q, rho in others.items()]
    scaled = [(rule.factor, name) for name, rule in space.rules.items() if isinstance(rule, Scaled)]
    rows = []
    for name, prior in zip(space.names, space.priors, strict=True):
        rows.append(
            _row(name, space, space.default[name], prior.quantiles(CENTRAL).tolist())
            | {
                "prior": prior.kind,
                "from": prior.description,
                "scales": [target for factor, target in scaled if factor == name],
                "correlations": {q if p == name else p: rho for p, q, rho in pairs if name in (p, q)},
                "numbers": prior.numbers,
            }
        )
    default = space.following(space.theta_default, hidden=True)
    draws = sobol_points(len(space.names), N_DRAWS, 0) if default else space.u_default[None]
    for name, values in space.following(space.theta(draws), hidden=True).items():
        rule = str(space.rules[name])
        quantiles = np.nanquantile(values, CENTRAL).tolist()
        rows.append(_row(name, space, float(default[name][0]), quantiles) | {"rule": rule, "from": rule})
    return rows


def _row(name: str, space: ParameterSpace, default: float, quantiles: Any) -> Row:
    of_nothing: Row = {"prior": "", "rule": "", "from": "", "scales": [], "correlations": {}, "numbers": {}}
    names = ("q025", "q500", "q975")
    return {
        "parameter": name, "default": default, **dict(zip(names, quantiles, strict=True)),
        "given_to_model": name not in space.hidden, **of_nothing,
    }  # fmt: skip


def origin(row: Row) -> str:
    """Return how a parameter gets its value, as a phrase."""
    parts = [row["from"]]
    parts += [f"times it: {', '.join(row['scales'])}"] if row["scales"] else []
    parts += [f"correlation {rho:g} with {name}" for name, rho in row["correlations"].items()]
    parts += [] if row["given_to_model"] or row["scales"] else ["not given to the model"]
    return "; ".join(parts)


def as_text(rows: list[Row]) -> str:
    """Return the rows as an aligned table."""
    table = [("parameter", "default", "2.5 %", "median", "97.5 %", "from")]
    for row in rows:
        numbers = (f"{row[column]:.5g}" for column in ("default", "q025", "q500", "q975"))
        table.append((row["parameter"], *numbers, origin(row)))
    wide = [max(map(len, column)) for column in zip(*table, strict=True)]
    return "\n".join("  ".join(map(str.ljust, line, wide)).rstrip() for line in table)


def flat(row: Row) -> Row:
    """Return a row of plain values, as csv has them: lists and pairs as text, the prior's numbers as
    columns.

    >>> flat({"scales": ["a", "b"], "correlations": {"c": 0.5}, "numbers": {"sd": 1.0}})
    {'scales': 'a; b', 'correlations': 'c 0.5', 'sd': 1.0}
    """
    plain = {name: value for name, value in row.items() if name not in ("from", "numbers")}
    plain["scales"] = "; ".join(row["scales"])
    plain["correlations"] = "; ".join(f"{name} {rho:g}" for name, rho in row["correlations"].items())
    return plain | row["numbers"]
