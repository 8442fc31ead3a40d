"""CLM-FATES as a forward model: each member a process in a folder of its own, from one executable."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import date
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from fatescal.base.errors import BadInput, ModelFailed, Status
from fatescal.hpc.launch import HIDDEN_PREFIXES, launch, never, seconds
from fatescal.models.base import Model
from fatescal.models.clm_fates import effort, history, namelist, outcome
from fatescal.models.clm_fates.inspection import (
    inspect,
    require_files,
    require_libraries,
    require_present,
    shares_of_pfts,
)
from fatescal.models.clm_fates.targets import Targets
from fatescal.models.clm_fates.template import CASE_NAME, Template, day_after, day_before, days
from fatescal.storage.inputs import Source, Sources

if TYPE_CHECKING:
    import xarray as xr

LONGEST_PATH = 200  # characters; Fortran keeps 256 of a path, and stages and members have names too
EXIT_CODE = "exit_code"
# A shell stays to write down the exit code (134 for SIGABRT), which a finished member's folder keeps.
_COMMAND = f'"$0" >cesm.log 2>cesm.err; code=$?; echo $code >{EXIT_CODE}; exit $code'
_SCRATCH = ("*.r.*.nc", "*.rh*.nc", "rpointer.*")  # what only a restart needs


def _name(value: namelist.Value, folder: Path) -> namelist.Value:
    """Return the name of a file in `folder`; any other value as it is."""
    own = isinstance(value, str) and Path(value).parent == folder
    return Path(str(value)).name if own else value


class ClmFates(Model):
    """CLM-FATES at one point.

    Parameters
    ----------
    template : Template
        The input files and the executable that all members share.
    start, end : date
        First and last day of the output; noleap calendar, UTC days.
    spinup_years : int
        Years run before `start`.
    reuse : str
        ``default``: once, with default parameters, for all members; ``member``: each member in the first
        ensemble, which then starts every iteration from its own state at the end of the one before;
        ``none``: each member of each ensemble.
    variables : sequence of str
        The history fields to write and read.
    spun_up : Path
        Folder of the shared spin-up.
    parameter_file : Path or None
        FATES parameter file to take instead of the template's.
    timeout : str or float, optional
        Time limit of one run, ``"12 h"`` or seconds.
    keep : str
        ``all``, or ``history``: restart files go as soon as nothing can need them.
    hide, launcher, stop
        As in `process.launch`.
    """

    calendar = "noleap"
    numbers_pfts = True  # by the parameter file's own list, from 1
    makes_effect_runs = True
    period: tuple[date, date] = (date.min, date.max)

    def __init__(
        self,
        template: Template,
        start: date,
        end: date,
        *,
        spinup_years: int,
        reuse: str,
        variables: Sequence[str],
        spun_up: Path,
        parameter_file: Path | None = None,
        timeout: str | float | None = None,
        keep: str = "history",
        hide: Sequence[str] = HIDDEN_PREFIXES,
        launcher: Sequence[str] = (),
        stop: Callable[[], bool] = never,
    ) -> None:
        self.template, self.start, self.end, self.period = template, start, end, (start, end)
        self.variables = tuple(variables)
        self.spinup_years, self.reuse, self.spun_up = spinup_years, reuse, spun_up
        self._parameter_file = parameter_file
        self._timeout = None if timeout is None else seconds(timeout)
        self._keep, self._hide, self._launcher, self._stop = keep, hide, launcher, stop

    @cached_property
    def targets(self) -> Targets:
        """The files and namelist keys that hold parameters."""
        return Targets.of(self.template, self._parameter_file)

    @property
    def defaults(self) -> Mapping[str, float]:
        """The value of every parameter in the files; `BadInput` names all files that are missing."""
        require_files(self.template, () if self._parameter_file is None else ("fates_paramfile",))
        return self.targets.defaults

    @property
    def units(self) -> Mapping[str, str]:
        """The unit of every parameter that has one in the files."""
        return self.targets.units

    @property
    def pfts(self) -> tuple[str, ...]:
        """The plant functional types in the order of the FATES parameter file."""
        return self.targets.pfts

    @property
    def shares_spin_up(self) -> bool:
        """Whether there is one spin-up for all members."""
        return self.reuse == "default" and self.spinup_years > 0

    @property
    def warm_starts(self) -> bool:
        """Whether a member starts from its own state one iteration before."""
        return self.reuse == "member"

    @property
    def needed_later(self) -> tuple[str, ...]:
        """The files of a finished member from which another one starts."""
        return _SCRATCH if self.warm_starts else ()

    @cached_property
    def identity(self) -> Mapping[str, object]:
        """All that decides a member's output beside its parameters."""
        return {
            "kind": "clm_fates",
            **self.template.identity,
            "parameters": self.targets.identity,
            "period": [self.start.isoformat(), self.end.isoformat()],
            "spinup": [self.spinup_years, self.reuse],
            "variables": list(self.variables),
        }

    def files(self) -> Sources:
        """Return the executable, the parameter file of the config, the site's and the case's input files.

        With the last all that they name: surface data, CLM's parameters, forcing.
        """
        template = self.template
        replaced = None if self._parameter_file is None else template.path("fates_paramfile")
        named = [path for path in template.named if path != replaced]
        files: dict[str, list[Source]] = {
            "model.run_directory": [*template.texts, *named],
            "model.executable": [template.executable],
        }
        if self._parameter_file is not None:
            files["model.parameter_file"] = [self._parameter_file]
        if template.site is not None:
            site = template.site
            files["model.site"] = [site.surface, *(path for paths in site.forcing.values() for path in paths)]
        return files

    @property
    def first(self) -> date:
        """The first day of a run that begins with its own spin-up."""
        return self.start.replace(year=self.start.year - self.spinup_years)

    @cached_property
    def looked_at(self) -> list[str]:
        """Lines about place, forcing and namelist; `BadInput` for what is wrong with them."""
        return inspect(self.template, self.first, self.start, self.end, self.variables)

    def check(self) -> None:
        """Raise `BadInput` for whatever would make every run fail, or be wrong without a message."""
        self.check_inputs()
        require_libraries(self.template.executable)

    def check_inputs(self) -> None:
        """Raise `BadInput` for what is wrong with the files that a run reads, or leaves."""
        _ = self.looked_at
        if self._timeout is not None:
            self.effort.require_time(self._timeout, self._longest)
        kind = self.template.path("fates_paramfile").suffix
        if self.targets.fates.path.suffix != kind:
            raise BadInput(
                f"model.parameter_file: {self.targets.fates.path} is of another version of FATES",
                expected=f"a file {kind}, as the case reads",
            )
        longest = self.spun_up / f"{CASE_NAME}.clm2.r.{self.start}-00000.nc"
        if len(str(longest)) > LONGEST_PATH:
            raise BadInput(
                f"run.directory makes paths longer than CLM reads: {longest} has {len(str(longest))} "
                "characters",
                expected=f"at most {LONGEST_PATH}",
                hint="a shorter run.directory",
            )

    def describe(self, n_runs: int, n_warm_starts: int, n_waves: int) -> list[str]:
        """Return what `check` looked at, and the cost of the members, `n_waves` of them one after another."""
        years = self._years(n_runs, n_warm_starts if self.warm_starts else 0)
        lines = [*self.looked_at, *self.effort.lines(years, self._years(n_waves, 0))]
        return (
            lines if self._timeout is None else lines + self.effort.require_time(self._timeout, self._longest)
        )

    def disk_estimate(self, n_runs: int, n_warm_starts: int) -> float:
        """Return the bytes that members leave, of which `n_warm_starts` may start from their own state."""
        return 1e6 * effort.DISK * self._years(n_runs, n_warm_starts if self.warm_starts else 0)

    def _years(self, runs: int, warm: int) -> float:
        """Return the model years that `runs` members take, with the shared spin-up."""
        length = days(self.start, self.end) / 365
        each = length if self.shares_spin_up else length + self.spinup_years
        return (runs - warm) * each + warm * length + (self.spinup_years if self.shares_spin_up else 0)

    @property
    def effort(self) -> effort.Effort:
        """What a model year takes, as the first run of the preparation has shown where it is finished."""
        years = days(self.start, min(self.end, self._year_on)) / 365
        return effort.Effort.of(self.spun_up.with_name("canary-default"), years)

    @property
    def _longest(self) -> float:
        """The model years of the longest run."""
        length = days(self.start, self.end) / 365
        return max(length, self.spinup_years) if self.shares_spin_up else length + self.spinup_years

    @property
    def _year_on(self) -> date:
        """The last day of a year that begins with the output."""
        return day_before(self.start.replace(year=self.start.year + 1))

    def check_values(self, theta: Mapping[str, float]) -> None:
        """Raise `BadInput` for values the model must not get, and plant types that do not grow there."""
        pft_map = self.targets.fates.arrays.get("fates_hlm_pft_map")
        if pft_map is not None:  # younger than the oldest parameter files
            require_present(list(theta), shares_of_pfts(self.template, self.pfts, pft_map))
        try:
            self.targets.require_possible(theta)
        except ModelFailed as failure:
            raise BadInput(
                f"parameters: {failure.reason}", hint="narrower bounds, or a bounded prior"
            ) from None

    def spin_up(self, theta: Mapping[str, float], folder: Path) -> None:
        """Run the years before `start` and leave the state; `ModelFailed` when they fail."""
        last = day_before(self.start)
        self._simulate(theta, folder, self.first, last, None, restart=True)
        self._restart(folder, self.start)

    def effect_run(self, theta: Mapping[str, float], folder: Path) -> None:
        """Run one year from `start`, or less where the output is shorter, from the template's own state."""
        self._simulate(theta, folder, self.start, min(self.end, self._year_on), None, restart=False)
        self._tidy(folder)

    def run(self, theta: Mapping[str, float], folder: Path, warm_start: Path | None = None) -> None:
        """Run one member: its own inputs, the model, and a look at what it left.

        Raises
        ------
        ModelFailed
            With the cause.
        """
        first, finidat = self.start, None
        if self.shares_spin_up:
            finidat = self._restart(self.spun_up, self.start)
        elif self.warm_starts and warm_start is not None:
            finidat = self._restart(warm_start, day_after(self.end))
        else:
            first = self.first
        self._simulate(theta, folder, first, self.end, finidat, restart=self.warm_starts)
        if not self.warm_starts:
            self._tidy(folder)

    def read(self, folder: Path) -> xr.Dataset:
        """Return the daily output of a finished run; times are decoded, with their bounds."""
        return history.read(folder, self.variables, prefix=CASE_NAME)

    def parameter_files(self, theta: Mapping[str, float], folder: Path) -> list[Path]:
        return self.targets.files(theta, folder)

    def _simulate(
        self,
        theta: Mapping[str, float],
        folder: Path,
        first: date,
        last: date,
        finidat: Path | None,
        *,
        restart: bool,
    ) -> None:
        # By their names alone: the folder is renamed when the run is complete.
        changes = {k: _name(v, folder) for k, v in self.targets.write(theta, folder).items()}
        self.template.write(
            folder, first, last, variables=self.variables, changes=changes, finidat=finidat, restart=restart
        )
        try:
            launch(
                ["/bin/sh", "-c", _COMMAND, str(self.template.executable)],
                folder,
                timeout=self._timeout,
                hide=self._hide,
                launcher=self._launcher,
                stop=self._stop,
                log="launch.log",
            )
        except ModelFailed as failure:
            if failure.kind == Status.TIME_OUT:
                limit = f"still running after {self._timeout:g} s, ended"
                raise ModelFailed(Status.TIME_OUT, outcome.report(folder, limit)) from None
        written = folder / EXIT_CODE
        code = written.read_text().strip() if written.is_file() else ""
        if not code.isdigit():
            ending = "no exit code was written: killed from outside, or the disk is full"
            raise ModelFailed(Status.MODEL_ERROR, outcome.report(folder, ending))
        self.judge(folder, int(code), first, last)

    def judge(self, folder: Path, code: int, first: date, last: date) -> None:
        """Raise `ModelFailed` unless the run of these days in `folder` is whole."""
        outcome.judge(folder, code, lambda: self._records(folder, first), days(first, last))

    def _records(self, folder: Path, first: date) -> int:
        """Return the number of days in the output of a run that began on `first`; of none other."""
        history = self.read(folder)
        begin = history["time"].attrs["units"].split()[2]
        if begin != str(first) or history["time_bounds"][0, 0] != 0:
            raise ModelFailed(
                Status.TRUNCATED, f"{folder}: the history begins on {begin}, of another run? Expected {first}"
            )
        return history.sizes["time"]

    def _restart(self, folder: Path, day: date) -> Path:
        """Return the state that a run left for the beginning of `day`."""
        path = folder / f"{CASE_NAME}.clm2.r.{day}-00000.nc"
        if not path.is_file():
            raise ModelFailed(Status.TRUNCATED, f"{folder} left no restart file {path.name}")
        return path

    def _tidy(self, folder: Path) -> None:
        if self._keep == "history":
            for pattern in _SCRATCH:
                for path in folder.glob(pattern):
                    path.unlink()
