"""What a case shall be, and where the config says so."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fatescal.base.errors import BadInput
from fatescal.models.clm_fates import namelist
from fatescal.models.clm_fates.cime import CimeError
from fatescal.models.clm_fates.externals import commit

_WRONG_NAME = (  # what CIME quotes as wrong
    r"streamname '([^']+)' that is not",
    r"[Vv]ariable (?:name )?'?(\w+)'? (?:not|is not|found)",
    r"valid values for (\w+)",
    r"Entry (\w+) was",
)


@dataclass(frozen=True)
class Plan:
    """What a case shall be.

    Attributes
    ----------
    path : Path
        The case directory; its name is the case's.
    source : Path
        The model's checkout.
    create : mapping of str to str
        Options of create_newcase (`compset`, `machine` ...), without the dashes.
    user_mods : tuple of Path
        Folders for ``--user-mods-dirs``.
    xml : mapping of str to str
        XML variables.
    user_nl : mapping of str to mapping
        Keys by file: ``user_nl_clm``, ``user_nl_datm``, ``user_nl_datm_streams``.
    keys : mapping of str to str
        Where the config says so, by the name of a variable, a key, or an option of create_newcase.
    config : mapping
        The sections of the config that decide the case, kept with it.
    """

    path: Path
    source: Path
    create: Mapping[str, str]
    user_mods: tuple[Path, ...] = ()
    xml: Mapping[str, str] = field(default_factory=dict)
    user_nl: Mapping[str, Mapping[str, namelist.Value]] = field(default_factory=dict)
    keys: Mapping[str, str] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)

    def key(self, name: str) -> str:
        """Return where the config says something, or that it is fatescal's default."""
        return self.keys.get(name, f"{name} (a default of fatescal)")

    def blamed(self, error: CimeError) -> BadInput:
        """Return the error with the key of the config that it is about, where it names one."""
        named = self._named(error.line)
        return BadInput(f"{self.key(named)}: {error}" if named else str(error))

    def _named(self, line: str) -> str:
        """Return the variable, key or option that an error of CIME is about; nothing where it names none.

        What CIME quotes as wrong comes first. Lists of valid values, and paths, do not count.
        """
        names = [*self.xml, *(name for values in self.user_nl.values() for name in values)]
        for pattern in _WRONG_NAME:
            for wrong in re.findall(pattern, line):
                for name in names:
                    if wrong.lower() in {name.lower(), *name.lower().split(":")}:
                        return name
        text = re.sub(r"\[[^\]]*\]|(?<![\w.:])/\S+", " ", line)
        scores = {name: sum(_names(text, part) for part in {name, *name.split(":")}) for name in names}
        best = max(scores, key=lambda name: scores[name], default="")
        if best and scores[best]:
            return best
        for option, value in self.create.items():
            if _names(line if value.startswith("/") else text, value):
                return option
        land = re.search(r"CLM\d\d", self.create["compset"])
        return "compset" if land is not None and land[0] in text else ""

    @property
    def made_with(self) -> dict[str, Any]:
        """What only a new case can change."""
        files = [path for folder in self.user_mods for path in sorted(folder.rglob("*")) if path.is_file()]
        mods = {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
        return {"source": [str(self.source), commit(self.source, "HEAD")], **self.create, "user_mods": mods}


def _names(text: str, term: str) -> bool:
    return re.search(rf"(?<![\w.]){re.escape(term)}(?!\w)", text) is not None
