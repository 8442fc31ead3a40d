"""What an update scheme is: its options as they stand in a config, and the step that moves an ensemble."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar, final

import numpy as np

from fatescal.base.options import Options, Share
from fatescal.base.types import Array
from fatescal.storage.records import KalmanInfo, KalmanState, Observations
from fatescal.update.survivors import require_usable_ensemble

RESERVED = ("scheme", "members", "design", "force")  # keys of `calibrate` whatever the scheme


class UpdateScheme(Options):
    """One way to move an ensemble towards the observations; pure.

    A scheme is one class: its fields are its keys in the section `calibrate` of a config, the docstring below
    a field describes its key, its methods do the work. It is listed in `registry.py`, or given by another
    package as an entry point, by the name `kind`, of the group `fatescal.schemes`.

    Attributes
    ----------
    kind : str
        The scheme's name in a config: `calibrate.scheme`.
    """

    kind: ClassVar[str]

    min_survivors: Share = 0.5
    """share of the members that must run; never fewer than parameters + 2"""

    @property
    @abstractmethod
    def planned_updates(self) -> int:
        """Number of updates, as far as the options tell; 0: none is made."""

    @property
    def record(self) -> type[KalmanState]:
        """The type of the states that `step` returns, by whose declaration they are stored."""
        return KalmanState

    @final
    def start(self, u: Array) -> KalmanState:
        """Return the state at iteration 0, which asks for the prior ensemble itself.

        It is the same for all schemes, so that another one can go on from it. What a scheme remembers it adds
        in its first step.

        Parameters
        ----------
        u : (J, P)
            The prior ensemble.

        Raises
        ------
        BadInput
            If no update can rest on it: J < P + 2, or it does not vary in all directions.
        """
        require_usable_ensemble(u)
        return KalmanState(u=u)

    @abstractmethod
    def step(
        self, rng: np.random.Generator, state: KalmanState, predictions: Array, obs: Observations
    ) -> tuple[KalmanState, KalmanInfo]:
        """Return the next state, of the type `record`, and what the log and the report need of the step.

        Parameters
        ----------
        rng : numpy.random.Generator
            A stream of its own for each iteration.
        state : KalmanState
            Of `start` or of the step before.
        predictions : (J, D)
            Of the members `state.u`; rows of failed members are NaN.
        obs : Observations
            The D observations with the errors of today: an estimated discrepancy changes between iterations.

        Raises
        ------
        RunFailed
            If too few members have run.
        """
