"""The arguments of the command line: verbs, their options, and what each calls."""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fatescal import __version__
from fatescal.base.errors import BadInput, did_you_mean

if TYPE_CHECKING:
    from fatescal.hpc.communicator import Communicator
    from fatescal.models.base import Verb

DEFAULT_CONFIG = Path(__file__).parents[1] / "hyytiala_twin.yaml"
VERBS = (
    "run",
    "check",
    "status",
    "report",
    "priors",
    "reset",
    "schema",
    "members",
)  # and those that models bring
RANKS = ("OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK", "MV2_COMM_WORLD_RANK")  # as launchers say

Action = Callable[[argparse.Namespace, "Communicator"], int]
AddVerb = Callable[[str, str, Action], argparse.ArgumentParser]


def _run(args: argparse.Namespace, comm: Communicator) -> int:
    from fatescal.cli import run

    _stop_in_time(comm, args.time_limit)
    return run.run(args.config, comm, args.fold, args.machine)


def _stop_in_time(comm: Communicator, time_limit: float | None) -> None:
    """Let the ranks stop before the job's wall time or `time_limit` [s] is over, or at SIGUSR1."""
    from fatescal.cli.run import wall_time_limit

    limits = [limit for limit in (time_limit, comm.on_root(wall_time_limit)) if limit is not None]
    comm.deadline = time.monotonic() + min(limits) if limits else None
    comm.catch_stop_signal()


def _members(args: argparse.Namespace, comm: Communicator) -> int:
    from fatescal.cli import members

    _stop_in_time(comm, None)
    return members.members(args.note, comm)


def _check(args: argparse.Namespace, comm: Communicator) -> int:
    from fatescal.cli import check

    config = args.config or (DEFAULT_CONFIG if args.machine is None else None)
    if args.default_run and config is None:
        raise BadInput("check --try needs a config", hint="fatescal check --try CONFIG --machine MACHINE")
    return check.check(config, comm, args.fold, args.machine, args.default_run)


def _of_models(args: argparse.Namespace, comm: Communicator) -> int:
    from fatescal.cli import model_verbs

    return model_verbs.of_models(
        args.verb, args.config, args.machine, **{name: getattr(args, name) for name in args.flags}
    )


def _status(args: argparse.Namespace, comm: Communicator) -> int:
    from fatescal.cli import status

    return status.status(args.run, comm, args.fold, args.machine)


def _report(args: argparse.Namespace, comm: Communicator) -> int:
    from fatescal.cli import report

    return report.report(args.run, comm)


def _priors(args: argparse.Namespace, comm: Communicator) -> int:
    from fatescal.cli import priors

    return priors.priors(args.config, args.format)


def _reset(args: argparse.Namespace, comm: Communicator) -> int:
    from fatescal.cli import reset

    return reset.reset(args.run, args.stage, comm)


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


def fold_of(text: str | None) -> tuple[int, int] | None:
    """Return i, k of 'i/k', None of None."""
    return None if text is None else _fold(text)


def _fold(text: str) -> tuple[int, int]:
    """Return i, k of 'i/k'.

    >>> _fold("2/5")
    (2, 5)
    """
    parts = text.split("/")
    if len(parts) != 2 or not all(part.isdecimal() for part in parts):
        raise argparse.ArgumentTypeError(f"{text!r} is no fold. Expected I/K, as 2/5")
    return int(parts[0]), int(parts[1])


FOLD: dict[str, Any] = {
    "type": _fold,
    "metavar": "I/K",
    "help": "of K blocks of calibration years hold out the I-th",
}
MACHINE: dict[str, Any] = {"metavar": "FILE", "help": "machine file, or its name in machines/"}
CONFIG: dict[str, Any] = {"type": Path, "nargs": "?", "default": DEFAULT_CONFIG, "help": "YAML file"}
FOLDER: dict[str, Any] = {"type": Path, "metavar": "RUN", "help": "run directory"}


class _Parser(argparse.ArgumentParser):
    """A parser of which the first of several ranks alone prints help and errors: there is no MPI yet."""

    def _print_message(self, message: str, file: Any = None) -> None:
        if next((os.environ[name] for name in RANKS if name in os.environ), "0") == "0":
            super()._print_message(message, file)


def _verbs_of_models(argv: Sequence[str]) -> Mapping[str, Verb]:
    """Return the verbs that models bring; other packages are imported where the verb is no other."""
    from fatescal.models import registry

    own = registry.verbs()
    first = argv[0] if argv else "run"
    is_known = first in (*VERBS, *own) or Path(first).exists()
    return own if is_known else registry.verbs(of_others=True)


def parser(argv: Sequence[str]) -> argparse.ArgumentParser:
    """Return the parser of the command line; `argv` says whether models of other packages are needed."""
    whole = _Parser(
        prog="fatescal",
        description="Calibrate an expensive land model. Without a verb: run. Without a config (python -m "
        "fatescal, or fatescal run): the embedded model's synthetic-truth job.",
        epilog="exit codes: 0 done, 1 failed, 2 bad input, 75 out of time (start again to continue)",
    )
    whole.add_argument("--version", action="version", version=f"fatescal {__version__}")
    verbs = whole.add_subparsers(dest="verb", required=True)

    def verb(name: str, help: str, action: Action) -> argparse.ArgumentParser:
        sub = verbs.add_parser(name, help=help, description=help)
        sub.set_defaults(action=action)
        return sub

    _add_run(verb)
    _add_check(verb)
    try:
        _add_model_verbs(verb, argv)
    except BadInput as error:  # of a package whose entry points cannot be used
        whole.exit(BadInput.exit_code, f"fatescal: {error}\n")
    _add_verbs_on_runs(verb)
    return whole


def _add_run(verb: AddVerb) -> None:
    sub = verb("run", "calibrate, emulate, sample, rerun and score; continues an interrupted run", _run)
    sub.add_argument("config", **CONFIG)
    sub.add_argument(
        "--time-limit", type=_duration, metavar="2h", help="stop cleanly (exit 75) after this time"
    )
    sub.add_argument("--fold", **FOLD)
    sub.add_argument("--machine", **MACHINE)
    sub.add_argument(
        "--heartbeat",
        type=_duration,
        metavar="10min",
        help="end the job when a rank shows no sign of life for this time",
    )


def _add_check(verb: AddVerb) -> None:
    sub = verb(
        "check",
        "check all that can be known before using compute time; with --machine or on several ranks also "
        "the machine, without a config the machine alone",
        _check,
    )
    sub.add_argument("config", **CONFIG | {"default": None})
    sub.add_argument("--fold", **FOLD)
    sub.add_argument("--machine", **MACHINE)
    sub.add_argument(
        "--try",
        dest="default_run",
        action="store_true",
        help="make the default run now, from which the run starts later: prints variables, units, years, "
        "seconds and the cost of the whole run",
    )


def _add_model_verbs(verb: AddVerb, argv: Sequence[str]) -> None:
    for brought in _verbs_of_models(argv).values():
        sub = verb(brought.name, brought.help, _of_models)
        sub.set_defaults(flags=list(brought.flags))
        sub.add_argument("config", **CONFIG)
        sub.add_argument("--machine", **MACHINE)
        for flag, meaning in brought.flags.items():
            sub.add_argument(f"--{flag}", action="store_true", help=meaning)


def _add_verbs_on_runs(verb: AddVerb) -> None:
    sub = verb("status", "what of a run is finished", _status)
    sub.add_argument("run", **CONFIG | {"metavar": "RUN|CONFIG", "help": "run directory, or its YAML file"})
    sub.add_argument("--fold", **FOLD)
    sub.add_argument("--machine", **MACHINE)
    verb("report", "write the report of a run again", _report).add_argument("run", **FOLDER)
    sub = verb(
        "priors", "print what decides the parameters of a config: priors, rules, correlations", _priors
    )
    sub.add_argument("config", **CONFIG)
    sub.add_argument("--format", choices=("text", "csv", "json"), default="text")
    sub = verb("reset", "set a stage and all later ones aside, to compute them again", _reset)
    sub.add_argument("run", **FOLDER)
    sub.add_argument("--from", dest="stage", required=True, metavar="STAGE")
    sub = verb("members", "make the runs of a job that `execution: jobs` has submitted", _members)
    sub.add_argument("note", type=Path, metavar="NOTE", help="file in RUN/members/STAGE/jobs")
    verb("schema", "print the JSON schema of a config, for editors", _schema)


def with_verb(argv: Sequence[str]) -> list[str]:
    """Return the arguments with the verb `run` put before a bare config or nothing.

    Raises
    ------
    BadInput
        If the first is neither a verb, an option nor a file, and looks like no path.

    >>> with_verb(["my.yaml"]), with_verb(["status", "runs/a"]), with_verb([])
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
