"""Section "Emulator": whether the emulator may stand for the model near the optimum."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure

from fatescal.emulate.base import Emulator
from fatescal.emulate.training import near_limit, rows_needed
from fatescal.emulate.validation import COVERAGE, MAX_POSTERIOR_SD, MAX_SHARE, MAX_TAIL_SD, MIN_Q2
from fatescal.report.figure import COLOUR, Plot, canvas, styled
from fatescal.report.markup import Markup, element, number, paragraph, table
from fatescal.report.results import Results
from fatescal.report.section import ReportSection
from fatescal.storage.records import Surrogate, Validation


class EmulatorCheck(ReportSection):
    """Whether the emulator may stand for the model near the optimum."""

    kind = "emulator"
    title = "Emulator check"
    needs = "an emulator"

    def plots(self, results: Results) -> Sequence[Plot]:
        checked = results.validation
        if checked is None:
            return ()
        alt = (
            f"Misfit of {len(checked.misfit)} runs predicted by an emulator that had not seen them, against "
            f"the model's own: explained variance {checked.q2:.4f}"
        )
        rows = zip(*(x.tolist() for x in (checked.misfit, checked.predicted, checked.sd)), strict=True)
        return (
            Plot("emulator", lambda: _figure(checked), alt, lambda: (("misfit", "predicted", "sd"), rows)),
        )

    def content(self, results: Results) -> Sequence[object] | None:
        content: list[object] = []
        if results.emulator is not None and results.surrogate is not None:
            content.append(_described(results.emulator, results.surrogate))
        if results.validation is not None:
            content += _validated(results.validation, len(results.parameter), self.figures(results))
        return content or None


def _described(emulator: Emulator, surrogate: Surrogate) -> Markup:
    scores = surrogate.scores
    return paragraph(
        f"{emulator.description(surrogate)}. The sampler asks them instead of the model. Held-out Q² near "
        f"the optimum of the single outputs: {number(float(scores.min()))} to {number(float(scores.max()))}."
    )


def _validated(validation: Validation, n_parameters: int, plots: Sequence[Plot]) -> list[Markup]:
    """Return what the validation says, in numbers, a figure and text."""
    low, high = COVERAGE
    needed, limit = rows_needed(n_parameters), near_limit(n_parameters)
    rows = [
        [f"runs near the optimum (Φ − Φ min < {limit:.3g})", validation.n_near, f"at least {needed}"],
        ["Q² of Φ, held-out runs", float(validation.q2), f"above {MIN_Q2}"],
        ["share of latent outputs inside their 95 % interval", float(validation.coverage),
         f"{low} to {high}, give or take two standard errors of the share"],
        ["median sd of Φ over the posterior", float(validation.posterior_sd), f"below {MAX_POSTERIOR_SD}"],
        ["99 % quantile of it", float(validation.tail_sd), f"below {MAX_TAIL_SD:g}"],
        ["share of the posterior where it exceeds 1", float(validation.beyond_1),
         f"at most {MAX_SHARE[1.0]:g}"],
        ["share of the posterior where it exceeds 2", float(validation.beyond_2),
         f"at most {MAX_SHARE[2.0]:g}"],
    ]  # fmt: skip
    badge = element(
        "b",
        "validated" if validation.passed else "NOT VALIDATED",
        class_="good" if validation.passed else "bad",
    )
    return [
        paragraph(
            "Each run near the optimum is predicted by the emulator without it and without its near twins. "
            "Left: predicted against true misfit; dots should lie on the diagonal. Right: the error; a "
            f"posterior density is wrong by the factor exp(error), and the grey band is ±{MAX_POSTERIOR_SD}. "
            "Bars are two standard deviations of the Gaussian processes; what the compression of the outputs "
            "discards comes on top.",
        ),
        *(plot.shown for plot in plots),
        table(["criterion", "value", "wanted"], rows),
        paragraph(badge, ": ", validation.verdict),
    ]


@styled
def _figure(validation: Validation) -> Figure:
    figure = canvas(3.4, 8.0)
    left, right = figure.subplots(1, 2)
    true, predicted, sd = validation.misfit, validation.predicted, validation.sd
    left.errorbar(true, predicted, 2 * sd, fmt="o", ms=3, lw=0.7, color=COLOUR["posterior"])
    limits = min(true.min(), predicted.min()), max(true.max(), predicted.max())
    left.plot(limits, limits, color="#999999", lw=0.8, zorder=0)
    left.set_xlabel("Φ of the model")
    left.set_ylabel("Φ predicted by the emulator")
    right.errorbar(
        true - true.min(), predicted - true, 2 * sd, fmt="o", ms=3, lw=0.7, color=COLOUR["posterior"]
    )
    right.axhline(0, color="#999999", lw=0.8, zorder=0)
    right.axhspan(-MAX_POSTERIOR_SD, MAX_POSTERIOR_SD, color="#eeeeee", lw=0, zorder=-1)
    right.set_xlabel("Φ − least Φ")
    right.set_ylabel("error: predicted − true Φ")
    return figure
