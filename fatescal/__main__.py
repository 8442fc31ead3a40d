"""The command line: `fatescal [VERB] [CONFIG | RUN]`, the same as `python -m fatescal`.

Without any argument `python -m fatescal` runs the demo, and `fatescal` prints its help.
Exit codes are root's: 0 done, 1 failed, 2 bad input, 75 out of time (start again to continue).
"""

from __future__ import annotations

import os

for _threads in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ.setdefault(_threads, "1")  # one BLAS thread per rank unless told otherwise

import argparse
import json
import logging
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, cast

from fatescal import __version__
from fatescal.base.errors import BadInput, FatescalError, did_you_mean, words
from fatescal.hpc.watchdog import LIMIT

if TYPE_CHECKING:
    from fatescal.hpc.communicator import Communicator
    from fatescal.models.base import Verb

DEFAULT_CONFIG = Path(__file__).with_name("hyytiala_twin.yaml")
VERBS = ("run", "check", "status", "report", "priors", "reset", "schema")  # and those that models bring
RANKS = ("OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK", "MV2_COMM_WORLD_RANK")  # as launchers say


def _run(args: argparse.Namespace, comm: Communicator) -> int:
    from fatescal.cli import run

    limits = [limit for limit in (args.time_limit, comm.on_root(_wall_time)) if limit is not None]
    comm.deadline = time.monotonic() + min(limits) if limits else None
    comm.catch_stop_signal()
    return run.run(args.config, comm, args.fold, args.machine)


def _wall_time() -> float | None:
    """Return the seconds after which the job should stop: ten minutes, or a tenth, before its end; on
    root.
    """
    from fatescal.hpc.schedulers.registry import current

    limit = current().seconds_left()
    if limit is None:
        return None
    left, whole = limit
    return left - min(600.0, 0.1 * whole)


def _check(args: argparse.Namespace, comm: Communicator) -> int:
    from fatescal.cli import run

    config = args.config or (DEFAULT_CONFIG if args.machine is None else None)
    if args.default_run and config is None:
        raise BadInput("check --try needs a config", hint="fatescal check --try CONFIG --machine MACHINE")
    return run.check(config, comm, args.fold, args.machine, args.default_run)


def _of_models(args: argparse.Namespace, comm: Communicator) -> int:
    from fatescal.cli import run

    return run.of_models(
        args.verb, args.config, args.machine, **{name: getattr(args, name) for name in args.flags}
    )


def _status(args: argparse.Namespace, comm: Communicator) -> int:
    from fatescal.cli import run

    return run.status(args.run, comm, args.fold, args.machine)


def _report(args: argparse.Namespace, comm: Communicator) -> int:
    from fatescal.cli import run

    return run.report(args.run, comm)


def _priors(args: argparse.Namespace, comm: Communicator) -> int:
    from fatescal.cli import run

    return run.priors(args.config, args.format)


def _reset(args: argparse.Namespace, comm: Communicator) -> int:
    from fatescal.cli import run

    return run.reset(args.run, args.stage, comm)


def _schema(args: argparse.Namespace, comm: Communicator) -> int:
    from fatescal import config as settings

    print(json.dumps(settings.schema(), indent=1))
    return 0


def _duration(text: str) -> float:
    from fatescal.hpc.launch import seconds

    try:
        return seconds(text)
    except BadInput as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _fold(text: str) -> tuple[int, int]:
    """Return i, k of 'i/k'.

    >>> _fold("2/5")
    (2, 5)
    """
    parts = text.split("/")
    if len(parts) != 2 or not all(part.isdecimal() for part in parts):
        raise argparse.ArgumentTypeError(f"{text!r} is no fold. Expected I/K, as 2/5")
    return int(parts[0]), int(parts[1])


class _Parser(argparse.ArgumentParser):
    """A parser of which the first of several ranks alone prints help and errors: there is no MPI yet."""

    def _print_message(self, message: str, file: Any = None) -> None:
        if next((os.environ[name] for name in RANKS if name in os.environ), "0") == "0":
            super()._print_message(message, file)


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


def _verbs_of_models(argv: Sequence[str]) -> Mapping[str, Verb]:
    """Return the verbs that models bring; other packages are imported where no other verb is asked for."""
    from fatescal.models import registry

    own = registry.verbs()
    first = argv[0] if argv else "run"
    is_known = first in (*VERBS, *own) or Path(first).exists()
    return own if is_known else registry.verbs(of_others=True)


def _parser(argv: Sequence[str]) -> argparse.ArgumentParser:
    parser = _Parser(
        prog="fatescal",
        description="Calibrate an expensive land model. Without a verb: run. Without a config (python -m "
        "fatescal, or fatescal run): the embedded model's synthetic-truth job.",
        epilog="exit codes: 0 done, 1 failed, 2 bad input, 75 out of time (start again to continue)",
    )
    parser.add_argument("--version", action="version", version=f"fatescal {__version__}")
    verbs = parser.add_subparsers(dest="verb", required=True)

    def verb(
        name: str, help: str, action: Callable[[argparse.Namespace, Communicator], int]
    ) -> argparse.ArgumentParser:
        sub = verbs.add_parser(name, help=help, description=help)
        sub.set_defaults(action=action)
        return sub

    fold: dict[str, Any] = {
        "type": _fold,
        "metavar": "I/K",
        "help": "of K blocks of calibration years hold out the I-th",
    }
    machine: dict[str, Any] = {"metavar": "FILE", "help": "machine file, or its name in machines/"}
    config: dict[str, Any] = {"type": Path, "nargs": "?", "default": DEFAULT_CONFIG, "help": "YAML file"}
    folder: dict[str, Any] = {"type": Path, "metavar": "RUN", "help": "run directory"}
    sub = verb("run", "calibrate, emulate, sample, rerun and score; continues an interrupted run", _run)
    sub.add_argument("config", **config)
    sub.add_argument(
        "--time-limit", type=_duration, metavar="2h", help="stop cleanly (exit 75) after this time"
    )
    sub.add_argument("--fold", **fold)
    sub.add_argument("--machine", **machine)
    sub.add_argument(
        "--heartbeat",
        type=_duration,
        metavar="10min",
        help="end the job when a rank shows no sign of life for this time",
    )
    sub = verb(
        "check",
        "find out all that can be known before spending a core-hour; with --machine or on several ranks also "
        "what they can do there, without a config nothing else",
        _check,
    )
    sub.add_argument("config", **config | {"default": None})
    sub.add_argument("--fold", **fold)
    sub.add_argument("--machine", **machine)
    sub.add_argument(
        "--try",
        dest="default_run",
        action="store_true",
        help="make the default run now, from which the run starts later: tells variables, units, years, "
        "seconds and the cost of the whole run",
    )
    for brought in _verbs_of_models(argv).values():
        sub = verb(brought.name, brought.help, _of_models)
        sub.set_defaults(flags=list(brought.flags))
        sub.add_argument("config", **config)
        sub.add_argument("--machine", **machine)
        for flag, meaning in brought.flags.items():
            sub.add_argument(f"--{flag}", action="store_true", help=meaning)
    sub = verb("status", "what of a run is finished", _status)
    sub.add_argument("run", **config | {"metavar": "RUN|CONFIG", "help": "run directory, or its YAML file"})
    sub.add_argument("--fold", **fold)
    sub.add_argument("--machine", **machine)
    verb("report", "write the report of a run again", _report).add_argument("run", **folder)
    sub = verb(
        "priors", "print what decides the parameters of a config: priors, rules, correlations", _priors
    )
    sub.add_argument("config", **config)
    sub.add_argument("--format", choices=("text", "csv", "json"), default="text")
    sub = verb("reset", "set a stage and all later ones aside, to compute them again", _reset)
    sub.add_argument("run", **folder)
    sub.add_argument("--from", dest="stage", required=True, metavar="STAGE")
    verb("schema", "print the JSON schema of a config, for editors", _schema)
    return parser


def _with_verb(argv: Sequence[str]) -> list[str]:
    """Return the arguments with the verb `run` put before a bare config or nothing.

    Raises
    ------
    BadInput
        If the first is neither a verb, an option nor a file, and looks like no path.

    >>> _with_verb(["my.yaml"]), _with_verb(["status", "runs/a"]), _with_verb([])
    (['run', 'my.yaml'], ['status', 'runs/a'], ['run'])
    """
    first = argv[0] if argv else ""
    verbs = (*VERBS, *_verbs_of_models(argv))
    if first in (*verbs, "-h", "--help", "--version"):
        return list(argv)
    looks_like_a_file = first.startswith("-") or os.sep in first or "." in first
    if first and not looks_like_a_file and not Path(first).exists():
        raise BadInput(
            f"there is no verb and no file {first!r}",
            expected=f"one of {', '.join(verbs)}, or a YAML file",
            hint=did_you_mean(first, verbs),
        )
    return ["run", *argv]


def console() -> int:
    """Do what the program `fatescal` is asked; asked nothing, print the help."""
    return main(sys.argv[1:] or ["--help"])


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb on all ranks; return root's exit code (0 on the others)."""
    out, err = (cast("IO[str]", _UntilClosed(stream)) for stream in (sys.stdout, sys.stderr))
    with redirect_stdout(out), redirect_stderr(err):
        try:
            return _main(sys.argv[1:] if argv is None else argv)
        finally:
            out.flush()


def _main(argv: Sequence[str]) -> int:
    parser = _parser(argv)
    try:
        args = parser.parse_args(_with_verb(argv))
    except BadInput as error:
        parser.exit(BadInput.exit_code, f"fatescal: {error}\n")
    from fatescal.hpc.communicator import Communicator

    comm = Communicator()
    logging.basicConfig(
        level=logging.INFO if comm.is_root else logging.WARNING,
        format="%(message)s" if comm.is_root else f"rank {comm.rank}: %(message)s",
        stream=sys.stderr,
    )
    if args.verb not in ("run", "check"):  # for one rank; started on more, root does it
        if not comm.is_root:
            return 0
        comm = comm.alone()
    else:
        comm.watch(getattr(args, "heartbeat", None) or LIMIT)
    try:
        code = args.action(args, comm)
    except KeyboardInterrupt as interrupt:
        _alone(comm, interrupt)
        _say(comm, words(interrupt))
        code = 130
    except Exception as error:
        _alone(comm, error)
        code = error.exit_code if isinstance(error, FatescalError) else 1
        _say(comm, words(error))
    comm.close()
    return code if comm.is_root else 0


def _alone(comm: Communicator, error: BaseException) -> None:
    """End the job when this error is this rank's alone: the others wait in a collective call."""
    if comm.size > 1 and not getattr(error, "agreed", False):
        comm.abort(words(error))


def _say(comm: Communicator, text: str) -> None:
    if comm.is_root:
        print(f"fatescal: {text}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
