"""Time of one emulator prediction against scikit-learn's, from one run; prints both and their ratio.

The shapes are those of a sampler's step: 24 points, 320 training runs, 6 parameters, 8 latent outputs.
Set OPENBLAS_NUM_THREADS=1, as the program does on every rank.
"""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter

import numpy as np
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel

from fatescal.emulate.gaussian_process import Fitted, Process
from fatescal.emulate.kernels import JOINT, PRODUCT, GPSpec

N_POINTS, N_RUNS, N_PARAMETERS, N_OUTPUTS = 24, 320, 6, 8


def median_time(call: Callable[[], object], n_calls: int) -> float:
    """Return the median time of a call in s."""
    times = []
    for _ in range(n_calls):
        start = perf_counter()
        call()
        times.append(perf_counter() - start)
    return float(np.median(times))


def main() -> None:
    """Print the two times and their ratio."""
    rng = np.random.default_rng(0)
    u, new = rng.standard_normal((N_RUNS, N_PARAMETERS)), rng.standard_normal((N_POINTS, N_PARAMETERS))
    outputs = np.tanh(u @ rng.standard_normal((N_PARAMETERS, N_OUTPUTS)))
    length = rng.uniform(2.0, 8.0, (N_OUTPUTS, N_PARAMETERS))
    hyperparameters = np.hstack([length, np.full((N_OUTPUTS, 1), 1.0), np.full((N_OUTPUTS, 1), 1e-4)])
    axes = np.eye(N_PARAMETERS)
    fitted = Fitted.plain(hyperparameters)
    processes = [Process.condition(fitted, u, outputs, GPSpec(k, 2), axes) for k in (JOINT, PRODUCT)]
    references = [
        GaussianProcessRegressor(
            ConstantKernel(1.0) * Matern(length[k], nu=2.5) + WhiteKernel(1e-4), alpha=0.0, optimizer=None
        ).fit(u, outputs[:, k])
        for k in range(N_OUTPUTS)
    ]
    own = [median_time(lambda process=process: process(new), 300) for process in processes]
    theirs = median_time(lambda: [reference.predict(new, return_std=True) for reference in references], 30)
    print(
        f"{N_POINTS} points, {N_RUNS} runs, {N_PARAMETERS} parameters, {N_OUTPUTS} outputs, mean and variance"
    )
    for kernel, seconds in zip((JOINT, PRODUCT), own, strict=True):
        print(
            f"{kernel}: {seconds * 1e3:.2f} ms  scikit-learn {theirs * 1e3:.2f} ms  ratio {theirs / seconds:.1f}"
        )


if __name__ == "__main__":
    main()
