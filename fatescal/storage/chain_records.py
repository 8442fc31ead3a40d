"""The records of sampling: one tempered run on its way, and blocks of kept steps."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fatescal.base.types import Array
from fatescal.storage.declaration import Record, array


@dataclass(frozen=True, eq=False)
class TemperedState(Record):
    """All one tempered run needs to go on. beta rises from 0 (prior) to 1 (posterior)."""

    u: Array = array("T W P")
    log_likelihood: Array = array("T W")
    beta: Array = array("T")
    scale: Array = array("T P P")  # lower-triangular proposal factor of each level
    from_prior: Array = array("T W", dtype=np.bool_)  # seen at beta = 0 since it was last at beta = 1
    reference_mean: Array = array("P")  # of the normal q at the other end of the path (`sample.reference`)
    reference_factor: Array = array("P P")  # lower-triangular, of its covariance
    reference_beta: Array = array("V")  # from 0 (q), all below 1 (posterior)
    reference_u: Array = array("V W P")
    reference_log_likelihood: Array = array("V W")
    reference_scale: Array = array("V P P")
    steps: int = 0
    prior_every: int = 1  # the levels towards the prior take a step each so many


@dataclass(frozen=True, eq=False)
class ChainBlock(Record):
    """Consecutive kept steps of R independent tempered runs (cold level), and their end states."""

    u: Array = array("R S W P")
    log_likelihood: Array = array("R S T W")
    accepted: Array = array("R T")  # share of local moves
    rejected: Array = array("R T2")  # mean rejection of swaps between neighbours, T2 = T - 1
    reference_rejected: Array = array(
        "R V"
    )  # of swaps with the level above, the last one's with the posterior
    reference_weight: Array = array("R S V W")  # log prior + log L - log q at each level towards q
    round_trips: Array = array("R")  # arrivals at beta = 1 from beta = 0, of all walkers
    beta: Array = array("R T")
    end_u: Array = array("R T W P")
    end_log_likelihood: Array = array("R T W")
    end_scale: Array = array("R T P P")
    end_from_prior: Array = array("R T W", dtype=np.bool_)
    end_reference_mean: Array = array("R P")
    end_reference_factor: Array = array("R P P")
    reference_beta: Array = array("R V")
    end_reference_u: Array = array("R V W P")
    end_reference_log_likelihood: Array = array("R V W")
    end_reference_scale: Array = array("R V P P")
    end_steps: Array = array("R", dtype=np.int64)
    end_prior_every: Array = array("R", dtype=np.int64)
