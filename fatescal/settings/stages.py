"""Sections `calibrate`, `emulate`, `sample` and `posterior`: the stages of a run."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from fatescal.settings.base import Count, Positive, Section

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


class Calibrate(Section):
    """The ensemble Kalman update, or with no iterations a design of runs alone; `members` counts the default run."""

    scheme: Literal["ienks", "es-mda"] = "ienks"
    members: Annotated[int, Field(ge=4)]
    design: Design = None  # of the first ensemble; None: draws of the prior
    iterations: Annotated[int, Field(ge=0)] | list[Positive] | Literal["adaptive"] = 4
    form: Literal["transform", "bundle", "stochastic", "square-root"] | None = None
    min_survivors: Annotated[float, Field(ge=0, le=1)] = 0.5
    force: bool = (
        False  # go on although the prior check failed: data and prior ensemble contradict each other
    )

    @model_validator(mode="after")
    def _form_of_scheme(self) -> Calibrate:
        allowed = {"ienks": ("transform", "bundle"), "es-mda": ("stochastic", "square-root")}[self.scheme]
        if self.form is not None and self.form not in allowed:
            raise ValueError(f"form of {self.scheme} is one of {', '.join(allowed)}, got {self.form}")
        if self.scheme == "ienks" and not isinstance(self.iterations, int):
            raise ValueError(f"iterations of ienks is a number, got {self.iterations}")
        if self.iterations != 0 and not of_prior(self.design):
            raise ValueError(
                f"design {self.design} goes with `iterations: 0` alone: a Kalman update takes the first ensemble for draws "
                "of the prior, and would count what the design happens to be as prior knowledge"
            )
        return self


class Emulate(Section):
    target: Literal["outputs", "misfit"] = "outputs"
    variance: Literal["auto", "plug-in", "expected", "marginal"] | None = None  # of outputs; None: auto
    force: bool = False  # sample an emulator that failed its validation; the report says so
    rounds: Annotated[int, Field(ge=0)] = 3  # of refinement when the validation fails

    @model_validator(mode="after")
    def _variance_of_outputs(self) -> Emulate:
        if self.variance is not None and self.target != "outputs":
            raise ValueError("`variance` is for `target: outputs`: the emulated misfit is taken at its word")
        return self


class Sample(Section):
    """Parallel tempering: `runs` independent tempered runs, spread over the ranks."""

    runs: Annotated[int, Field(ge=4)] = 4
    levels: Annotated[int, Field(ge=2)] | Literal["auto"] = "auto"
    walkers: Count = 4
    max_steps: Annotated[int, Field(ge=100)] = 20000
    rhat: Annotated[float, Field(gt=1)] = 1.01
    ess: Positive = 400


class Posterior(Section):
    """The ensemble of posterior draws that is run again; `members` counts the default run."""

    members: Annotated[int, Field(ge=2, le=DRAWS + 1)]
