"""Checkpoints: one write-once HDF5 file per finished stage, and the only h5py import.

A stage file appears complete or not at all: it is written as `.KEY.h5.part` and renamed by root once all
ranks agree. Every array carries CRC-32 checksums of its rows, computed by the rank that owns the row; the
file's digest covers them all but wall-clock fields, so equal digests mean bitwise equal results. A
stage names the digests of the stages it was computed from, and those of the files from outside that it read.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import h5py
import numpy as np

from fatescal.base.errors import RunFailed
from fatescal.storage import atomic, stage_graph
from fatescal.storage.declaration import Record
from fatescal.storage.encoding import (
    arrays_of,
    checksum,
    describe_fields,
    digest_of,
    read_fields,
    row_checksums,
    scalars_of,
    to_hdf5,
)
from fatescal.storage.free_space import space_blamed
from fatescal.storage.stage_rows import Rows, StageRows

if TYPE_CHECKING:
    from fatescal.hpc.communicator import Communicator

SCHEMA = 1
FILE = "file."  # before the key of an attribute that holds the digest of files from outside
PARALLEL = bool(h5py.get_config().mpi)
R = TypeVar("R", bound=Record)


@dataclass
class Store:
    """The stage files of one run.

    Parameters
    ----------
    folder : Path
        `RUN/stages`; created if missing.
    provenance : mapping of str to str
        Attributes of every stage file.
    files : mapping of str to str
        Digests of all files from outside, by the key of the config that names them; a stage keeps those that
        it reads.
    """

    folder: Path
    comm: Communicator
    provenance: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)

    def once(self, key: str, record: type[R], compute: Callable[[], R], inputs: Sequence[str] = ()) -> R:
        """Return the record of a stage on all ranks: loaded if finished, else computed by root and kept.

        Parameters
        ----------
        inputs : sequence of str
            Keys of the finished stages that `compute` reads.
        """

        def on_root() -> R:
            if self.path(key).exists():
                return self.load(key, record)
            value = compute()
            self._write(key, value, inputs)
            return value

        return self.comm.on_root(on_root)

    def once_together(
        self, key: str, record: type[R], compute: Callable[[], R], inputs: Sequence[str] = ()
    ) -> R:
        """As `once`, for a `compute` that is called by all ranks and shares its work among them."""
        missing = not self.comm.on_root(self.path(key).exists)
        value = compute() if missing else None
        return self.once(key, record, lambda: cast(R, value), inputs)

    def once_rows(
        self, key: str, record: type[R], n_rows: int, compute: Callable[[], Rows], inputs: Sequence[str] = ()
    ) -> R | None:
        """Return on root (None elsewhere) the record whose rows all ranks compute and write in parallel.

        Parameters
        ----------
        compute : callable
            Called by all ranks; returns those rows that this one is to write, by their number: each row is
            some rank's. A row has every array field, the same shapes in all rows.
        """
        if not self.comm.on_root(self.path(key).exists):
            rows = compute()
            digests = self.comm.on_root(lambda: {k: self.digest(k) for k in inputs})
            order = self.comm.on_root(self._next)
            with self.comm.all_or_abort(f"writing stage {key}"), space_blamed(self.folder):
                self._write_rows(key, record, n_rows, rows, digests, order)
            del rows  # root is about to read them all
        failure, value = None, None
        if self.comm.is_root:
            try:
                value = self.load(key, record)
            except RunFailed as error:
                failure = error
        self.comm.agree(failure)
        return value

    def path(self, key: str) -> Path:
        """Return the file of a stage, finished or not."""
        return self.folder / f"{key}.h5"

    def keys(self) -> list[str]:
        """Return the finished stages in the order they were finished."""
        return sorted((p.stem for p in self.folder.glob("*.h5")), key=self._order)

    def _next(self) -> int:
        """Return the place of the next stage, for which there will be a folder."""
        self.folder.mkdir(exist_ok=True)  # in a run's folder, which is never made anew after the start
        return max((self._order(key)[0] for key in self.keys()), default=-1) + 1

    def _order(self, key: str) -> tuple[int, str]:
        return int(self._attributes(key).get("order", -1)), key

    def reached(self) -> dict[str, stage_graph.Reached]:
        """Return what each finished stage was computed from, in the order they were finished."""
        reached = {}
        for key in self.keys():
            attributes = self._attributes(key)
            files = {n.removeprefix(FILE): str(d) for n, d in attributes.items() if n.startswith(FILE)}
            reached[key] = stage_graph.Reached(tuple(json.loads(attributes["inputs"])), files)
        return reached

    def digest(self, key: str) -> str:
        """Return a finished stage's digest: equal digests mean bitwise equal results."""
        return str(self._attributes(key)["digest"])

    def _attributes(self, key: str) -> dict[str, Any]:
        try:
            with h5py.File(self.path(key), "r") as file:
                return dict(file.attrs)
        except OSError as error:
            raise self._damaged(key, str(error)) from None

    def _damaged(self, key: str, why: str) -> RunFailed:
        """Return the error of a file whose content is lost; from the same inputs comes the same stage
        again.
        """
        path = self.path(key)
        if not path.exists():
            return RunFailed(
                f"stage file {path} has vanished. Try: put it back, or see why {self.folder.parent} loses "
                "files (a scratch file system that is purged?) and start again: it is computed anew"
            )
        return RunFailed(
            f"stage file {path} is damaged: {why}. The other stages are still good, and so are finished "
            f"members. Try: rm {path}, then start again: it is computed anew, with the same result"
        )

    def _outdated(self, key: str, why: str) -> RunFailed:
        """Return the error of a sound file that does not belong here."""
        return RunFailed(
            f"stage file {self.path(key)} {why}. Earlier stages are still good. "
            f"Try: python -m fatescal reset {self.folder.parent} --from {key}, then start again"
        )

    def load(self, key: str, record: type[R]) -> R:
        """Return a finished stage's record, verified against its checksums; call on root.

        Raises
        ------
        RunFailed
            If the file is damaged or gone, of another schema, or computed from other inputs than are here
            now.
        """
        try:
            with h5py.File(self.path(key), "r") as file:
                attributes = dict(file.attrs)
                if attributes.get("schema") != SCHEMA or attributes.get("record") != record.__name__:
                    raise self._outdated(
                        key,
                        f"holds {attributes.get('record')} of schema {attributes.get('schema')}, written by "
                        f"fatescal {attributes.get('fatescal', 'of an unknown version')}; "
                        f"expected {record.__name__} of schema {SCHEMA}",
                    )
                more = sorted(set(file) - {"checksums", *(f.name for f in fields(record))})
                if more:
                    raise self._outdated(
                        key,
                        f"holds {', '.join(more)}, which {record.__name__} of this version of fatescal does "
                        f"not have (it was written by {attributes.get('fatescal', 'an unknown version')})",
                    )
                values, sums = read_fields(file, record)
                stored = {n: file[f"checksums/{n}"][()] for n in sums}
        except (OSError, KeyError) as error:
            raise self._damaged(key, str(error)) from None
        wrong = [name for name in sums if not np.array_equal(sums[name], stored[name])]
        value = record(**values)
        if wrong or digest_of(record, sums, scalars_of(value)) != attributes["digest"]:
            raise self._damaged(key, f"checksum of {', '.join(wrong) or 'its attributes'} does not match")
        for source, digest in json.loads(attributes["inputs"]).items():
            if self.path(source).exists() and self.digest(source) != digest:
                raise self._outdated(key, f"was computed from another {source} than the one here now")
        return value

    def _header(
        self,
        file: h5py.File,
        key: str,
        record: type[Record],
        inputs: Mapping[str, str],
        order: int,
        digest: str,
    ) -> None:
        file.attrs["schema"] = SCHEMA
        file.attrs["record"] = record.__name__
        file.attrs["inputs"] = json.dumps(dict(inputs))
        file.attrs["order"] = order
        file.attrs["digest"] = digest
        for named, content in self.files.items():
            if stage_graph.reads(key, named):
                file.attrs[f"{FILE}{named}"] = content
        for name, text in self.provenance.items():
            file.attrs[name] = text

    def _write(self, key: str, value: Record, inputs: Sequence[str]) -> None:
        digests = {k: self.digest(k) for k in inputs}
        arrays, scalars = arrays_of(value), scalars_of(value)
        sums = {name: row_checksums(array) for name, array in arrays.items()}
        digest, order = digest_of(type(value), sums, scalars), self._next()

        def fill(part: Path) -> None:
            with space_blamed(self.folder), h5py.File(part, "w") as file:
                self._header(file, key, type(value), digests, order, digest)
                for name, scalar in scalars.items():
                    file.attrs[f"field.{name}"] = scalar
                for name, array in arrays.items():
                    file.create_dataset(name, data=to_hdf5(array))
                    file.create_dataset(f"checksums/{name}", data=sums[name])
                describe_fields(file, type(value))

        atomic.write(self.path(key), fill)

    def _write_rows(
        self,
        key: str,
        record: type[Record],
        n_rows: int,
        rows: Rows,
        inputs: Mapping[str, str],
        order: int,
    ) -> None:
        arrays = {i: {n: np.asarray(a) for n, a in row.items()} for i, row in rows.items()}
        mine = {i: {n: checksum(a) for n, a in row.items()} for i, row in arrays.items()}
        kinds = {n: (a.shape, a.dtype.str) for row in arrays.values() for n, a in row.items()}
        everyone = self.comm.allgather((mine, kinds))
        shapes = next(kinds for _, kinds in everyone if kinds)
        if any(kinds not in ({}, shapes) for _, kinds in everyone):
            raise ValueError(f"rows of {key} differ in shape: {[k for _, k in everyone]}")
        sums = {name: np.zeros(n_rows, np.uint32) for name in shapes}
        for theirs, _ in everyone:
            for i, row_sums in theirs.items():
                for name, row_sum in row_sums.items():
                    sums[name][i] = row_sum
        digest = digest_of(record, sums, {})
        stage = StageRows(
            key,
            record,
            n_rows,
            arrays,
            shapes,
            sums,
            lambda f: self._header(f, key, record, inputs, order, digest),
        )
        if PARALLEL and self.comm.size > 1:
            self._write_parallel(stage)
        else:
            self._write_gathered(stage)

    def _write_parallel(self, stage: StageRows) -> None:
        """Let all ranks write one file; root publishes it, once every rank has closed it.

        The one file that `atomic.write` cannot write: its filling is collective, its name is root's to give.
        """
        path = self.path(stage.key)
        part = atomic.part_of(path)
        file = h5py.File(part, "w", **self.comm.file_options())
        with self.comm.all_or_abort(f"writing stage {stage.key}"), space_blamed(self.folder):
            stage.write_own(file)
        file.close()  # collective too: a rank that has failed must have ended the job before
        self.comm.barrier()
        if self.comm.is_root:
            atomic.publish(part, path)
        self.comm.barrier()

    def _write_gathered(self, stage: StageRows) -> None:
        gathered = self.comm.gather(stage.rows)
        if gathered is not None:
            every = {i: row for of_rank in gathered for i, row in of_rank.items()}

            def fill(part: Path) -> None:
                with space_blamed(self.folder), h5py.File(part, "w") as file:
                    stage.write_all(file, every)

            atomic.write(self.path(stage.key), fill)
        self.comm.barrier()
