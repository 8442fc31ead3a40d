"""Error and calibration of the emulator on 73 real CLM-FATES runs, beside scikit-learn's, same splits.

Run `python benchmarks/emulator_accuracy.py [repeats]` with FATESCAL_DATA and OPENBLAS_NUM_THREADS=1 set.
Daily GPP and evapotranspiration of a year (`ctsm/clm_fates_hyytiala_2005_lhs97_train.nc`), in sd of an
observation's noise. From 29 and 49 random runs all others are predicted, from 65 or 66 those of each of ten
folds. Everything is fitted without the runs that are predicted: compression, hyperparameters, mixture,
calibration.

Columns: root mean square error of all, median over runs, largest of a run; mean squared standardised error
(MSSE) of the latent outputs, its median over runs; CPU seconds of a fit.
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from time import process_time

import numpy as np
from clm_fates_emulator import NOISE, SIX, ensemble, learnt
from sklearn.exceptions import ConvergenceWarning
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel

from fatescal.base.types import Array

N_RUNS, N_MODES = 73, 20
Prediction = tuple[Array, Array]  # predicted outputs (M, D); squared standardised errors (M, K)


def splits(n_learn: int, repeats: int) -> Iterator[tuple[Array, Array]]:
    """Yield the rows to learn from and those to predict."""
    for seed in range(repeats):
        order = np.random.default_rng(100 + seed).permutation(N_RUNS)
        if n_learn < 60:
            yield np.sort(order[:n_learn]), np.sort(order[n_learn:])
        else:
            yield from ((np.setdiff1d(order, order[k::10]), np.sort(order[k::10])) for k in range(10))


def own(u: Array, g: Array, new: Array, truth: Array) -> Prediction:
    """Return what fatescal predicts at `new` (M, P) and how that stands to the `truth` (M, D)."""
    emulator, surrogate = learnt(u, g)
    mean, variance = emulator.predict(surrogate, new)
    latent = (truth - surrogate.mean) @ surrogate.basis
    return surrogate.mean + mean @ surrogate.basis.T, (latent - mean) ** 2 / variance


def peer(u: Array, g: Array, new: Array, truth: Array) -> Prediction:
    """Return the same of scikit-learn: a regressor for each principal component, Matern-5/2 with noise."""
    mean = g.mean(axis=0)
    basis = np.linalg.svd(g - mean, full_matrices=False)[2][:N_MODES]
    kernel = ConstantKernel(1.0) * Matern(np.ones(u.shape[1]), (0.05, 50.0), nu=2.5) + WhiteKernel(1e-4)
    predicted, error2 = [], []
    for column, of_truth in zip(((g - mean) @ basis.T).T, ((truth - mean) @ basis.T).T, strict=True):
        regressor = GaussianProcessRegressor(
            kernel, normalize_y=True, n_restarts_optimizer=1, random_state=0
        ).fit(u, column)
        m, sd = regressor.predict(new, return_std=True)
        predicted.append(m)
        error2.append(((of_truth - m) / sd) ** 2)
    return mean + np.transpose(predicted) @ basis, np.transpose(error2)


def judge(predict: Callable[..., Prediction], u: Array, g: Array, n_learn: int, repeats: int) -> str:
    """Return the cells of a row of the table."""
    error2, z2, n_fits, start = [], [], 0, process_time()
    for learn, rest in splits(n_learn, repeats):
        predicted, standardised = predict(u[learn], g[learn], u[rest], g[rest])
        error2.append(np.mean((predicted - g[rest]) ** 2, axis=1))
        z2.append(standardised.mean(axis=1))
        n_fits += 1
    seconds = (process_time() - start) / n_fits
    of_runs, msse = np.sqrt(np.concatenate(error2)), np.concatenate(z2)
    rmse = np.sqrt(np.mean(of_runs**2))
    return (
        f"{rmse:.3f} | {np.median(of_runs):.3f} | {of_runs.max():.2f} | "
        f"{msse.mean():.2f} | {np.median(msse):.2f} | {seconds:.1f}"
    )


def main() -> None:
    """Print the table."""
    repeats = int(sys.argv[1]) if len(sys.argv) > 1 else 4
    warnings.simplefilter("ignore", ConvergenceWarning)  # of the peer's length scales at their bounds
    path = Path(os.environ["FATESCAL_DATA"]) / "ctsm" / "clm_fates_hyytiala_2005_lhs97_train.nc"
    u, g = ensemble(path, N_RUNS, SIX)
    print(f"{N_RUNS} runs, {len(SIX)} parameters, {g.shape[1]} daily values of {', '.join(NOISE)}\n")
    print("| learnt from | emulator | rmse | median | worst run | MSSE | median | CPU s |")
    print("|---|---|---|---|---|---|---|---|")
    for n_learn, n_repeats in ((29, repeats), (49, repeats), (66, max(1, repeats // 4))):
        for name, predict in (("fatescal", own), ("scikit-learn", peer)):
            print(f"| {n_learn} | {name} | {judge(predict, u, g, n_learn, n_repeats)} |", flush=True)


if __name__ == "__main__":
    main()
