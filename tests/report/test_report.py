"""The report's page: well-formed, complete, true to the records, and the same bytes again."""

from __future__ import annotations

import csv
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fatescal.diagnostics import scores
from fatescal.diagnostics.rerun_verdict import judge_rerun, not_sampled
from fatescal.emulate.gaussian_process import Fitted
from fatescal.emulate.kernels import JOINT, GPSpec
from fatescal.emulate.output_emulator import OutputsEmulator
from fatescal.emulate.surrogates import OutputsSurrogate, members
from fatescal.parameters.priors import LogitNormal, Normal, Prior, Uniform
from fatescal.parameters.space import ParameterSpace
from fatescal.report import figure_files
from fatescal.report.annual_section import sums
from fatescal.report.failed_members_section import FailedMembers
from fatescal.report.methods_section import sentences
from fatescal.report.misfit_section import Misfit
from fatescal.report.page import page, write
from fatescal.report.parameter_tables import prior_moments
from fatescal.report.registry import made_sections, sections
from fatescal.report.residual_tables import columns, correlations
from fatescal.report.results import Results
from fatescal.report.time_series_section import FitInTime, fit_figure, series, with_noise
from fatescal.storage.chain_records import ChainBlock
from fatescal.storage.records import (
    Evaluation,
    KalmanInfo,
    Observations,
    Posterior,
    Validation,
)

PFTS = ("needleleaf_evergreen_extratrop_tree", "broadleaf_colddecid_extratrop_tree", "cool_c3_grass")
POSTERIOR_SD = 0.25  # of the synthetic posterior, in u
VOID = {"meta", "img", "br", "hr", "link", "input", "wbr"}


def made_up(n_days: int = 1096, n_members: int = 64, n_parameters: int = 6, n_steps: int = 500) -> Results:
    """Return a whole run of a made-up seasonal model, linear in u, with the exact posterior's shape."""
    rng = np.random.default_rng(0)
    space = _space(n_parameters)
    truth = rng.standard_normal(n_parameters)
    blank = _grid(rng, n_days)
    model = _model(blank, n_parameters)
    noise = blank.noise * rng.standard_normal(len(blank))
    observations = replace(blank, y=model(truth[None])[0] + noise)

    def evaluation(u: np.ndarray) -> Evaluation:
        status = np.zeros(len(u), int)
        status[5:7] = 1, 2
        u[0] = space.u_default
        predictions = np.where(status[:, None] == 0, model(u), np.nan)
        return Evaluation(u, space.theta(u), predictions, status, np.ones(len(u)))

    history = {}
    for i, sd in enumerate((1.0, 0.5, 0.3, POSTERIOR_SD)):
        centre = truth * (1 - 0.5**i)
        draws = centre + sd * rng.standard_normal((n_members, n_parameters))
        history[f"evaluation-{i:02d}"] = evaluation(draws)
    cold = truth + POSTERIOR_SD * rng.standard_normal((4, n_steps, 4, n_parameters))
    posterior_u = cold.reshape(-1, n_parameters)[: n_members - 1]
    history["evaluation-posterior-00"] = evaluation(np.vstack([truth, posterior_u]))
    draws_u = cold.reshape(-1, n_parameters)[:4000]
    climatology = np.where(observations.variable == "GPP", 4.0, 1.0)
    verdict = judge_rerun(np.zeros(n_members - 1), posterior_u, draws_u, space.names)
    ensembles = {"climatology": climatology, "default": history["evaluation-00"].predictions[0]} | {
        role: history[key].predictions[1:][history[key].ok[1:]]
        for role, key in {
            "prior": "evaluation-00", "last": "evaluation-03", "posterior": "evaluation-posterior-00",
        }.items()
    }  # fmt: skip
    return Results(
        name="twin <1> & more",
        settings={"run": {"name": "twin", "seed": 1}, "sample": {"rhat": 1.01, "ess": 400}},
        parameter=space.names,
        units=dict.fromkeys(space.names, "umol m-2 s-1"),
        default=space.theta(space.u_default)[0],
        truth=space.theta(truth)[0],
        prior=space,
        observations=observations,
        history=history,
        updates=[
            KalmanInfo(1.0, np.ones(n_members), np.full(n_parameters, 0.5), 2, 5.5, 1.0) for _ in range(3)
        ],
        emulator=OutputsEmulator(),
        surrogate=_surrogate(rng, observations, n_parameters),
        validation=_validation(rng),
        chains=_blocks(rng, cold),
        posterior=Posterior(
            posterior_u, space.theta(posterior_u), np.array(space.names), draws_u, space.theta(draws_u)
        ),
        scorecard=scores.score_table(observations, ensembles),
        verdicts=[verdict],
        verdict=verdict,
        climatology=climatology,
        remarks=("R-hat of <vcmax> is fine",),
        versions={"fatescal": "0.1", "numpy": np.__version__},
    )


def _space(n_parameters: int) -> ParameterSpace:
    names = [f"fates_leaf_vcmax25top_{pft}" for pft in PFTS]
    names += [f"fates_leaf_stomatal_slope_ballberry_{pft}" for pft in PFTS]
    priors: list[Prior] = [
        LogitNormal(median=60.0, scale=0.3, bounds=(15.0, 105.0)),
        Uniform(bounds=(1.0, 20.0)),
        Normal(mean=5.0, sd=2.0),
    ] * 2
    names, priors = names[:n_parameters], priors[:n_parameters]
    default = {n: p.theta(np.array(0.2)).item() for n, p in zip(names, priors, strict=True)}
    return ParameterSpace(tuple(names), tuple(priors), default)


def _grid(rng: np.random.Generator, n_days: int) -> Observations:
    """Return daily GPP and ET with single gaps, a lost month and a validation third."""
    days = np.datetime64("2004-01-01", "s") + np.arange(n_days) * np.timedelta64(1, "D")
    parts = []
    for variable, unit, sd in (("GPP", "g C m-2 d-1", 0.8), ("ET", "mm d-1", 0.3)):
        lost = (rng.random(n_days) < 0.08) | ((np.arange(n_days) > 480) & (np.arange(n_days) < 520))
        start = days[~lost]
        period = np.where(start < days[2 * n_days // 3], "calibration", "validation")
        parts.append(
            (np.full(len(start), sd), np.full(len(start), variable), np.full(len(start), unit), start, period)
        )
    columns = [np.concatenate(column) for column in zip(*parts, strict=True)]
    noise, variables, units, start, period = columns
    end = start + np.timedelta64(1, "D")
    return Observations(
        y=np.zeros(len(noise)),
        noise=noise,
        variable=variables,
        unit=units,
        start=start,
        end=end,
        period=period,
    )


def _model(obs: Observations, n_parameters: int):
    day = (obs.start - obs.start.astype("datetime64[Y]")).astype("timedelta64[D]").astype(float)
    season = np.clip(np.sin(2 * np.pi * (day - 95) / 365), 0, None)
    weather = 1 + 0.35 * np.sin(day * 1.7) * np.cos(day * 0.31)
    scale = np.where(obs.variable == "GPP", 9.0, 3.0)
    shapes = np.array([np.cos(2 * np.pi * (day - 190) * (p + 1) / 365) for p in range(n_parameters)])
    return lambda u: scale * season * weather * (1 + 0.08 * u @ shapes)


def _surrogate(rng: np.random.Generator, obs: Observations, n_parameters: int) -> OutputsSurrogate:
    n = int((obs.period == "calibration").sum())
    one = Fitted.plain(np.ones((3, n_parameters + 2)))
    return OutputsSurrogate(
        mean=np.zeros(n), basis=np.zeros((n, 3)), u=rng.standard_normal((100, n_parameters)),
        latent=rng.standard_normal((100, 3)), scores=np.array([0.99, 0.97, 0.95]),
        held_out_rows=np.arange(2), held_out_mean=np.zeros((2, 3)), held_out_variance=np.ones((2, 3)),
        variance=np.ones(3), **members([GPSpec(JOINT, 1)], [one], np.ones(1), np.eye(n_parameters)),
    )  # fmt: skip


def _validation(rng: np.random.Generator) -> Validation:
    misfit = rng.uniform(700, 710, 60)
    predicted = misfit + 0.3 * rng.standard_normal(60)
    return Validation(
        misfit, predicted, np.full(60, 0.3), q2=0.9912345, coverage=0.956, n_near=60, posterior_sd=0.21,
        passed=True, verdict="passed: Q2 > 0.9",
    )  # fmt: skip


def _blocks(rng: np.random.Generator, cold: np.ndarray) -> list[ChainBlock]:
    n_runs, n_steps, n_walkers, n_parameters = cold.shape
    beta = np.tile(np.linspace(0, 1, 6) ** 2, (n_runs, 1))
    log_likelihood = -5 / (0.1 + beta[0][:, None]) + rng.standard_normal((n_runs, n_steps, 6, n_walkers))
    half = n_steps // 2
    return [
        ChainBlock(
            u=cold[:, part],
            log_likelihood=log_likelihood[:, part],
            accepted=np.full((n_runs, 6), 0.25),
            rejected=np.full((n_runs, 5), 0.4),
            round_trips=np.full(n_runs, 20.0),
            beta=beta,
            end_u=np.zeros((n_runs, 6, n_walkers, n_parameters)),
            end_log_likelihood=np.zeros((n_runs, 6, n_walkers)),
            end_scale=np.zeros((n_runs, 6, n_parameters, n_parameters)),
            end_from_prior=np.zeros((n_runs, 6, n_walkers), bool),
            end_steps=np.full(n_runs, n_steps),
            reference_rejected=np.full((n_runs, 2), 0.2),
            reference_weight=rng.standard_normal((n_runs, half, 2, n_walkers)),
            reference_beta=np.tile([0.0, 0.5], (n_runs, 1)),
            end_reference_mean=np.zeros((n_runs, n_parameters)),
            end_reference_factor=np.tile(np.eye(n_parameters), (n_runs, 1, 1)),
            end_reference_u=np.zeros((n_runs, 2, n_walkers, n_parameters)),
            end_reference_log_likelihood=np.zeros((n_runs, 2, n_walkers)),
            end_reference_scale=np.tile(np.eye(n_parameters), (n_runs, 2, 1, 1)),
            end_prior_every=np.full(n_runs, 5),
        )
        for part in (slice(0, half), slice(half, None))
    ]


class Page(HTMLParser):
    """Reads a page: refuses unbalanced tags, keeps text, images, exact numbers of table rows by section."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.sections: list[str] = []
        self.images: list[dict] = []
        self.links: list[str] = []
        self.text = ""
        self.rows: dict[str, list[tuple[str, list[float]]]] = {}
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        if tag not in VOID:
            self.open.append(tag)
        if tag == "section":
            self.sections.append(given["id"])
        elif tag == "img":
            self.images.append(given)
        elif tag == "a":
            self.links.append(given["href"])
        elif tag == "tr":
            self._place().append(("", []))
        elif tag == "data" and "tr" in self.open:
            self._place()[-1][1].append(float(given["value"]))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data
        if "tr" in self.open and "th" in self.open:
            name, numbers = self._place()[-1]
            self._place()[-1] = (name + data, numbers)

    def _place(self) -> list[tuple[str, list[float]]]:
        return self.rows.setdefault(self.sections[-1] if self.sections else "head", [])

    def numbers(self, section: str, row: str) -> list[list[float]]:
        """Return the numbers of a section's rows whose name starts with `row`."""
        return [numbers for name, numbers in self.rows[section] if name.startswith(row)]


ALL = list(sections())


@pytest.fixture(scope="module")
def whole() -> Results:
    return made_up(n_days=500, n_members=16, n_parameters=2, n_steps=60)


@pytest.fixture(scope="module")
def small() -> Results:
    return made_up(n_days=60, n_members=8, n_parameters=2, n_steps=20)


@pytest.fixture(scope="module")
def written(whole: Results, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(whole, tmp_path_factory.mktemp("run") / "report")


@pytest.fixture(scope="module")
def read(written: Path) -> Page:
    return Page(written.read_text(encoding="utf-8"))


def test_whole_run_has_every_section_linked(read: Page) -> None:
    assert read.sections == ALL
    assert read.links == ["#content", *(f"#{section}" for section in ALL)]


def test_page_is_alone_and_self_contained(written: Path, read: Page) -> None:
    assert [p.name for p in written.parent.iterdir()] == ["index.html"]
    assert all(image["src"].startswith("data:image/") and image["alt"] for image in read.images)
    assert len(read.images) == 14
    assert "http" not in written.read_text().split("base64")[0]
    assert written.stat().st_size < 4e6


def test_text_is_escaped(written: Path, read: Page) -> None:
    assert "twin <1> & more" in read.text
    assert "R-hat of <vcmax> is fine" in read.text
    assert "<1>" not in written.read_text()


def test_scorecard_shows_the_records_numbers_and_marks_the_best(
    whole: Results, read: Page, written: Path
) -> None:
    card = whole.scorecard
    assert card is not None
    for ensemble, row in (
        ("climatology", "climatology"),
        ("last", "last ensemble"),
        ("posterior", "posterior"),
    ):
        for variable, shown in zip(("GPP", "ET"), read.numbers("scorecard", row), strict=True):
            mine = (card.variable == variable) & (card.ensemble == ensemble)
            expected = card.value[mine].tolist()
            assert len(expected) == 10  # calibration, then validation: five scores each
            np.testing.assert_equal(shown, expected)
    models = (card.ensemble != "climatology") & (card.variable == "ET") & (card.period == "validation")
    coverage = card.value[models & (card.score == "coverage")]
    for value in (
        card.value[models & (card.score == "crps")].min(),
        card.value[models & (card.score == "r2")].max(),
        coverage[np.argmin(abs(coverage - scores.LEVEL))],
    ):
        assert f'<mark><data value="{float(value)!r}">' in written.read_text()


def test_parameter_table_shows_the_records_numbers(whole: Results, read: Page) -> None:
    assert whole.posterior is not None
    assert whole.truth is not None
    draws = whole.posterior.draws_theta
    last = whole.history["evaluation-03"]
    for p, name in enumerate(whole.parameter):
        shown, beside, *_ = read.numbers("parameters", name)
        theta = last.theta[1:][last.ok[1:], p]
        mean, sd = draws[:, p].mean(), draws[:, p].std(ddof=1)
        assert shown[0] == whole.default[p]
        low, median, high = np.quantile(draws[:, p], [0.05, 0.5, 0.95])
        expected = [theta.mean(), theta.std(ddof=1), mean, sd, median, low, high]
        np.testing.assert_allclose(shown[6:13], expected, rtol=1e-12)
        assert shown[13] == pytest.approx(sd / shown[2])
        assert shown[14:] == pytest.approx([whole.truth[p], (mean - whole.truth[p]) / sd])
        assert beside[0] == pytest.approx(whole.posterior.draws_u[:, p].mean())


def test_prior_moments_are_those_of_the_distribution() -> None:
    _, uniform, normal = prior_moments(made_up(n_days=100, n_members=8, n_parameters=3, n_steps=20))
    assert normal[:2] == pytest.approx((5.0, 2.0), rel=1e-6)
    assert uniform[:2] == pytest.approx((10.5, 19 / np.sqrt(12)), rel=1e-6)
    assert uniform[2:] == pytest.approx((1.95, 10.5, 19.05), rel=1e-9)
    assert normal[2:] == pytest.approx((5 - 2 * 1.644854, 5.0, 5 + 2 * 1.644854), rel=1e-6)


def test_misfit_table_shows_reduced_chi2_and_failures(whole: Results, read: Page) -> None:
    evaluation = whole.history["evaluation-02"]
    calibration = whole.rows("calibration")
    predictions = evaluation.predictions[1:][evaluation.ok[1:]][:, calibration]
    residuals = (whole.observations.y[calibration] - predictions) / whole.observations.noise[calibration]
    (shown,) = read.numbers("misfit", "iteration 2")
    assert shown[0] == 16
    assert shown[1] == pytest.approx(np.median((residuals**2).mean(axis=1)))
    assert "2 (1 model error, 1 time out)" in read.text


def test_emulator_and_chain_tables_show_the_records_numbers(whole: Results, read: Page) -> None:
    assert read.numbers("emulator", "Q² of Φ") == [[0.9912345]]
    assert whole.diagnosis is not None
    (shown,) = read.numbers("chains", whole.parameter[1])
    assert shown == [
        x[1]
        for x in (
            whole.diagnosis.rhat,
            whole.diagnosis.rhat_walkers,
            whole.diagnosis.ess_bulk,
            whole.diagnosis.ess_tail,
            whole.diagnosis.mcse,
        )
    ]


def test_same_results_give_the_same_bytes(small: Results) -> None:
    for section in (Misfit, FitInTime):  # SVG and PNG
        assert section().render(small) == section().render(small)


def test_unfinished_runs_get_a_page_of_what_exists(small: Results) -> None:
    nothing: dict[str, Any] = {
        "updates": (), "surrogate": None, "validation": None, "chains": (), "posterior": None,
        "scorecard": None,
        "climatology": None, "truth": None, "units": {}, "remarks": (), "versions": {},
        "verdicts": (), "verdict": None,
    }  # fmt: skip
    assert Page(page(replace(small, history={}, **nothing))).sections == ["parameters", "provenance"]
    prior = {"evaluation-00": small.history["evaluation-00"]}
    read = Page(page(replace(small, history=prior, **nothing)))
    assert read.sections == [
        "evidence", "parameters", "fit", "residuals", "annual", "misfit", "failures", "cost", "methods",
        "provenance",
    ]  # fmt: skip
    assert "May I use this posterior? Not yet: the run is not finished" in read.text


def test_a_run_that_did_not_validate_says_so(small: Results) -> None:
    assert small.validation is not None
    refused = replace(small.validation, passed=False, verdict="refused: Q2 is 0.2", posterior_sd=np.nan)
    history = {k: e for k, e in small.history.items() if k != "evaluation-posterior-00"}
    read = Page(page(replace(small, validation=refused, history=history, chains=(), posterior=None)))
    assert read.sections == [section for section in ALL if section != "chains"]
    assert read.text.count("NOT VALIDATED") == 2
    assert "refused: Q2 is 0.2" in read.text


@pytest.mark.parametrize(
    ("outcome", "said", "kind"),
    [
        ("confirmed", "Yes: confirmed by the model", "good"),
        ("not confirmed", "No: not confirmed", "bad"),
        ("cannot tell", "No: cannot tell", "bad"),
        ("not sampled", "No: not sampled", "bad"),
    ],
)
def test_the_answer_comes_before_what_emulator_and_chains_say(
    whole: Results, outcome: str, said: str, kind: str
) -> None:
    """A validated emulator and converged chains must not look like a confirmation."""
    assert whole.verdict is not None
    distrust = np.arange(len(whole.parameter)) == 0
    verdict = replace(whole.verdict, outcome=outcome, distrust=distrust, round=0)
    lenient = {"sample": {"rhat": 10.0, "ess": 1.0}, "emulate": {"rounds": 1}}
    made = page(replace(whole, verdict=verdict, verdicts=[verdict], settings=lenient))
    head = made[made.index("<header>") : made.index("</header>")] + "</header>"
    assert f'<div class="answer {kind}"><p class="verdict">May I use this posterior? <b>{said}' in head
    assert head.index(said) < head.index("emulator validated")
    assert (whole.parameter[0] in Page(head).text) == (outcome != "not sampled")
    assert ("<b>do: </b>" in head) == (kind == "bad")


def test_a_confirmed_posterior_with_a_fault_is_to_be_used_with_care(whole: Results) -> None:
    lenient = replace(whole, settings={"sample": {"rhat": 10.0, "ess": 1.0}})
    assert lenient.answer.word == "yes"
    strict = replace(whole, settings={"sample": {"rhat": 1.0001, "ess": 1e6}})
    assert strict.answer.word == "with care"
    assert "the chains have not converged" in strict.answer.because[0]
    assert "a larger sample.max_steps" in strict.answer.advice
    other = replace(lenient, repeats=False)
    assert (other.answer.word, other.answer.headline) == ("with care", "confirmed by the model")
    assert "NOT repeat itself" in other.answer.because[0]
    head = page(other)
    assert '<div class="answer care">' in head


def test_labels_stand_for_names_and_names_are_told_once(small: Results) -> None:
    labels = {small.parameter[0]: "Vcmax, needle", small.parameter[1]: "cost $5 & more"}
    assert isinstance(small.prior, ParameterSpace)
    labelled = replace(small, prior=replace(small.prior, labels=labels))
    made = page(labelled)
    assert Page(made).numbers("parameters", "Vcmax, needle")
    assert "cost $5 &amp; more" in made
    assert "umol m-2 s-1" in made
    assert labelled.labelled(f"of {small.parameter[0]}!") == "of Vcmax, needle!"


def test_annual_sums_are_those_of_the_windows(whole: Results) -> None:
    header, rows = sums(whole)
    obs = whole.observations
    for row in rows:
        cells = dict(zip(header, row, strict=True))
        mine = (obs.variable == cells["variable"]) & (
            obs.start.astype("datetime64[Y]").astype(int) + 1970 == cells["year"]
        )
        assert cells["observed"] == pytest.approx(obs.y[mine].sum())  # daily windows of a rate per day
        assert cells["share_of_year"] == pytest.approx(mine.sum() / (366 if cells["year"] % 4 == 0 else 365))
        posterior = whole.compared["posterior"][:, mine].sum(axis=1)
        assert cells["posterior_median"] == pytest.approx(np.median(posterior))
        assert cells["posterior_low"] < cells["posterior_median"] < cells["posterior_high"]
    assert {(row[0], row[1]) for row in rows} == {("GPP", "g C m-2"), ("ET", "mm")}


def test_seasons_add_up_to_the_scorecard(whole: Results) -> None:
    header, rows = columns(whole)
    table = [dict(zip(header, row, strict=True)) for row in rows]
    card = whole.scorecard
    assert card is not None
    keys = zip(card.variable, card.period, card.ensemble, card.score, strict=True)
    scored = dict(zip(keys, card.value.tolist(), strict=True))
    for variable, period in {(row["variable"], row["period"]) for row in table}:
        mine = [row for row in table if (row["variable"], row["period"]) == (variable, period)]
        n = np.array([row["n"] for row in mine])
        assert n.sum() == whole.rows(period, variable).sum()
        for name in ("bias", "coverage"):
            mean = np.average([row[name] for row in mine], weights=n)
            assert mean == pytest.approx(scored[variable, period, "posterior", name])
    assert {row[2] for row in correlations(whole)[1]} == set(range(1, 31))
    assert whole.overconfident == []  # independent errors, as assumed


def test_failed_members_are_shown_where_they_failed(whole: Results) -> None:
    first = whole.history["evaluation-00"]
    high = first.u[:, 0] > np.median(first.u[:, 0])
    broken = replace(first, status=high.astype(int))
    failed = replace(whole, history={"evaluation-00": broken})
    section = FailedMembers()
    shown = section.render(failed)
    assert shown is not None
    assert f"{whole.name_of(0)} &gt;= " in shown
    header, rows = section.figures(failed)[0].data()
    _, numbers, reasons, *theta = zip(*rows, strict=True)
    assert list(numbers) == np.flatnonzero(high).tolist()
    assert {*reasons} == {"model error"}
    assert list(header[3:]) == list(whole.parameter)
    np.testing.assert_array_equal(np.transpose(theta), first.theta[high])
    fine = replace(whole, history={"evaluation-00": replace(first, status=0 * first.status)})
    assert FailedMembers().render(fine) is None


def test_of_what_is_no_flux_there_is_no_sum(small: Results) -> None:
    kelvin = replace(small.observations, unit=np.full(len(small.observations), "K"))
    assert sums(replace(small, observations=kelvin))[1] == []


def test_every_figure_is_written_for_a_journal_with_its_data(small: Results, tmp_path: Path) -> None:
    paths = figure_files.write(small, tmp_path / "figures")
    stems = {path.stem for path in paths}
    assert {"parameters", "corner", "fit-GPP", "season-ET", "misfit", "emulator", "traces", "ladder"} <= stems
    assert {path.name for path in (tmp_path / "figures").iterdir()} == {path.name for path in paths}
    for stem in stems:
        png = (tmp_path / "figures" / f"{stem}.png").read_bytes()
        pdf = (tmp_path / "figures" / f"{stem}.pdf").read_bytes()
        assert (png[:4], pdf[:4]) == (b"\x89PNG", b"%PDF")
        width = int.from_bytes(png[16:20])
        wide = 180 if stem in ("parameters", "fit-GPP", "fit-ET", "misfit", "traces", "ladder") else None
        assert width / 300 * 25.4 == (pytest.approx(wide, abs=1) if wide else pytest.approx(120, abs=62))
    with open(tmp_path / "figures" / "fit-GPP.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    gpp = small.rows(variable="GPP")
    np.testing.assert_array_equal([float(row["observed"]) for row in rows], small.observations.y[gpp])
    middle = np.median(small.compared["posterior"][:, gpp], axis=0)
    np.testing.assert_array_equal([float(row["posterior_median"]) for row in rows], middle)


def test_page_and_files_share_one_drawing(small: Results, tmp_path: Path) -> None:
    made = made_sections()
    assert page(small, made) == page(small)
    before = [plot.figure for section in made for plot in section.figures(small)]
    figure_files.write(small, tmp_path / "figures", made)
    assert all(
        figure is plot.figure and figure.get_figwidth() <= figure_files.JOURNAL
        for figure, plot in zip(before, figure_files.plots(small, made), strict=True)
    )


def test_alt_texts_say_what_is_to_be_seen(read: Page) -> None:
    alts = [image["alt"] for image in read.images]
    assert len(set(alts)) == len(alts)
    assert any("default" in alt and "±" in alt for alt in alts)


def test_wide_content_can_be_scrolled_by_keyboard(written: Path) -> None:
    text = written.read_text(encoding="utf-8")
    assert text.count('tabindex="0" role="region" aria-label=') >= 20


def test_the_methods_name_what_was_done(whole: Results) -> None:
    text = " ".join(
        sentences(replace(whole, settings=dict(whole.settings) | {"calibrate": {"scheme": "ies"}}))
    )
    for part in ("2 parameters", "15 members were updated 3 times", "10.3389/fams.2019.00047", "0.9912"):
        assert part in text


def test_the_road_to_the_verdict_is_told_round_by_round(small: Results) -> None:
    assert small.verdict is not None
    n = len(small.parameter)
    refused = not_sampled(small.parameter, "the emulator of round 0 was refused: Q2 is 0.2")
    first = replace(small.verdict, outcome="not confirmed", shift=np.full(n, 0.5), round=1, n_runs=300)
    last = replace(
        small.verdict, round=2, n_runs=363, distance=0.123,
        pooled_weights=np.full(100, 0.01), pooled_shift=np.full(n, 0.25), pooled_ratio=np.full(n, 1.125),
    )  # fmt: skip
    read = Page(page(replace(small, verdict=last, verdicts=[refused, first, last])))
    for words in (
        "not sampled",
        "not confirmed",
        "confirmed by the model",
        "0.1230",
        "+0.25",
        "1.12",
        "100 of 100",
    ):
        assert words in read.text, words


def test_all_members_failed_is_no_obstacle(small: Results) -> None:
    prior = small.history["evaluation-00"]
    dead = replace(prior, predictions=np.full_like(prior.predictions, np.nan), status=np.ones(8, int))
    bare = replace(small, history={"evaluation-00": dead}, chains=(), posterior=None, scorecard=None)
    assert "fit" not in Page(page(bare)).sections


def test_predictive_quantile_is_that_of_the_mixture() -> None:
    rng = np.random.default_rng(1)
    predictions, noise = np.array([[0.0, 3.0], [5.0, 3.5]]), np.array([1.0, 0.2])
    drawn = predictions[rng.integers(0, 2, 200_000)] + noise * rng.standard_normal((200_000, 2))
    for share in (0.05, 0.3, 0.95):
        np.testing.assert_allclose(
            with_noise(predictions, noise, share), np.quantile(drawn, share, axis=0), atol=0.03
        )


def test_fit_figure_has_a_panel_for_each_year_and_all_observations(whole: Results) -> None:
    figure = fit_figure(whole, "GPP")
    assert len(figure.axes) == 2
    drawn = sum(
        len(np.asarray(line.get_xdata()))
        for ax in figure.axes
        for line in ax.lines
        if line.get_marker() == "o"
    )
    assert drawn == whole.rows(variable="GPP").sum()


def test_series_is_in_order_of_time_and_belongs_to_its_observations(whole: Results) -> None:
    obs = whole.observations
    shuffled = np.random.default_rng(3).permutation(len(obs))
    history = {k: replace(e, predictions=e.predictions[:, shuffled]) for k, e in whole.history.items()}
    mixed = series(replace(whole, observations=obs.select(shuffled), history=history), "ET")
    plain = series(whole, "ET")
    assert (np.diff(mixed.time) > np.timedelta64(0)).all()
    np.testing.assert_array_equal(mixed.y, plain.y)
    np.testing.assert_array_equal(mixed.ensembles["posterior"], plain.ensembles["posterior"])


def test_correlated_errors_give_bands_and_chi2(small: Results) -> None:
    obs = small.observations
    lags = {"rho": np.zeros(len(obs)), "position": np.arange(len(obs))}
    correlated = replace(obs, correlation=lags)
    predictions = small.compared["default"]
    np.testing.assert_allclose(
        replace(small, observations=correlated).reduced_chi2(predictions, "calibration"),
        small.reduced_chi2(predictions, "calibration"),
    )
    np.testing.assert_allclose(series(replace(small, observations=correlated), "ET").noise, 0.3)
