"""Which parameter values break the model, inferred from the members that failed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from fatescal.base.errors import Status
from fatescal.base.types import Array
from fatescal.storage.records import Evaluation

FEWEST = 3  # failed members that can show a pattern
CHANCE = 0.05  # probability, over all parameters, to name one where failures have nothing to do with any


def causes(evaluation: Evaluation, sites: Mapping[str, slice] = {}) -> str:
    """Return how many members failed of what, most frequent first; '' when none did.

    With the columns of several `sites`, also at which of them: those whose predictions are missing.
    """
    counted: Counter[str] = Counter()
    for j in np.flatnonzero(~evaluation.ok):
        absent = [name for name, at in sites.items() if np.isnan(evaluation.predictions[j, at]).all()]
        reason = Status(evaluation.status[j]).description
        counted[f"{reason} at {' and '.join(absent)}" if absent else reason] += 1
    return ", ".join(f"{n} {reason}" for reason, n in counted.most_common())


def where(theta: Array, ok: Array, names: Sequence[str]) -> list[str]:
    """Return a line for each parameter whose values separate failed members from the others, clearest first.

    Parameters
    ----------
    theta : (J, P)
        In physical units.
    ok : (J)
        Which members ran.

    Notes
    -----
    A parameter is named when the two-sample Kolmogorov-Smirnov test refuses that failed and other members
    share its distribution, at `CHANCE` over all P of them (Bonferroni). The bound is where the two empirical
    distributions are farthest apart.

    >>> theta = np.column_stack([np.arange(20.0), np.arange(20) % 3])
    >>> where(theta, theta[:, 0] < 15, ["vcmax25top", "slatop"])
    ['vcmax25top >= 15: 5 of the 5 failed members, 0 of the 15 others']
    """
    failed, others = theta[~ok], theta[ok]
    if len(failed) < FEWEST or len(others) < FEWEST:
        return []
    from scipy.stats import ks_2samp

    lines = []
    for name, bad, good in zip(names, failed.T, others.T, strict=True):
        test = ks_2samp(bad, good)
        if test.pvalue * len(names) > CHANCE:
            continue
        bound, low = test.statistic_location, test.statistic_sign > 0
        if not low:  # the distributions step at values: the first one above the others' last
            bound = bad[bad > bound].min()
        side = "<=" if low else ">="
        n_bad, n_good = (int(np.sum(x <= bound if low else x >= bound)) for x in (bad, good))
        shares = f"{n_bad} of the {len(bad)} failed members, {n_good} of the {len(good)} others"
        lines.append((test.pvalue, f"{name} {side} {bound:.4g}: {shares}"))
    return [text for _, text in sorted(lines)]
