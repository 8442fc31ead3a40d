"""What CLM-FATES adds to the command line: `install` its source, `build` its case."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from fatescal.base.errors import BadInput
from fatescal.hpc.launch import seconds
from fatescal.models.base import Context, Verb
from fatescal.models.clm_fates.watched_tool import Say
from fatescal.storage.lock import locked

if TYPE_CHECKING:
    from fatescal.models.clm_fates.clm_options import ClmFatesOptions


def install(sites: Sequence[tuple[ClmFatesOptions, Context]], say: Say) -> None:
    """Install the source that the options name: clone, externals, parameter file; goes on where it ended."""
    from fatescal.models.clm_fates.install import install as bring

    roots = {options.source: context for options, context in sites}  # sites may share one
    for source, context in roots.items():
        if source is None or source.url is None or source.tag is None:
            raise BadInput(
                "the config does not say what to install",
                expected="model.source: {url: https://github.com/ESCOMP/CTSM, tag: ctsm5.4.053, "
                "path: /path/to/it}",
            )
        root = context.path(source.path)
        with locked(root.parent):
            bring(source.url, source.tag, root, say, seconds(source.no_output_timeout))


def build(sites: Sequence[tuple[ClmFatesOptions, Context]], say: Say, *, download: bool = False) -> None:
    """Make, set up and build the cases, once; do only what changed options need.

    With `download` CIME fetches input data that is missing.
    """
    from fatescal.models.clm_fates import case, case_plan
    from fatescal.models.clm_fates.batch_case import require_idle_case

    for options, context in sites:
        if options.case is not None:
            say(f"case          {options.case} goes before model.build: nothing is built")
            continue
        plan = case_plan.plan(options, context)
        with locked(context.run):
            idle = partial(require_idle_case, plan.path)
            case.build(plan, say, download=download, require_idle=idle)


INSTALL = Verb(
    "install",
    "clone the model at the config's tag, with its externals; continues what was interrupted",
    install,
)
BUILD = Verb(
    "build",
    "make and build the config's case, or bring it up to date",
    build,
    {"download": "let CIME fetch input data that is missing"},
)
