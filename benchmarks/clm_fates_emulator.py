"""Error of emulated CLM-FATES runs against scikit-learn's, each run predicted by a fit to all others.

The material: daily GPP and evapotranspiration of real ensembles in $FATESCAL_DATA/ctsm, whitened with an
observation's noise. Everything is fitted anew without the run: compression, trend, hyperparameters.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import xarray as xr
from sklearn.exceptions import ConvergenceWarning
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel

from fatescal.base.types import Array
from fatescal.emulate.output_emulator import OutputsEmulator
from fatescal.emulate.surrogates import OutputsSurrogate
from fatescal.parameters.priors import LogitNormal, Normal, Prior
from fatescal.storage.records import Observations, TrainingSet

NOISE = {"FATES_GPP": (86400e3, 0.471), "QFLX_EVAP_TOT": (86400.0, 0.163)}  # to g C, mm d-1; sd
VCMAX = {"PFT2": 62.0, "PFT6": 58.0, "PFT13": 78.0}  # the file's defaults
TWO = [Normal(mean=62.0, sd=26.8), Normal(mean=8.5, sd=4.33)]  # as wide as its Latin hypercube
SIX = [LogitNormal(median=v, scale=1.0, bounds=(0.25 * v, 1.75 * v)) for v in VCMAX.values()] + 3 * [
    LogitNormal(median=8.0, scale=1.0, bounds=(1.0, 20.0))
]
ENSEMBLES = {
    "clm_fates_hyytiala_2005_ensemble.nc": (16, TWO),
    "clm_fates_hyytiala_2005_six_parameters.nc": (28, SIX),
}


def ensemble(path: Path, n_members: int, priors: Sequence[Prior]) -> tuple[Array, Array]:
    """Return coordinates u (J, P) and whitened predictions (J, D) of an ensemble's first members."""
    with xr.open_dataset(path) as data:
        names = [str(v) for v in data.data_vars if str(v).startswith("fates_leaf")]
        theta = np.stack([data[name].values for name in names], axis=1)[:n_members]
        g = np.hstack([data[v].values * factor / sd for v, (factor, sd) in NOISE.items()])[:n_members]
    return np.stack([prior.u(theta[:, p]) for p, prior in enumerate(priors)], axis=1), g


def learnt(u: Array, g: Array) -> tuple[OutputsEmulator, OutputsSurrogate]:
    """Return fatescal's emulator of whitened outputs `g` (J, D) at `u` (J, P), and what it has learnt."""
    day = np.arange(g.shape[1]).astype("datetime64[D]").astype("datetime64[s]")
    name = np.full(g.shape[1], "flux")
    obs = Observations(
        y=g.mean(axis=0), noise=np.ones(g.shape[1]), start=day, end=day, variable=name, unit=name, period=name
    )
    emulator = OutputsEmulator()
    surrogate = emulator.fit(np.random.default_rng(0), TrainingSet(u, g, np.zeros(len(u))), obs)
    return emulator, surrogate


def own(u: Array, g: Array, new: Array) -> Array:
    """Return fatescal's prediction (D) at `new` (1, P)."""
    emulator, surrogate = learnt(u, g)
    return surrogate.mean + surrogate.basis @ emulator.predict(surrogate, new)[0][0]


def peer(u: Array, g: Array, new: Array) -> Array:
    """Return scikit-learn's prediction (D) at `new` (1, P): the same kernel on all principal components."""
    mean = g.mean(axis=0)
    basis = np.linalg.svd(g - mean, full_matrices=False)[2][: len(u) - 1].T
    kernel = ConstantKernel(1.0) * Matern(np.ones(u.shape[1]), (0.05, 50.0), nu=2.5) + WhiteKernel(1e-4)
    latent = [
        GaussianProcessRegressor(kernel, normalize_y=True).fit(u, column).predict(new)[0]
        for column in ((g - mean) @ basis).T
    ]
    return mean + basis @ np.array(latent)


def left_out_errors(predict: Callable[[Array, Array, Array], Array], u: Array, g: Array) -> Array:
    """Return the errors (J, D) of predicting each run by all others."""
    rest = [np.delete(np.arange(len(u)), i) for i in range(len(u))]
    return np.array([predict(u[keep], g[keep], u[[i]]) - g[i] for i, keep in enumerate(rest)])


def main() -> None:
    """Print both root mean square errors, in sd of an observation's noise, for each ensemble."""
    folder = Path(os.environ["FATESCAL_DATA"]) / "ctsm"
    warnings.simplefilter("ignore", ConvergenceWarning)  # of the peer's length scales at their bounds
    for name, (n_members, priors) in ENSEMBLES.items():
        u, g = ensemble(folder / name, n_members, priors)
        ours, theirs = (left_out_errors(predict, u, g) for predict in (own, peer))
        print(f"{name}: {n_members} members, {len(priors)} parameters, {g.shape[1]} daily values")
        for label, part in {"all": slice(None), "GPP": slice(365), "ET": slice(365, None)}.items():
            a, b = (float(np.sqrt(np.mean(e[:, part] ** 2))) for e in (ours, theirs))
            print(f"  {label:3}  fatescal {a:.3f}  scikit-learn {b:.3f}  ratio {b / a:.2f}")


if __name__ == "__main__":
    main()
