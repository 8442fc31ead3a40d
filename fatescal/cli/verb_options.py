"""Options and examples of each verb; what it does is in a file of its name."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fatescal.base.errors import BadInput
from fatescal.cli.demo_config import DEFAULT_CONFIG

Add = Callable[[argparse.ArgumentParser], None]


def duration(text: str) -> float:
    """Return the seconds of a text as 2h or 10min."""
    from fatescal.hpc.launch import seconds

    try:
        return seconds(text)
    except BadInput as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def fold(text: str) -> tuple[int, int]:
    """Return i, k of 'i/k'.

    >>> fold("2/5")
    (2, 5)
    """
    parts = text.split("/")
    if len(parts) != 2 or not all(part.isdecimal() for part in parts):
        raise argparse.ArgumentTypeError(f"{text!r} is no fold. Expected I/K, as 2/5")
    return int(parts[0]), int(parts[1])


def config(sub: argparse.ArgumentParser, **more: Any) -> None:
    """Add the argument that names a config, and what changes it."""
    sub.add_argument("config", **{"type": Path, "help": "YAML file", **more})
    changes(sub)


def changes(sub: argparse.ArgumentParser) -> None:
    """Add the options that change a config: fold, machine, single keys."""
    sub.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE",
        help="a value in place of the config's, as calibrate.members=32; may be repeated",
    )  # fmt: skip
    sub.add_argument("--machine", metavar="FILE", help="machine file, or its name in machines/")
    sub.add_argument("--fold", type=fold, metavar="I/K", help="of K blocks of years hold out the I-th")


def place(sub: argparse.ArgumentParser, **more: Any) -> None:
    """Add the argument that names a run, by its folder or its config."""
    sub.add_argument("run", type=Path, metavar="RUN|CONFIG", help="run directory, or its YAML file", **more)


def limits(sub: argparse.ArgumentParser) -> None:
    """Add the options of a job: its time and its watchdog."""
    sub.add_argument(
        "--time-limit", type=duration, metavar="2h", help="stop cleanly (exit 75) after this time"
    )
    sub.add_argument(
        "--heartbeat", type=duration, metavar="10min",
        help="end the job when a rank shows no sign of life for this time",
    )  # fmt: skip


def run(sub: argparse.ArgumentParser) -> None:
    """Add the options of `run`."""
    config(sub)
    limits(sub)


def demo(sub: argparse.ArgumentParser) -> None:
    """Add the options of `demo`."""
    changes(sub)
    limits(sub)


def check(sub: argparse.ArgumentParser) -> None:
    """Add the options of `check`."""
    config(sub, nargs="?", default=None)
    sub.add_argument(
        "--try", dest="default_run", action="store_true",
        help="make the default run now, from which the run starts later: prints variables, units, years, "
        "seconds and the cost of the whole run",
    )  # fmt: skip


def screen(sub: argparse.ArgumentParser) -> None:
    """Add the options of `screen`."""
    config(sub)
    limits(sub)
    sub.add_argument(
        "--paths", type=int, metavar="R", help="paths of P + 1 runs, P the parameters; else 2 to 10, by P"
    )


def status(sub: argparse.ArgumentParser) -> None:
    """Add the options of `status`."""
    place(sub, nargs="?", default=DEFAULT_CONFIG)
    changes(sub)
    sub.add_argument(
        "--watch", nargs="?", type=duration, const=10.0, metavar="10s",
        help="say it again every so often until the run ends; exit 1 where it died",
    )  # fmt: skip


def report(sub: argparse.ArgumentParser) -> None:
    """Add the options of `report`."""
    place(sub)
    changes(sub)


def priors(sub: argparse.ArgumentParser) -> None:
    """Add the options of `priors`."""
    config(sub, nargs="?", default=DEFAULT_CONFIG)
    sub.add_argument("--format", choices=("text", "csv", "json"), default="text")


def reset(sub: argparse.ArgumentParser) -> None:
    """Add the options of `reset`."""
    place(sub)
    changes(sub)
    sub.add_argument(
        "--from", dest="stage", required=True, metavar="STAGE",
        help="a stage, or a phase: preparation, observations, prior, calibrate, emulate, sample, posterior, "
        "score",
    )  # fmt: skip
    sub.add_argument("--dry-run", action="store_true", help="say what would go, and leave it")


def compare(sub: argparse.ArgumentParser) -> None:
    """Add the options of `compare`."""
    sub.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="run directories or their YAML files")
    sub.add_argument("--format", choices=("text", "csv"), default="text")


def export(sub: argparse.ArgumentParser) -> None:
    """Add the options of `export`."""
    place(sub)
    changes(sub)
    sub.add_argument("--to", type=Path, metavar="FOLDER", help="a new folder; else RUN-export beside the run")
    sub.add_argument(
        "--members", type=int, default=0, metavar="N",
        help="write the parameter files of N posterior members too, beside mean and median",
    )  # fmt: skip


def init(sub: argparse.ArgumentParser) -> None:
    """Add the options of `init`."""
    sub.add_argument("observations", type=Path, help="table of measured fluxes: csv, FLUXNET, netCDF ...")
    sub.add_argument("--to", type=Path, metavar="CONFIG", help="the YAML file to write; else SITE.yaml here")
    sub.add_argument("--name", help="name of the site and the run; else that of the file")


def members(sub: argparse.ArgumentParser) -> None:
    """Add the options of `members`."""
    sub.add_argument("note", type=Path, metavar="NOTE", help="file in RUN/members/STAGE/jobs")


def completion(sub: argparse.ArgumentParser) -> None:
    """Add the options of `completion`."""
    sub.add_argument("shell", choices=("bash", "zsh", "fish"))


def files(sub: argparse.ArgumentParser) -> None:
    """Add the options of `files`."""
    sub.add_argument(
        "--copy", type=Path, metavar="FOLDER", help="copy them into a folder; what is there is left as it is"
    )


def nothing(sub: argparse.ArgumentParser) -> None:
    """Add no options."""
