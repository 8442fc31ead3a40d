"""What the checkout of a case tells about its namelist keys and history fields, before any run.

`lnd_in` names the checkout in its last lines (the command line of CLM's build-namelist). There
`namelist_definition_ctsm.xml` has group, type and valid values of each key, and the Fortran source registers
each history field under its name. Where the checkout is not at hand, only the keys of `lnd_in` are known.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from xml.etree import ElementTree

from fatescal.base.errors import BadInput
from fatescal.models.clm_fates import namelist

DEFINITION = "bld/namelist_files/namelist_definition_*.xml"
SOURCES = ("src/*/**/*.F90", "src/*.F90")  # below src/fates too
# hist_addfld1d (fname='TSA', ...); fname=this%info%fname('QFLX_EVAP_TOT'); set_history_var(vname='FATES_GPP',
# ...)
FIELD = re.compile(r"\b[fv]name\s*=\s*(?:[\w%]+\s*\(\s*)?['\"]([A-Za-z]\w*)['\"]")
OURS = re.compile(
    r"hist_(fincl\d+|nhtfrq|mfilt|empty_htapes|ndens)|fates_history_dimlevel"
)  # set for each member
KINDS: dict[str, tuple[type, ...]] = {
    "logical": (bool,), "integer": (int,), "real": (int, float), "char": (str,),
}  # fmt: skip
DESCRIPTIONS = {"logical": "true or false", "integer": "a whole number", "real": "a number", "char": "a text"}


@dataclass(frozen=True)
class Key:
    """One key of `lnd_in`: `kind` is one of `KINDS`; no `values` where any is valid."""

    group: str
    kind: str
    values: tuple[str, ...]


@dataclass(frozen=True)
class Checkout:
    """The source that a case was made from.

    Attributes
    ----------
    root : Path or None
        The checkout; None where `lnd_in` names none.
    case : Path or None
        The case, whose SourceMods may have history fields of their own.
    """

    root: Path | None
    case: Path | None

    @classmethod
    def of(cls, lnd_in: str) -> Checkout:
        """Return the checkout and the case that the comment below a namelist names.

        >>> Checkout.of("!#   /src/CTSM/bld/CLM build-namelist -infile x -envxml_dir /cases/a -driver nuopc")
        Checkout(root=PosixPath('/src/CTSM'), case=PosixPath('/cases/a'))
        """
        root = re.search(r"^!#\s+(/\S+?)/bld/CLM build-namelist", lnd_in, re.MULTILINE)
        case = re.search(r"^!#.* -envxml_dir (\S+)", lnd_in, re.MULTILINE)
        return cls(Path(root[1]) if root else None, Path(case[1]) if case else None)

    @cached_property
    def keys(self) -> dict[str, Key]:
        """Every key by its name in small letters; nothing where the definition is not at hand.

        Raises
        ------
        BadInput
            When the definition cannot be read.
        """
        keys: dict[str, Key] = {}
        for path in sorted(self.root.glob(DEFINITION)) if self.root is not None else ():
            if path.name.endswith(("_drv.xml", "_drv_flds.xml")):
                continue  # of other files than lnd_in
            try:
                entries = list(ElementTree.parse(path).getroot().iter("entry"))
            except ElementTree.ParseError as error:
                raise BadInput(f"{path} cannot be read: {error}") from None
            for entry in entries:
                kind = re.match(r"[a-z]*", entry.get("type", "").strip().lower())
                values = tuple(v.strip() for v in entry.get("valid_values", "").split(",") if v.strip())
                keys[str(entry.get("id")).lower()] = Key(
                    entry.get("group", ""), kind[0] if kind else "", values
                )
        return keys

    @cached_property
    def fields(self) -> frozenset[str]:
        """The names of all history fields that the source registers; none where it is not at hand."""
        folders = [] if self.root is None else [self.root]
        files = [path for folder in folders for pattern in SOURCES for path in folder.glob(pattern)]
        if files and self.case is not None:
            files += self.case.glob("SourceMods/**/*.F90")
        return frozenset(name for path in files for name in FIELD.findall(_text(path)))


def require_keys(changes: Mapping[str, namelist.Value], lnd_in: str, checkout: Checkout) -> list[str]:
    """Return lines about keys of which not all can be known.

    Parameters
    ----------
    given : mapping
        `model.namelist` of the config.
    lnd_in : str
        The namelist of the case.

    Raises
    ------
    BadInput
        For a key that the model does not have, or a value that it does not know.
    """
    present = {key.lower(): value for key, value in namelist.items(lnd_in).items()}
    for name, value in changes.items():
        where = f"model.namelist.{name}"
        if OURS.fullmatch(name.lower()):
            raise BadInput(f"{where} is set by fatescal for each member", hint="take the key away")
        key = checkout.keys.get(name.lower())
        if key is not None:
            _require_value(where, value, key)
        elif checkout.keys or name.lower() not in present:
            _refuse(where, name, [*checkout.keys] or [*present], checkout)
        else:
            _require_alike(where, value, present[name.lower()])
    unknown = "" if checkout.keys or not changes else ", ".join(changes)
    at = f"no checkout at {checkout.root}" if checkout.root else "lnd_in names no checkout"
    return [f"namelist      {unknown}: whether these values are valid is not known ({at})"] if unknown else []


def _refuse(where: str, name: str, known: Iterable[str], checkout: Checkout) -> None:
    near = difflib.get_close_matches(name.lower(), list(known), n=1)
    owner = "the model" if checkout.keys else "lnd_in of the case"
    more = (
        ""
        if checkout.keys
        else "; another key of the model goes into user_nl_clm of the case, where CIME checks it"
    )
    raise BadInput(
        f"{where}: {owner} has no such key",
        hint=(f"did you mean {near[0]}?" if near else "the keys of lnd_in") + more,
    )


def _require_value(where: str, value: namelist.Value, key: Key) -> None:
    """Raise `BadInput` for a value of another type, or none of the valid ones."""
    kinds = KINDS.get(key.kind)
    if kinds is not None and (
        not isinstance(value, kinds) or (isinstance(value, bool) and key.kind != "logical")
    ):
        raise BadInput(f"{where}", expected=DESCRIPTIONS[key.kind], got=repr(value))
    if key.values and str(value) not in key.values:
        near = difflib.get_close_matches(str(value), key.values, n=1, cutoff=0.4)
        raise BadInput(
            f"{where}: the model does not know this value, and may run on without an error",
            expected=f"one of {', '.join(key.values)}",
            got=repr(value),
            hint=f"did you mean {near[0]}?" if near else "",
        )


def _require_alike(where: str, value: namelist.Value, present: str) -> None:
    """Raise `BadInput` for a value of another type than the present one; no more is known here."""
    kind = "char" if present.startswith("'") else "logical" if present.startswith(".") else "real"
    if not isinstance(value, KINDS[kind]) or (isinstance(value, bool) and kind != "logical"):
        raise BadInput(where, expected=f"{DESCRIPTIONS[kind]}, as {present} in the case", got=repr(value))


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="latin-1")
    except OSError:
        return ""
