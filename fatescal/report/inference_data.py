"""A run as ArviZ's InferenceData: groups of xarray datasets, with coordinates and units."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from fatescal.base.types import Array
from fatescal.diagnostics.convergence import to_tree
from fatescal.report.results import Results, ran

if TYPE_CHECKING:
    import xarray as xr

SHARED = ("chain", "draw")


def tree(results: Results) -> xr.DataTree:
    """Return the groups of as much as the run has reached.

    `posterior` and `sample_stats` hold all kept draws of the untempered level. `posterior_predictive`,
    `prior_predictive` and `log_likelihood` are of the members that were run with the model, one chain; their
    parameters are in `posterior_members` and `prior`, each in order. `observed_data` has the error sd and the
    period of each window beside its value.
    """
    import xarray as xr

    groups: dict[str, Any] = {}
    if results.chains:
        u = np.concatenate([block.u for block in results.chains], axis=1)
        cold = np.concatenate([block.log_likelihood[:, :, -1] for block in results.chains], axis=1)
        theta = results.prior.theta(u.reshape(-1, u.shape[-1])).reshape(u.shape)
        units = [results.units.get(name, "1") for name in results.parameter]
        chains = to_tree(theta, results.parameter, units, cold)
        groups |= {name: chains[name].to_dataset() for name in ("posterior", "sample_stats")}
    roles = {
        "posterior": ("posterior_members", "posterior_predictive"),
        "prior": ("prior", "prior_predictive"),
    }
    for role, (parameters, predictive) in roles.items():
        if role in results.ensembles:
            of = results.ensembles[role]
            groups[parameters] = _parameters(results, of.theta[ran(of)])
            groups[predictive] = predicted(results, of.predictions[ran(of)])
            if role == "posterior":
                groups["log_likelihood"] = _log_likelihood(results, of.predictions[ran(of)])
    groups["observed_data"] = observed(results)
    return xr.DataTree.from_dict(groups)


def _parameters(results: Results, theta: Array) -> xr.Dataset:
    import xarray as xr

    units = results.units
    columns = {
        name: (SHARED, theta[None, :, p], {"units": units.get(name, "1"), "long_name": results.name_of(p)})
        for p, name in enumerate(results.parameter)
    }
    return xr.Dataset(columns, {"chain": [0], "draw": np.arange(len(theta))})


def _name(variable: str) -> str:
    """Return the name of a variable in a tree of data, where / leads into a group: of north/GPP north_GPP."""
    return variable.replace("/", "_")


def _time(variable: str) -> str:
    return f"time_{_name(variable)}"


def _windows(results: Results) -> dict[str, Any]:
    """Return the middle of each variable's windows, a coordinate each."""
    obs, coordinates = results.observations, {}
    middle = (obs.start + (obs.end - obs.start) // 2).astype("datetime64[ns]")
    for variable in results.variables:
        coordinates[_time(variable)] = middle[results.rows(variable=variable)]
    return coordinates


def predicted(results: Results, predictions: Array) -> xr.Dataset:
    """Return predictions (J, D) of one chain, a variable each over its own time."""
    import xarray as xr

    columns = {
        _name(v): (
            (*SHARED, _time(v)),
            predictions[None][:, :, results.rows(variable=v)],
            {"units": results.unit(v)},
        )
        for v in results.variables
    }
    where = {"chain": [0], "draw": np.arange(len(predictions))}
    return xr.Dataset(columns, where | _windows(results))


def observed(results: Results) -> xr.Dataset:
    """Return the observations, a variable each over its own time, with `NAME_error` and `NAME_period`."""
    import xarray as xr

    obs = results.observations
    columns: dict[str, Any] = {}
    for variable in results.variables:
        rows, units = results.rows(variable=variable), {"units": results.unit(variable)}
        columns[_name(variable)] = (_time(variable), obs.y[rows], units)
        columns[f"{_name(variable)}_error"] = (_time(variable), obs.sd[rows], units)
        columns[f"{_name(variable)}_period"] = (_time(variable), obs.period[rows])
    return xr.Dataset(columns, _windows(results))


def _log_likelihood(results: Results, predictions: Array) -> xr.Dataset:
    """Return the log likelihood of each window of each member; of correlated errors given the one before."""
    import xarray as xr

    obs = results.observations
    whitened = obs.whiten(obs.y - predictions)
    each = -0.5 * whitened**2 - 0.5 * np.log(2 * np.pi) - np.log(np.abs(obs.noise))
    columns = {
        _name(v): ((*SHARED, _time(v)), each[None][:, :, results.rows(variable=v)]) for v in results.variables
    }
    where = {"chain": [0], "draw": np.arange(len(predictions))}
    return xr.Dataset(columns, where | _windows(results))
