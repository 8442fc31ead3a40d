"""Random streams keyed by what is drawn, never by the rank that draws it.

The same (seed, stage, counters) gives the same numbers on 1 or 128 ranks and in a resumed run.
"""

from __future__ import annotations

import zlib

import numpy as np


def stream(seed: int, stage: str, *counters: int) -> np.random.Generator:
    """Return the generator that belongs to one draw of one stage.

    Parameters
    ----------
    seed : int
        `run.seed` of the config.
    stage : str
        What is drawn, e.g. ``"update"``; hashed with CRC-32, which no Python setting changes.
    *counters : int
        Iteration, member, chain ... whatever tells this draw from its sisters.

    >>> stream(1, "update", 3).standard_normal() == stream(1, "update", 3).standard_normal()
    True
    >>> stream(1, "update", 3).standard_normal() == stream(1, "update", 4).standard_normal()
    False
    """
    key = (zlib.crc32(stage.encode()), *counters)
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(entropy=seed, spawn_key=key)))
