"""Designs: where the members of the first ensemble lie, in the coordinates u."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from fatescal.base.errors import BadInput
from fatescal.base.random_streams import stream
from fatescal.base.types import Array
from fatescal.parameters.priors import CENTRAL, Prior
from fatescal.parameters.space import ParameterSpace

SOBOL_BITS = 30
MARGIN = 1e-9  # of the range of a uniform design: at a bound itself u is infinite


def first_ensemble(design: str | None, seed: int, n_members: int, space: ParameterSpace) -> Array:
    """Return the coordinates (J, P) of the first ensemble.

    Parameters
    ----------
    design : {None, "lhs", "sobol", "uniform"}
        None draws the members independently; `lhs` is a Latin hypercube (McKay et al., 1979), `sobol` a
        scrambled Sobol sequence (Owen, 1998), both mapped by the inverse normal distribution function: the
        members of these three are distributed as the prior. `uniform` is uniform between the priors' bounds,
        or over the central 99.9 % of a prior without two of them.
    seed : int
        `run.seed` of the config.
    """
    members, n_parameters = range(1, n_members + 1), len(space.names)
    if design is None:
        return np.array([stream(seed, "prior", j).standard_normal(n_parameters) for j in members])
    if design == "uniform":
        shares = np.array([stream(seed, "design", j).random(n_parameters) for j in members])
        low, high = np.array([reach(prior) for prior in space.priors]).T
        return space.u(low + (high - low) * np.clip(shares, MARGIN, 1.0 - MARGIN))
    from scipy.special import ndtri
    from scipy.stats import qmc

    rng = stream(seed, "design")
    if design == "lhs":
        return ndtri(qmc.LatinHypercube(n_parameters, rng=rng).random(n_members))
    sobol = qmc.Sobol(n_parameters, bits=SOBOL_BITS, rng=rng)
    points = sobol.random_base2((n_members - 1).bit_length())[:n_members]
    return ndtri(points + 0.5 ** (SOBOL_BITS + 1))  # the middle of the cell: a point at 0 would lie at -inf


def reach(prior: Prior) -> tuple[float, float]:
    """Return the range of a prior: its bounds, or its central 99.9 %.

    >>> from fatescal.parameters.priors import Normal, Uniform
    >>> reach(Uniform(1.0, 2.0)), [round(x, 4) for x in reach(Normal(0.0, 1.0))]
    ((1.0, 2.0), [-3.2905, 3.2905])
    """
    if np.isfinite(prior.bounds).all():
        return prior.bounds
    return float(prior.theta(-CENTRAL)), float(prior.theta(CENTRAL))


def is_file(design: str | None) -> bool:
    """Tell whether a design is the name of a file with the members."""
    return design is not None and design.endswith(".csv")


def read_ensemble(path: Path, n_members: int, space: ParameterSpace) -> Array:
    """Return the coordinates (J, P) of the members that a csv file holds: a column per parameter, physical
    values.

    Other columns are passed over, as are lines that begin with #.

    Raises
    ------
    BadInput
        For a missing parameter, what is no number, a value outside its prior's bounds, another number of
        rows.
    """
    where = f"calibrate.design: {path}"
    try:
        with open(path, encoding="utf-8", newline="") as file:
            lines = [(i, line) for i, line in enumerate(file, 1) if line.strip() and not line.startswith("#")]
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{where} cannot be read: {getattr(error, 'strerror', None) or error}") from None
    table = list(csv.reader((line for _, line in lines), skipinitialspace=True))
    header = [name.strip() for name in table[0]] if table else []
    missing = [name for name in space.names if name not in header]
    if missing:
        raise BadInput(
            f"{where} has no column {', '.join(missing)}",
            expected=f"comma-separated columns {', '.join(space.names)}",
            got=", ".join(header) or "an empty file",
        )
    if len(table) - 1 != n_members:
        raise BadInput(
            f"{where} has {len(table) - 1} rows",
            expected=f"{n_members}, the members without the default run",
            hint=f"calibrate.members: {len(table)}",
        )
    columns = [header.index(name) for name in space.names]
    rows = [
        _numbers(row, columns, header, f"{where}, line {i}")
        for (i, _), row in zip(lines[1:], table[1:], strict=True)
    ]
    theta = np.array(rows)
    with np.errstate(invalid="ignore", divide="ignore"):
        outside = ~np.isfinite(space.margin_u(theta))
    if outside.any():
        j, p = np.argwhere(outside)[0]
        low, high = space.priors[p].bounds
        raise BadInput(
            f"{where}, line {lines[j + 1][0]}: {space.names[p]} is outside its prior's bounds",
            expected=f"between {low:g} and {high:g}",
            got=f"{theta[j, p]:g}",
        )
    return space.u(theta)


def _numbers(row: list[str], columns: list[int], header: list[str], where: str) -> list[float]:
    """Return the values of a row in some columns."""
    values = []
    for column in columns:
        text = row[column] if column < len(row) else ""
        try:
            value = float(text)
        except ValueError:
            value = np.nan
        if not np.isfinite(value):
            raise BadInput(f"{where}: {header[column]} is no number", got=repr(text))
        values.append(value)
    return values
