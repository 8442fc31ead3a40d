"""The stage graph as data: what each stage is made from, and so which key of the config decides which stage.

A family of stages names its record, the stages it is computed from, and the keys of the config it reads. A
file from outside is an input of the stages that read the key which names it: `observations.file` decides what
`observations` decides. Nothing else in the program says what depends on what.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from fatescal.storage.chain_records import ChainBlock
from fatescal.storage.declaration import Record
from fatescal.storage.records import (
    Batch,
    Evaluation,
    KalmanInfo,
    KalmanState,
    Observations,
    Posterior,
    Scorecard,
    Surrogate,
    Validation,
    Verdict,
)

# folders of runs that have no stage file
PREPARATION = "preparation"  # before all members
EFFECTS = "effects"  # behind the first ensemble, of the parameters whose effect it does not show


@dataclass(frozen=True)
class Stage:
    """A family of stages.

    Attributes
    ----------
    key : str
        Name of its stages; N, R and B stand for digits (of the iteration, the round and the block).
    record : type or None
        What a stage file of the family holds; None: there is no such file.
    inputs : tuple of str
        The families whose stages it is computed from.
    config : tuple of str
        The keys of the config that it reads itself. A key below one of them counts for the family that lists
        it at greatest length.
    """

    key: str
    record: type[Record] | None
    inputs: tuple[str, ...] = ()
    config: tuple[str, ...] = ()

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        return re.compile(re.sub(r"N+|R+|B+", lambda digits: rf"\d{{{len(digits[0])},}}", self.key))

    def holds(self, stage: str) -> bool:
        """Tell whether a stage is of this family.

        >>> Stage("chains-RR-BBB", None).holds("chains-00-012")
        True
        """
        return self._pattern.fullmatch(stage) is not None


# all model runs that the emulator learns from
EVALUATIONS = ("evaluation-NN", "evaluation-refinement-NN", "evaluation-posterior-RR")
BEFORE = ("evaluation-NN",)  # the loop of emulation and rerun; its runs change no error model
ERRORS = ("observations", "observations-NN")  # the observations with the errors in use
# `sites` is which sites there are, and their order; what each of them has is looked up without its name.
MEMBERS = ("model", "model.fallback", "sites")  # the preparation runs without the fallback
PARAMETERS = ("parameters", "correlations")
VALIDATIONS = ("validation-RR-rows", "validation-RR-block", "validation-RR-draws")
SCORES = ("run.scores",)
FORCED = ("emulate.force",)  # decides whether a refused emulator is sampled

GRAPH = (
    Stage(PREPARATION, None, (), ("model",)),
    Stage("truth", Evaluation, (PREPARATION,), (*MEMBERS, *PARAMETERS, "observations")),
    Stage(
        "observations",
        Observations,
        ("truth",),
        ("observations", "observations.synthetic.noise", "observations.synthetic.seed", "sites", "run.seed"),
    ),
    Stage("observations-NN", Observations, ("observations", *BEFORE)),
    Stage(
        "ensemble-NN",
        KalmanState,
        ("ensemble-NN", "evaluation-NN", *ERRORS),
        ("run.seed", *PARAMETERS, "calibrate.members", "calibrate.design"),
    ),
    Stage(
        "update-NN",
        KalmanInfo,
        ("ensemble-NN", "evaluation-NN", *ERRORS),
        ("calibrate", "calibrate.iterations"),
    ),
    Stage("screen", Batch, (), ("run.seed", *PARAMETERS)),
    Stage("evaluation-screen", Evaluation, (PREPARATION, "screen"), MEMBERS),
    Stage("evaluation-default", Evaluation, (PREPARATION,), MEMBERS),
    Stage("evaluation-NN", Evaluation, (PREPARATION, "ensemble-NN"), MEMBERS),
    Stage("surrogate-RR", Surrogate, (*ERRORS, *EVALUATIONS), ("emulate", "calibrate.iterations")),
    Stage("validation-RR-rows", Validation, (*ERRORS, "surrogate-RR")),
    Stage(
        "warm-up-RR",
        ChainBlock,
        ("surrogate-RR", "validation-RR-rows"),
        ("sample", "emulate.variance", *FORCED),
    ),
    Stage("chains-RR-BBB", ChainBlock, ("warm-up-RR", "chains-RR-BBB")),
    Stage("validation-RR-block", Validation, (*ERRORS, "surrogate-RR", "chains-RR-BBB")),
    Stage("validation-RR-draws", Validation, (*ERRORS, "surrogate-RR", "chains-RR-BBB")),
    Stage("refinement-NN", Batch, (*ERRORS, "surrogate-RR", "chains-RR-BBB"), FORCED),
    Stage("evaluation-refinement-NN", Evaluation, (PREPARATION, "refinement-NN"), MEMBERS),
    Stage(
        "posterior-RR",
        Posterior,
        ("chains-RR-BBB",),
        ("posterior", "sample.max_steps", "sample.rhat", "sample.ess", *FORCED),
    ),
    Stage("evaluation-posterior-RR", Evaluation, (PREPARATION, "posterior-RR"), MEMBERS),
    Stage(
        "verdict-RR",
        Verdict,
        (*ERRORS, "surrogate-RR", "posterior-RR", "evaluation-posterior-RR", *VALIDATIONS),
        FORCED,
    ),
    Stage("verdict", Verdict, ("verdict-RR",), ("emulate.rounds", *FORCED)),
    Stage("scorecard-default", Scorecard, (*ERRORS, "evaluation-default"), SCORES),
    Stage("scorecard-prior", Scorecard, (*ERRORS, "evaluation-NN"), SCORES),
    Stage("scorecard", Scorecard, (*ERRORS, "verdict", "evaluation-NN", "evaluation-posterior-RR"), SCORES),
)
# Keys that decide no stage: how a run is called, how far it goes, what is kept and how long it may take.
UNDECISIVE = (
    *("run.name", "run.directory", "run.stop_after", "parameters.*.label"),
    *("model.timeout", "model.keep", "model.source.no_output_timeout"),
    "calibrate.force",
)


@dataclass(frozen=True)
class Reached:
    """What is there of a stage.

    Attributes
    ----------
    inputs : tuple of str
        The stages it was computed from.
    files : mapping of str to str
        Digests of the files it read, by the key of the config that names them.
    finished : bool
        False: some of its members are finished, the stage is not.
    """

    inputs: tuple[str, ...] = ()
    files: Mapping[str, str] = field(default_factory=dict)
    finished: bool = True


def family(stage: str) -> Stage | None:
    """Return the family of a stage, None where it is of none."""
    return next((one for one in GRAPH if one.holds(stage)), None)


def iteration_before(stage: str) -> str | None:
    """Return the evaluation of the iteration before that of a stage; None for the first, and for others.

    >>> iteration_before("evaluation-10"), iteration_before("evaluation-00"), iteration_before("truth")
    ('evaluation-09', None, None)
    """
    kind, _, number = stage.rpartition("-")
    if kind != "evaluation" or not number.isdecimal() or int(number) == 0:
        return None
    return f"{kind}-{int(number) - 1:02d}"


def deciding(key: str) -> tuple[str, ...]:
    """Return the families that read a key of the config (or the file that it names) themselves.

    >>> deciding("calibrate.design"), deciding("run.name"), deciding("sites.hyytiala.observations.file")
    (('ensemble-NN',), (), ('truth', 'observations'))
    """
    key = bare(key)
    listed = {known for one in GRAPH for known in one.config} | set(UNDECISIVE)
    longest = max((known for known in listed if _within(key, known)), key=len, default=None)
    if longest is None:  # of a key that nobody lists nothing is known: it decides all
        return tuple(one.key for one in GRAPH)
    return tuple(one.key for one in GRAPH if longest in one.config)


def decided(key: str, reached: Mapping[str, Reached]) -> str | None:
    """Return the first of some stages that a key, or the file it names, decides; None where it decides none.

    Of those that a stage was computed from, one may be gone: then it is the stage itself.
    """
    return next((s for s, r in reached.items() if any(reads(one, key) for one in (s, *r.inputs))), None)


def reads(stage: str, key: str) -> bool:
    """Tell whether a stage reads a key, or the file it names, itself."""
    one = family(stage)
    return one is not None and one.key in deciding(key)


def from_on(first: str, reached: Sequence[str]) -> list[str]:
    """Return a stage and all that are set aside with it: the later ones.

    >>> from_on("preparation", ["preparation", "observations", "ensemble-00", "evaluation-00"])
    ['preparation', 'evaluation-00']
    """
    if first != PREPARATION:
        return list(reached[reached.index(first) :])
    starting = [one.key for one in GRAPH if PREPARATION in one.inputs]
    of_members = [stage for stage in reached if (one := family(stage)) is not None and one.key in starting]
    return [first, *(from_on(of_members[0], reached) if of_members else [])]


def bare(key: str) -> str:
    """Return a dotted key as it would be in a config of one site."""
    return re.sub(r"^sites\.[^.]+\.", "", key)


def _within(key: str, above: str) -> bool:
    """Tell whether a key is another, where * is any name, or below it.

    >>> _within("parameters.a.label", "parameters.*.label"), _within("parameters.a.prior", "parameters")
    (True, True)
    """
    pairs = zip(key.split("."), above.split("."), strict=False)
    return key.count(".") >= above.count(".") and all(known in (part, "*") for part, known in pairs)
