"""The run directory that a case leaves after `preview_namelists`, and the members' own made from it."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from functools import cached_property
from pathlib import Path

from fatescal.base.errors import BadInput
from fatescal.models.clm_fates import namelist, runconfig, streams
from fatescal.models.clm_fates.definition import Checkout
from fatescal.models.clm_fates.site_folder import SiteFolder
from fatescal.observations import calendars
from fatescal.storage.inputs import Text

FILES = (
    "datm.streams.xml", "datm_in", "drv_flds_in", "drv_in", "fd.yaml", "lnd_in", "nuopc.runconfig",
    "nuopc.runseq",
)  # fmt: skip
CASE_NAME = "fatescal"  # the prefix of a member's output
DAILY = -24  # hist_nhtfrq [h]


@dataclass(frozen=True)
class Template:
    """What all members share: the eight input files of a run directory, and the executable.

    Attributes
    ----------
    keys : mapping
        Keys of `lnd_in` that the config sets, beyond what fatescal sets itself.
    site : Site or None
        The place, where it is another than the case's.
    """

    run_directory: Path
    executable: Path
    keys: Mapping[str, namelist.Value]
    site: SiteFolder | None = None

    @cached_property
    def files(self) -> dict[str, str]:
        """The files by name.

        Raises
        ------
        BadInput
            When one is missing.
        """
        try:
            files = {name: (self.run_directory / name).read_text(encoding="utf-8") for name in FILES}
        except OSError as error:
            raise BadInput(
                f"{error.filename} cannot be read: {error.strerror}",
                expected=f"a run directory with {', '.join(FILES)}",
                hint="./preview_namelists in the case writes them",
            ) from None
        return files if self.site is None else files | self._at_site(self.site, files)

    @staticmethod
    def _at_site(site: SiteFolder, files: Mapping[str, str]) -> dict[str, str]:
        """Return the files that say where the point is, for another site."""
        lat, lon = site.coordinates
        return {
            "lnd_in": namelist.edit(files["lnd_in"], {"fsurdat": str(site.surface)}),
            "nuopc.runconfig": runconfig.edit(files["nuopc.runconfig"], {"scol_lat": lat, "scol_lon": lon}),
            "datm.streams.xml": streams.with_forcing(files["datm.streams.xml"], site.forcing, site.years),
        }

    @cached_property
    def lnd_in(self) -> str:
        """The land model's namelist with the config's keys set, new ones in the group where the model reads
        them.
        """
        text, known = self.files["lnd_in"], Checkout.of(self.files["lnd_in"]).keys if self.keys else {}
        for key, value in self.keys.items():
            name = key.lower()  # as lnd_in has them
            text = namelist.edit(text, {name: value}, known[name].group if name in known else "clm_inparm")
        return text

    @cached_property
    def streams(self) -> list[streams.Stream]:
        """The streams of the data atmosphere."""
        return streams.parse(self.files["datm.streams.xml"])

    def path(self, key: str) -> Path:
        """Return the file that a key of `lnd_in` names.

        Raises
        ------
        BadInput
            When the key is not there, or is blank.
        """
        value = (namelist.get(self.lnd_in, key) or "").strip()
        if not value:
            raise BadInput(
                f"{self.run_directory}/lnd_in names no {key}", hint="./preview_namelists in the case"
            )
        return self.run_directory / value  # an absolute one stays as it is

    @cached_property
    def _deciding(self) -> dict[str, str]:
        """The files as far as they decide a run.

        Keys that members get from fatescal do not count: each case.submit writes another time into the names
        of the logs.
        """
        return {
            **self.files,
            "lnd_in": self._land(1, (), {}, None),
            "nuopc.runconfig": self._driver(date(2001, 1, 1), 1, False),
        }

    @property
    def texts(self) -> list[Text]:
        """The files, of each what decides a run."""
        return [Text(self.run_directory / name, text) for name, text in self._deciding.items()]

    @cached_property
    def named(self) -> list[Path]:
        """The files that these name, those of the site aside: parameters, surface data, forcing, meshes."""
        names = re.findall(r"'([^'\n]*/[^'\n]*)'", self.lnd_in)
        for name, text in self.files.items():
            names += [] if name == "lnd_in" else re.findall(r"/[^\s'\"<>,]+", text)
        paths = [self.run_directory / name for name in names]
        paths += [path for stream in self.streams for path in stream.files]
        own = set() if self.site is None else {self.site.surface, *sum(self.site.forcing.values(), ())}
        return [path for path in dict.fromkeys(paths) if path not in own and path.is_file()]

    @cached_property
    def identity(self) -> dict[str, object]:
        """All of the template that decides a run, the content of `named` files and executable aside."""
        digest = hashlib.sha256("\0".join(self._deciding.values()).encode())
        return {"inputs": digest.hexdigest(), "executable": str(self.executable)}

    def write(
        self,
        folder: Path,
        first: date,
        last: date,
        *,
        variables: tuple[str, ...],
        changes: Mapping[str, namelist.Value],
        finidat: Path | None,
        restart: bool,
    ) -> None:
        """Write a member's eight files: days `first` .. `last`, one history file of daily means.

        Parameters
        ----------
        variables : tuple of str
            The history fields to write.
        changes : mapping
            The member's own keys of `lnd_in`.
        finidat : Path or None
            The state to start from; None leaves what the template says.
        restart : bool
            Whether the state at the end of the last day is to be written.
        """
        n_days = days(first, last)
        written = dict(self.files)
        written["lnd_in"] = self._land(n_days, variables, changes, finidat)
        written["nuopc.runconfig"] = self._driver(first, n_days, restart)
        written["nuopc.runseq"] = self.sequence
        for name, text in written.items():
            (folder / name).write_text(text, encoding="utf-8")

    def _land(
        self,
        n_days: int,
        variables: tuple[str, ...],
        own: Mapping[str, namelist.Value],
        finidat: Path | None,
    ) -> str:
        return namelist.edit(self.lnd_in, self.land_changes(n_days, variables, own, finidat))

    def land_changes(
        self,
        n_days: int,
        variables: tuple[str, ...],
        own: Mapping[str, namelist.Value],
        finidat: Path | None,
    ) -> dict[str, namelist.Value | None]:
        """Return what members' `lnd_in` have otherwise than the case: one tape with the variables, in one
        file.
        """
        changes: dict[str, namelist.Value | None] = dict(own)
        if finidat is not None:
            changes["finidat"] = str(finidat)
        changes |= {f"hist_fincl{n}": None for n in range(2, 11)}
        changes |= {
            "hist_empty_htapes": True,
            "hist_fincl1": list(variables),
            "hist_nhtfrq": DAILY,
            "hist_mfilt": n_days + 1,  # older versions begin with a record of no length
        }
        for key, value in (("hist_ndens", 1), ("fates_history_dimlevel", [1, 1])):
            if namelist.get(self.lnd_in, key) is not None:
                changes[key] = value
        return changes

    def _driver(self, first: date, n_days: int, restart: bool) -> str:
        text = runconfig.log_here(self.files["nuopc.runconfig"])
        return runconfig.edit(
            text,
            {
                "case_name": CASE_NAME,
                "start_type": "startup",
                "start_ymd": f"{first:%Y%m%d}",
                "start_tod": 0,
                "stop_option": "ndays",
                "stop_n": n_days,
                "restart_option": "ndays" if restart else "never",
                "restart_n": n_days,
                "write_restart_at_endofrun": ".true." if restart else ".false.",
            },
        )

    @property
    def sequence(self) -> str:
        """The run sequence, without the profiling phase where that may end the run after a day: versions
        before JSON parameter files do so, under a recent ESMF, without leap years. It reports progress and
        does nothing else.
        """
        text = self.files["nuopc.runseq"]
        if self.path("fates_paramfile").suffix == ".json":
            return text
        return re.sub(r"^\s*MED med_phases_profile\s*\n", "", text, flags=re.MULTILINE)


def days(first: date, last: date) -> int:
    """Return the number of days from `first` to `last`, both included, without leap days.

    >>> days(date(2004, 1, 1), date(2005, 12, 31))
    730
    """
    begin, end = calendars.clock([str(first), str(last)], "noleap")
    return int(end - begin) // calendars.DAY + 1


def day_before(day: date) -> date:
    """Return the day before in a calendar without leap days."""
    before = day - timedelta(days=1)
    return before if (before.month, before.day) != (2, 29) else before - timedelta(days=1)


def day_after(day: date) -> date:
    """Return the day after in a calendar without leap days."""
    after = day + timedelta(days=1)
    return after if (after.month, after.day) != (2, 29) else after + timedelta(days=1)
