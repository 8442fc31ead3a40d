"""Evaluate a batch of u at all sites: each member at each site is a task, on whatever rank is free.

Prior ensemble, Kalman iteration, refinement batch and posterior rerun are this one operation. The predictions
of a member are those of all sites, one after another; it has run when it has run at each of them.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise
from pathlib import Path

import numpy as np

from fatescal.base.errors import RunFailed
from fatescal.base.types import Array
from fatescal.diagnostics import failures
from fatescal.ensemble.member import Members, in_jobs
from fatescal.ensemble.member_jobs import MemberJobs
from fatescal.ensemble.progress import reported
from fatescal.ensemble.wall_time import WallTimeGuard
from fatescal.hpc.communicator import Communicator
from fatescal.parameters.space import ParameterSpace
from fatescal.storage.records import Evaluation
from fatescal.storage.store import Store

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Ensemble:
    """The members of a run at its sites, one or several; parameters and folder are the same at all."""

    sites: Sequence[Members]

    @property
    def space(self) -> ParameterSpace:
        return self.sites[0].space

    @property
    def folder(self) -> Path:
        """`RUN/members`."""
        return self.sites[0].folder

    @property
    def units(self) -> dict[str, str]:
        """The unit of every parameter of which a site's model knows it."""
        known = [site.model.units for site in self.sites]
        return {name: unit for units in known for name, unit in units.items()}

    def with_inputs(self, inputs: Mapping[str, Mapping[str, str]]) -> Ensemble:
        """Return the same with the digests of the files that the models read, by site."""
        return Ensemble([replace(site, inputs=inputs[site.site]) for site in self.sites])

    def with_jobs(self, jobs: MemberJobs | None) -> Ensemble:
        """Return the same with jobs that make its runs."""
        return Ensemble([replace(site, jobs=jobs) for site in self.sites])

    @property
    def columns(self) -> dict[str, slice]:
        """Which of the predictions (D) are those of each site."""
        ends = accumulate((site.n_predictions for site in self.sites), initial=0)
        return {site.site: slice(*span) for site, span in zip(self.sites, pairwise(ends), strict=True)}

    def evaluate(
        self, stage: str, u: Array, comm: Communicator, store: Store, inputs: Sequence[str] = ()
    ) -> Evaluation | None:
        """Run the default member and `u` (J-1, P) as one batch; return it on root, None elsewhere.

        Raises
        ------
        BadInput
            If members of the stage are finished with other parameters, or by another model.
        RunFailed
            If no member but at most the default one survived: the model itself does not work.
        """
        begin = time.monotonic()
        batch = np.vstack([self.space.u_default, u])
        theta = self.space.theta(batch)
        theta[0] = self.space.theta_default  # as it may have been run before all others
        fresh = not comm.on_root(store.path(stage).exists)
        if fresh:
            comm.on_root(lambda: self._require_own(stage, theta))
            comm.on_root(lambda: self._run_together(stage, theta))
            comm.on_root(lambda: self._run_in_jobs(stage, theta))
        known = comm.on_root(lambda: [site.seconds_alone() for site in self.sites])
        wall_times = [WallTimeGuard(comm.time_left, seconds) for seconds in known]

        def at_site(j: int, k: int) -> Mapping[str, Array]:
            return self.sites[k].member(stage, j, theta[j], wall_times[k])

        def rows() -> dict[int, Mapping[str, Array]]:
            parts = comm.parallel_for_parts(at_site, len(batch), len(self.sites))
            return {j: {"u": batch[j], "theta": theta[j], **_joined(of_j)} for j, of_j in parts.items()}

        with ExitStack() as stack:
            for site in self.sites:
                stack.enter_context(site.stragglers.among(len(batch), site.batch(stage)))
            if fresh and comm.is_root:
                stack.enter_context(reported(stage, len(batch), [site.batch(stage) for site in self.sites]))
            result = store.once_rows(stage, Evaluation, len(batch), rows, inputs)
        seconds = time.monotonic() - begin
        if fresh:
            comm.on_root(
                lambda: None if result is None else self._log_result(stage, result, comm.size, seconds)
            )
        return result

    def _require_own(self, stage: str, theta: Array) -> None:
        for site in self.sites:
            site.require_own(stage, theta)

    def _run_together(self, stage: str, theta: Array) -> None:
        for site in self.sites:
            if site.model.runs_together:
                site.run_together(stage, theta)

    def _run_in_jobs(self, stage: str, theta: Array) -> None:
        """Let jobs run the members that are not finished, where jobs make all runs."""
        tasks = [
            site.job_task("member", stage, f"{j:04d}", theta[j])
            for site in self.sites
            if site.jobs is not None and not site.model.runs_together
            for j in site.unfinished(stage, theta)
        ]
        with reported(stage, len(theta), [site.batch(stage) for site in self.sites]):
            in_jobs(self.sites, stage, tasks)

    def causes(self, result: Evaluation) -> str:
        """Return how many members failed of what and, of several sites, where."""
        several = len(self.sites) > 1
        return failures.causes(result, self.columns if several else {})

    def _log_result(self, stage: str, result: Evaluation, n_ranks: int, seconds: float) -> None:
        causes = self.causes(result)
        log.info(
            "%s: %d of %d members ran (%s), median %.2f s, %.1f s on %d ranks",
            stage,
            result.ok.sum(),
            len(result.status),
            causes or "none failed",
            float(np.median(result.seconds)),
            seconds,
            n_ranks,
        )
        for site in self.sites:
            if site.fallback is not None:
                where, by = f"{stage}, {site.site}" if site.site else stage, site.by_fallback(stage)
                log.info("%s: the fallback was tried for %d members and ran for %d", where, len(by), sum(by))
        for line in failures.where(result.theta, result.ok, self.space.names):
            log.warning("%s: members fail where %s", stage, line)
        if not result.ok[0]:
            log.warning("%s: the default run itself failed: see %s", stage, self.folder / stage / "0000")
        first = min(1, len(result.ok) - 1)  # the default run, where it is alone
        if not result.ok[first:].any():
            raise RunFailed(
                f"{stage}: no member survived ({causes}). The first reason: {self._reason(stage, first)}"
            )

    def _reason(self, stage: str, j: int) -> str:
        """Return why a member failed, with the name of the first of several sites at which it did."""
        reasons = ((site.site, site.reason(stage, j)) for site in self.sites)
        return next(f"{name}: {reason}" if name else reason for name, reason in reasons if reason)


def _joined(parts: Sequence[Mapping[str, Array]]) -> dict[str, Array]:
    """Return a member's predictions (D), status and seconds from those at each site: its first failure
    counts.
    """
    failed = [part["status"] for part in parts if part["status"]]
    return {
        "predictions": np.concatenate([part["predictions"] for part in parts]),
        "status": failed[0] if failed else parts[0]["status"],
        "seconds": np.sum([part["seconds"] for part in parts]),
    }
