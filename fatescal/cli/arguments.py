"""The arguments of the command line: verbs, their options, and what each calls."""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fatescal import __version__
from fatescal import config as settings
from fatescal.base.errors import BadInput, did_you_mean
from fatescal.cli import verb_options
from fatescal.cli.demo_config import DEFAULT_CONFIG
from fatescal.cli.verb_options import Add
from fatescal.hpc.launch import is_first_rank

if TYPE_CHECKING:
    from fatescal.hpc.communicator import Communicator
    from fatescal.models.base import Verb


@dataclass(frozen=True)
class OwnVerb:
    """A verb of the program's own: its name, help, options, examples; `together` where all ranks do it."""

    name: str
    help: str
    options: Add
    examples: tuple[str, ...] = ()
    together: bool = False


OWN = (
    OwnVerb(
        "run", "calibrate, emulate, sample, rerun and score; continues an interrupted run", verb_options.run,
        ("mpirun -n 4 fatescal run my.yaml", "mpirun -n 4 fatescal run my.yaml --set calibrate.members=32"),
        together=True,
    ),
    OwnVerb(
        "demo", "calibrate the embedded model against a known truth; needs no data", verb_options.demo,
        ("fatescal demo", "mpirun -n 4 fatescal demo --set run.directory=/tmp/demo"), together=True,
    ),
    OwnVerb(
        "init", "write a commented config for a site, from its table of observations", verb_options.init,
        ("fatescal init FLX_FI-Hyy_HH.csv", "fatescal init fluxes.csv --name my_site --to my_site.yaml"),
    ),
    OwnVerb(
        "check", "check all that can be known before using compute time; with --machine or on several ranks "
        "also the machine, without a config the machine alone", verb_options.check,
        ("fatescal check my.yaml", "mpirun -n 4 fatescal check my.yaml --machine fram --try"), together=True,
    ),
    OwnVerb(
        "screen", "find the parameters that matter before a calibration, from at most about 120 runs",
        verb_options.screen, ("mpirun -n 32 fatescal screen my.yaml", "fatescal screen my.yaml --paths 4"),
        together=True,
    ),
    OwnVerb(
        "status", "what of a run is finished, what runs, and whether its posterior may be used",
        verb_options.status, ("fatescal status my.yaml", "fatescal status runs/my_site --watch 30s"),
    ),
    OwnVerb(
        "report", "write the report of a run again, and its figures for a paper", verb_options.report,
        ("fatescal report runs/my_site", "fatescal report my.yaml"),
    ),
    OwnVerb(
        "compare", "scores, posteriors and costs of several runs side by side", verb_options.compare,
        ("fatescal compare runs/gswp3 runs/tower", "fatescal compare runs/* --format csv > all.csv"),
    ),
    OwnVerb(
        "export", "write a run as a folder to publish: posterior, parameter files, stages, checksums",
        verb_options.export,
        ("fatescal export runs/my_site", "fatescal export my.yaml --members 20 --to doi"),
    ),
    OwnVerb(
        "priors", "print what decides the parameters of a config: priors, rules, correlations",
        verb_options.priors, ("fatescal priors my.yaml", "fatescal priors my.yaml --format csv"),
    ),
    OwnVerb(
        "reset", "set a stage and all later ones aside, to compute them again", verb_options.reset,
        ("fatescal reset runs/my_site --from emulate --dry-run", "fatescal reset my.yaml --from truth"),
    ),
    OwnVerb(
        "members", "make the runs of a job that `execution: jobs` has submitted", verb_options.members,
        together=True,
    ),
    OwnVerb(
        "schema", "print the JSON schema of a config, for editors", verb_options.nothing,
        ("fatescal schema > fatescal.schema.json",),
    ),
    OwnVerb(
        "files", "print where the configs, machine files and job scripts of fatescal are, or copy them",
        verb_options.files, ("fatescal files", "fatescal files --copy ."),
    ),
    OwnVerb(
        "completion", "print the completion script of a shell", verb_options.completion,
        ("source <(fatescal completion bash)", "fatescal completion fish | source"),
    ),
)  # fmt: skip
VERBS = tuple(verb.name for verb in OWN)  # and those that models bring
TOGETHER = frozenset(verb.name for verb in OWN if verb.together)


def act(args: argparse.Namespace, comm: Communicator) -> int:
    """Do what the arguments ask for; return the exit code."""
    if hasattr(args, "flags"):
        from fatescal.cli import model_verbs

        flags = {name: getattr(args, name) for name in args.flags}
        return model_verbs.of_models(args.verb, args.config, args.machine, _changes(args), **flags)
    return int(globals()[f"_{args.verb}"](args, comm))


def _changes(args: argparse.Namespace) -> settings.Changes:
    return settings.from_text(args.set)


def _run(args: argparse.Namespace, comm: Communicator) -> int:
    from fatescal.cli import run

    _stop_in_time(comm, args.time_limit)
    return run.run(args.config, comm, args.fold, args.machine, _changes(args))


def _stop_in_time(comm: Communicator, time_limit: float | None) -> None:
    """Let the ranks stop before the job's wall time or `time_limit` [s] is over, as at SIGUSR1."""
    from fatescal.cli.run import wall_time_limit

    limits = [limit for limit in (time_limit, comm.on_root(wall_time_limit)) if limit is not None]
    comm.deadline = time.monotonic() + min(limits) if limits else None


def _members(args: argparse.Namespace, comm: Communicator) -> int:
    from fatescal.cli import members

    _stop_in_time(comm, None)
    return members.members(args.note, comm)


def _demo(args: argparse.Namespace, comm: Communicator) -> int:
    args.config = DEFAULT_CONFIG
    return _run(args, comm)


def _init(args: argparse.Namespace, comm: Communicator) -> int:
    from fatescal.cli import init

    return init.init(args.observations, args.to, args.name)


def _check(args: argparse.Namespace, comm: Communicator) -> int:
    from fatescal.cli import check

    config = args.config or (DEFAULT_CONFIG if args.machine is None else None)
    if args.default_run and config is None:
        raise BadInput("check --try needs a config", hint="fatescal check --try CONFIG --machine MACHINE")
    return check.check(config, comm, args.fold, args.machine, args.default_run, _changes(args))


def _screen(args: argparse.Namespace, comm: Communicator) -> int:
    from fatescal.cli import screen

    return screen.screen(args.config, comm, args.paths, args.machine, _changes(args))


def _status(args: argparse.Namespace, comm: Communicator) -> int:
    from fatescal.cli import status

    how = (args.fold, args.machine, _changes(args))
    if args.watch is not None:
        return status.watch(args.run, comm, args.watch, *how)
    return status.status(args.run, comm, *how)


def _report(args: argparse.Namespace, comm: Communicator) -> int:
    from fatescal.cli import report, run_folder

    return report.report(run_folder.directory_of(args.run, args.fold, args.machine, _changes(args)), comm)


def _compare(args: argparse.Namespace, comm: Communicator) -> int:
    from fatescal.cli import compare, run_folder

    return compare.compare([run_folder.directory_of(path) for path in args.runs], comm, args.format)


def _export(args: argparse.Namespace, comm: Communicator) -> int:
    from fatescal.cli import export, run_folder

    directory = run_folder.directory_of(args.run, args.fold, args.machine, _changes(args))
    return export.export(directory, comm, args.to, args.members)


def _priors(args: argparse.Namespace, comm: Communicator) -> int:
    from fatescal.cli import priors

    return priors.priors(args.config, args.format, args.machine, _changes(args))


def _reset(args: argparse.Namespace, comm: Communicator) -> int:
    from fatescal.cli import reset, run_folder

    directory = run_folder.directory_of(args.run, args.fold, args.machine, _changes(args))
    return reset.reset(directory, args.stage, comm, args.dry_run)


def _files(args: argparse.Namespace, comm: Communicator) -> int:
    from fatescal.cli import files

    return files.files(args.copy)


def _schema(args: argparse.Namespace, comm: Communicator) -> int:
    print(json.dumps(settings.schema(), indent=1))
    return 0


def _completion(args: argparse.Namespace, comm: Communicator) -> int:
    from fatescal.cli import completion

    print(completion.script(args.shell, parser([])))
    return 0


class _Parser(argparse.ArgumentParser):
    """A parser of which the first of several ranks alone prints help and errors: there is no MPI yet."""

    def _print_message(self, message: str, file: Any = None) -> None:
        if is_first_rank():
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
        "fatescal, or fatescal demo): the embedded model's synthetic-truth job.",
        epilog="exit codes: 0 done, 1 failed or posterior not to be used, 2 bad input, 75 out of time (start "
        "again to continue)\nfatescal VERB --help has examples",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    whole.add_argument("--version", action="version", version=f"fatescal {__version__}")
    verbs = whole.add_subparsers(dest="verb", required=True, metavar="VERB")
    for own in OWN:
        own.options(_sub(verbs, own.name, own.help, own.examples))
    try:
        for brought in _verbs_of_models(argv).values():
            _add_brought(
                _sub(verbs, brought.name, brought.help, (f"fatescal {brought.name} my.yaml",)), brought
            )
    except BadInput as error:  # of a package whose entry points cannot be used
        whole.exit(BadInput.exit_code, f"fatescal: {error}\n")
    return whole


def _sub(verbs: Any, name: str, help: str, examples: Sequence[str]) -> argparse.ArgumentParser:
    return verbs.add_parser(
        name, help=help, description=f"{help[0].upper()}{help[1:]}.",
        epilog="examples:\n" + "\n".join(f"  {example}" for example in examples),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip


def _add_brought(sub: argparse.ArgumentParser, brought: Verb) -> None:
    sub.set_defaults(flags=list(brought.flags))
    verb_options.config(sub)
    for flag, meaning in brought.flags.items():
        sub.add_argument(f"--{flag}", action="store_true", help=meaning)


def with_verb(argv: Sequence[str]) -> list[str]:
    """Return the arguments with the verb `run` put before a bare config, and `demo` in the place of nothing.

    Raises
    ------
    BadInput
        If the first is neither a verb, an option nor a file, and looks like no path.

    >>> with_verb(["my.yaml"]), with_verb(["status", "runs/a"]), with_verb([]), with_verb(["run"])
    (['run', 'my.yaml'], ['status', 'runs/a'], ['demo'], ['demo'])
    """
    first = argv[0] if argv else ""
    verbs = (*VERBS, *_verbs_of_models(argv))
    if first == "run" and not any(Path(word).is_file() or not word.startswith("-") for word in argv[1:]):
        helps = {"-h", "--help"} & set(argv)
        return list(argv) if helps else ["demo", *argv[1:]]
    if first in (*verbs, "-h", "--help", "--version"):
        return list(argv)
    looks_like_a_file = first.startswith("-") or os.sep in first or "." in first
    if first and not looks_like_a_file and not Path(first).exists():
        raise BadInput(
            f"there is no verb and no file {first!r}",
            expected=f"one of {', '.join(verbs)}, or a YAML file",
            hint=did_you_mean(first, verbs),
        )
    options_alone = not first or (first.startswith("-") and not any(Path(word).is_file() for word in argv))
    return ["demo" if options_alone else "run", *argv]
