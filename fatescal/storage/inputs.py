"""Files from outside: what a run is computed from beside its config, known by the digest of their content.

Each key of the config that names files has one digest, of all of them. A stage keeps the digests of those it
reads, and `RUN/inputs.json` which files each digest stands for, so that a changed one can be named. Size and
times of large files are kept there too: a start reads only those again that were touched since.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fatescal.base.errors import BadInput
from fatescal.storage import atomic

NAME = "inputs.json"
SMALL = 2**20  # bytes; a smaller file is read at every start
SETTLED = 2.0  # s; a file that has changed within this time may change again without another time stamp
MISSING = "missing"  # instead of a digest


@dataclass(frozen=True)
class Text:
    """A file of which only a part decides anything; `text` is that part."""

    path: Path
    text: str


Source = Path | Text
Sources = Mapping[str, Sequence[Source]]  # by the key of the config that names them


@dataclass
class Register:
    """`RUN/inputs.json`.

    Attributes
    ----------
    seen : dict
        Of each large file, by its path: size, times of content and status [ns], inode, digest of the content.
    known : dict
        By key and digest: what the digest stands for. Of each file, by its path, the digest of what counts in
        it and that of its bytes.
    written : dict
        Files among these that the model itself writes: by the path, the digest before the first run, or
        `MISSING`. They are no inputs, and go on counting as what they were then.
    """

    seen: dict[str, list[Any]] = field(default_factory=dict)
    known: dict[str, dict[str, dict[str, list[str]]]] = field(default_factory=dict)
    written: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, run: Path) -> Register:
        """Return the register of a run, empty where there is none that can be read."""
        try:
            content = json.loads((run / NAME).read_text())
            parts = (content["seen"], content["known"], content.get("written", {}))
            return cls(*parts) if all(isinstance(part, dict) for part in parts) else cls()
        except (OSError, ValueError, KeyError, TypeError):
            return cls()

    def save(self, run: Path) -> None:
        """Write the register into a run's folder."""
        content = {"seen": self.seen, "known": self.known, "written": self.written}
        atomic.write_text(run / NAME, json.dumps(content, indent=1) + "\n")

    def digests(self, sources: Sources) -> dict[str, str]:
        """Return the digest of each key's files, and keep what it stands for.

        Names and content count, in the order given; the folders that the files are in and their times do not.

        Raises
        ------
        BadInput
            For a file that may not be read.
        """
        digests = {}
        for key, several in sources.items():
            files = self._inputs(several)
            lines = (f"{Path(path).name} {counts}" for path, (counts, _) in files.items())
            digests[key] = hashlib.sha256("\n".join(lines).encode()).hexdigest()
            self.known.setdefault(key, {})[digests[key]] = files
        return digests

    def contents(self, sources: Sources) -> dict[str, str]:
        """Return the digest of each file's bytes, by its path."""
        every = (pair for several in sources.values() for source in several for pair in self._files(source))
        return {str(path): raw for path, (_, raw) in every}

    def note_written(self, before: Mapping[str, str], after: Mapping[str, str]) -> list[str]:
        """Note the files that the model has written between two `contents`; return their paths."""
        paths = [
            path for path in after if after[path] != before.get(path, MISSING) and path not in self.written
        ]
        self.written |= {path: before.get(path, MISSING) for path in paths}
        return paths

    def _inputs(self, several: Sequence[Source]) -> dict[str, list[str]]:
        """Return the digests of files by path; of one that the model writes, those before its first run."""
        files = {}
        for path, digests in (pair for source in several for pair in self._files(source)):
            before = self.written.get(str(path))
            if before != MISSING:
                files[str(path)] = digests if before is None else [before, before]
        return files

    def changed(self, key: str, before: str, now: str) -> list[Path]:
        """Return the files that two digests of a key differ in, as far as known; those that are gone last."""
        of_key = self.known.get(key, {})
        old, new = of_key.get(before, {}), of_key.get(now, {})
        if not old:
            return []
        by_name = {Path(path).name: digests for path, digests in old.items()}  # the folder may be another one

        def differs(path: str) -> bool:
            return old.get(path, by_name.get(Path(path).name, [""]))[0] != new[path][0]

        names = {Path(path).name for path in new}
        gone = (path for path in old if Path(path).name not in names)
        return [Path(path) for path in (*filter(differs, new), *gone)]

    def edited(self, key: str, before: str) -> list[tuple[Path, bool]]:
        """Return the files a digest stands for that are here with other content; missing ones do not count.

        With each whether all of its content counts.
        """
        edited = []
        for path, (counts, raw) in self.known.get(key, {}).get(before, {}).items():
            with suppress(BadInput, OSError):  # what may not be read
                of_the_model = path in self.written
                if not of_the_model and Path(path).is_file() and self._digest(Path(path)) != raw:
                    edited.append((Path(path), counts == raw))
        return edited

    def _files(self, source: Source) -> Iterator[tuple[Path, list[str]]]:
        """Yield the files of a source, with the digest of what counts and that of the bytes."""
        if isinstance(source, Text):
            yield source.path, [hashlib.sha256(source.text.encode()).hexdigest(), self._digest(source.path)]
            return
        within = sorted(p for p in source.rglob("*") if p.is_file()) if source.is_dir() else [source]
        for path in within:
            digest = self._digest(path)
            yield path, [digest, digest]

    def _digest(self, path: Path) -> str:
        try:
            status = path.stat()
            stamp = [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]
            *before, digest = self.seen.get(str(path), [None])
            if before == stamp:
                return str(digest)
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
        except (FileNotFoundError, NotADirectoryError):
            return MISSING
        except OSError as error:
            raise BadInput(f"{path} cannot be read: {error.strerror}") from None
        if status.st_size >= SMALL and time.time() - status.st_ctime > SETTLED:
            self.seen[str(path)] = [*stamp, digest]
        return digest
