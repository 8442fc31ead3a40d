"""A run as a notebook sees it: tables by pandas, fields by xarray, with units and coordinates."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fatescal.base.errors import BadInput, did_you_mean
from fatescal.base.types import Array
from fatescal.diagnostics.answer import Answer
from fatescal.diagnostics.scores import units_of
from fatescal.hpc.communicator import Communicator
from fatescal.report import inference_data, parameter_tables
from fatescal.report.collected import collect
from fatescal.report.results import Results, members
from fatescal.storage.store import Store
from fatescal.workflow.snapshot import Snapshot

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr
    from matplotlib.figure import Figure


class OpenedRun:
    """A run, read from its folder alone: no model, no data file.

    Parameters
    ----------
    directory : str or Path
        Of the run.

    Raises
    ------
    BadInput
        If it is no run, or has no observations yet.
    """

    def __init__(self, directory: str | Path) -> None:
        self.directory = Path(directory).absolute()
        if not (self.directory / "stages" / "observations.h5").is_file():
            raise BadInput(
                f"{directory} is no run that can be opened", expected="a folder with stages/observations.h5",
                hint="the run.directory of a run that has its observations",
            )  # fmt: skip
        self._store = Store(self.directory / "stages", Communicator().alone())

    def __repr__(self) -> str:
        return f"<run {self.results.name} in {self.directory}: {self.answer.word}, {self.answer.headline}>"

    @cached_property
    def results(self) -> Results:
        """All records of the run, as the report sees them."""
        return collect(self._store, Snapshot.read(self.directory))

    @property
    def answer(self) -> Answer:
        """May I use this posterior: `word`, `headline`, `because`, `advice`."""
        return self.results.answer

    @property
    def config(self) -> dict[str, Any]:
        """The config with all defaults, as plain values."""
        return dict(self.results.settings)

    @cached_property
    def parameters(self) -> pd.DataFrame:
        """A row for each parameter: unit, default, mean, sd and quantiles of prior and posterior."""
        header, rows = parameter_tables.columns(self.results)
        return _frame(header, rows).set_index("parameter")

    @cached_property
    def posterior(self) -> pd.DataFrame:
        """The posterior draws, a column for each parameter, with what follows from them.

        Raises
        ------
        BadInput
            Where none was sampled.
        """
        found = self.results.posterior
        if found is None:
            raise BadInput(f"{self.directory} has no posterior: {self.answer.headline}")
        names = [*self.results.parameter, *found.draws_following]
        draws = np.column_stack([found.draws_theta, *found.draws_following.values()])
        return _frame(names, draws.tolist())

    @cached_property
    def scores(self) -> pd.DataFrame:
        """The scorecard: variable, period, ensemble, score, value, unit; empty before a run is scored."""
        card = self.results.scorecard
        names = ["variable", "period", "ensemble", "score", "value"]
        if card is None:
            return _frame([*names, "unit"], [])
        units = units_of(card, {v: self.results.unit(v) for v in self.results.variables})
        return _frame([*names, "unit"], zip(*(getattr(card, n).tolist() for n in names), units, strict=True))

    @cached_property
    def observations(self) -> xr.Dataset:
        """The observations, a variable each over its own time, with error sd and period.

        Of a variable GPP the time is `time_GPP`, where the variables have windows of their own.
        """
        return inference_data.observed(self.results)

    def predictions(self, ensemble: str = "posterior") -> xr.Dataset:
        """Return what an ensemble predicts, a variable each (member, time), with units.

        Parameters
        ----------
        ensemble : str
            `prior`, `last`, `posterior`, `default`, or a stage as `evaluation-02`.
        """
        return inference_data.predicted(self.results, self._predictions(ensemble))

    def _predictions(self, ensemble: str) -> Array:
        known = self.results.compared
        if ensemble in known:
            return known[ensemble]
        if ensemble in self.results.history:
            return members(self.results.history[ensemble])
        names = [*known, *self.results.history]
        raise BadInput(
            f"there is no ensemble {ensemble!r}",
            expected=f"one of {', '.join(names)}",
            hint=did_you_mean(ensemble, names),
        )

    def ensemble(self, stage: str) -> pd.DataFrame:
        """Return the parameters of every member of a stage, with its status (0: it ran) and seconds."""
        history = self.results.history
        if stage not in history:
            raise BadInput(f"there is no stage {stage!r}", hint=did_you_mean(stage, history))
        of = history[stage]
        rows = np.column_stack([of.theta, of.status, of.seconds])
        return _frame([*self.results.parameter, "status", "seconds"], rows.tolist())

    @property
    def emulator(self) -> Callable[[Array], tuple[Array, Array]]:
        """The emulator: parameters (M, P), physical, to mean and sd (M) of the misfit Phi.

        Raises
        ------
        BadInput
            Where none was learnt.
        """
        results = self.results
        emulator, surrogate = results.emulator, results.surrogate
        if emulator is None or surrogate is None:
            raise BadInput(f"{self.directory} has no emulator")
        calibration, space = results.observations.select(results.rows("calibration")), results.prior

        def misfit(theta: Array) -> tuple[Array, Array]:
            mean, variance = emulator.predict(surrogate, space.u(np.atleast_2d(theta)))
            return emulator.misfit(surrogate, calibration, mean, variance)

        return misfit

    def to_datatree(self) -> xr.DataTree:
        """Return the groups of ArviZ's InferenceData, as `posterior.nc` holds them."""
        return inference_data.tree(self.results)

    def plot(self, name: str) -> Figure:
        """Return a figure of the report by the name of its files: `parameters`, `fit-GPP`, `corner` ..."""
        from fatescal.report.figure_files import plots

        made = {plot.name: plot for plot in plots(self.results)}
        if name not in made:
            raise BadInput(
                f"there is no figure {name!r}",
                expected=f"one of {', '.join(made)}",
                hint=did_you_mean(name, made),
            )
        return made[name].draw()


def _frame(columns: Sequence[str], rows: Any) -> pd.DataFrame:
    """Return a table; pandas is reached by xarray, whose door it is here."""
    from fatescal.observations.tables import frame

    return frame(columns, rows)
