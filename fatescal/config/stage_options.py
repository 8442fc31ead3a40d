"""Sections `calibrate`, `emulate`, `sample` and `posterior`: the stages of a run."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator

from fatescal.base.options import Count, Number, Positive, Section, Share, Whole

DRAWS = 4000  # of the pooled chains, at most, that stand for the posterior
DESIGNS = ("prior", "lhs", "sobol", "uniform")


def of_prior(design: str | None) -> bool:
    """Whether the members of a design are distributed as the prior says."""
    return design in (None, "lhs", "sobol")


def _known_design(design: str | None) -> str | None:
    if design is not None and design not in DESIGNS and not design.endswith(".csv"):
        raise ValueError(f"design is one of {', '.join(DESIGNS)} or a file that ends in .csv, got {design}")
    return None if design == "prior" else design


Design = Annotated[str | None, AfterValidator(_known_design)]
Step = Annotated[Number, Field(gt=0, le=1)]

FORMS = {"ienks": ("transform", "bundle"), "es-mda": ("stochastic", "square-root")}
# The options of schemes: those that have it, and the key and value it goes with.
OPTIONS: dict[str, tuple[tuple[str, ...], str | None, str | None]] = {
    "form": (("ienks", "es-mda"), None, None),
    "method": (("ienks",), None, None),
    "step_length": (("ienks",), None, None),
    "damping": (("ienks",), "method", "levenberg-marquardt"),
    "tolerance": (("ienks",), None, None),
    "bundle_width": (("ienks",), "form", "bundle"),
    "truncation": (("es-mda",), None, None),
    "max_iterations": (("es-mda",), "iterations", "adaptive"),
    "first_step": (("ies",), None, None),
    "last_step": (("ies",), None, None),
    "half_life": (("ies",), None, None),
}


class Calibrate(Section):
    """The ensemble Kalman update, or with no iterations a design of runs alone; `members` counts the default
    run.

    What a scheme does with its options is said where the scheme is (`fatescal.update`); one that belongs to
    another scheme, form or method is refused.
    """

    scheme: Literal["ienks", "es-mda", "ies"] = "ienks"
    """ienks: iterative ensemble Kalman smoother; es-mda: ensemble smoother with multiple data assimilation;
    ies: subspace iterative ensemble smoother"""
    members: Annotated[Whole, Field(ge=4)]
    """size of the ensemble, with the default run"""
    design: Design = None
    """where the first ensemble lies: prior, lhs, sobol, uniform, or a csv file of parameter values"""
    iterations: Annotated[Whole, Field(ge=0)] | list[Positive] | Literal["adaptive"] = 4
    """number of updates, 0: none; of es-mda also a list of inflation factors up to a common factor, or
    adaptive: steps as long as the misfit allows"""
    form: Literal["transform", "bundle", "stochastic", "square-root"] | None = None
    """of ienks: transform (the default: sensitivities from an ensemble as wide as the posterior) or bundle
    (from a narrow one); of es-mda: stochastic (the default: perturbed observations) or square-root"""
    min_survivors: Share = 0.5
    """share of the members that must run; never fewer than parameters + 2"""
    force: bool = False
    """go on although the prior check failed: data and prior ensemble contradict each other"""
    method: Literal["gauss-newton", "levenberg-marquardt"] | None = None
    """of ienks: gauss-newton (the default: fixed steps) or levenberg-marquardt (damped steps, each taken back
    and halved when the cost function has risen)"""
    step_length: Step | None = None
    """of ienks: share of the full step that is taken, with levenberg-marquardt tried first; default 1"""
    damping: Positive | None = None
    """of ienks with levenberg-marquardt: added to the curvature, in units of the prior's precision; default
    1"""
    tolerance: Positive | None = None
    """of ienks: converged when a step is shorter than this times sqrt(members - 1), in prior standard
    deviations; default 1e-3"""
    bundle_width: Positive | None = None
    """of ienks with form bundle: width of the ensemble over that of the prior; default 1e-4"""
    truncation: Step | None = None
    """of es-mda: share of the variance of the whitened predictions that is kept, in their leading modes;
    default 1"""
    max_iterations: Count | None = None
    """of es-mda with adaptive iterations: steps at most, of which the last takes all that is left; default
    20"""
    first_step: Step | None = None
    """of ies: share of the full step that the first update takes; default 0.6"""
    last_step: Step | None = None
    """of ies: the share that it tends to; default 0.3"""
    half_life: Positive | None = None
    """of ies: updates in which the share comes half-way from first_step to last_step; default 1.5"""

    @property
    def options(self) -> dict[str, Any]:
        """The options of the scheme that are given, by the names of its own fields."""
        return {name: getattr(self, name) for name in OPTIONS if getattr(self, name) is not None}

    @model_validator(mode="after")
    def _options_of_scheme(self) -> Calibrate:
        for name in self.options:
            scheme, key, value = OPTIONS[name]
            if self.scheme not in scheme:
                raise ValueError(
                    f"`{name}` is an option of scheme {' and '.join(scheme)}, not of {self.scheme}"
                )
            if key is not None and getattr(self, key) != value:
                raise ValueError(f"`{name}` goes with `{key}: {value}`")
        forms = FORMS.get(self.scheme, ())
        if self.form is not None and self.form not in forms:
            raise ValueError(f"form of {self.scheme} is one of {', '.join(forms)}, got {self.form}")
        if self.scheme != "es-mda" and not isinstance(self.iterations, int):
            raise ValueError(f"iterations of {self.scheme} is a number, got {self.iterations}")
        return self

    @model_validator(mode="after")
    def _updates_of_draws(self) -> Calibrate:
        if self.iterations != 0 and not of_prior(self.design):
            raise ValueError(
                f"design {self.design} goes with `iterations: 0` alone: a Kalman update takes the first "
                "ensemble for draws of the prior, and would count what the design happens to be as prior "
                "knowledge"
            )
        return self


class Emulate(Section):
    target: Literal["outputs", "misfit"] = "outputs"
    variance: Literal["auto", "plug-in", "expected", "marginal"] | None = None  # of outputs; None: auto
    force: bool = False  # sample an emulator that failed its validation; the report says so
    rounds: Annotated[Whole, Field(ge=0)] = 3  # more, while the emulator or its posterior is not confirmed

    @model_validator(mode="after")
    def _variance_of_outputs(self) -> Emulate:
        if self.variance is not None and self.target != "outputs":
            raise ValueError("`variance` is for `target: outputs`: the emulated misfit is taken at its word")
        return self


class Sample(Section):
    """Parallel tempering: `runs` independent tempered runs, spread over the ranks."""

    runs: Annotated[Whole, Field(ge=4)] = 4
    levels: Annotated[Whole, Field(ge=2)] | Literal["auto"] = "auto"
    walkers: Count = 4
    max_steps: Annotated[Whole, Field(ge=100)] = 20000
    rhat: Annotated[Number, Field(gt=1)] = 1.01
    ess: Positive = 400


class Posterior(Section):
    """The ensemble of posterior draws that is run again; `members` counts the default run."""

    members: Annotated[Whole, Field(ge=2, le=DRAWS + 1)]
