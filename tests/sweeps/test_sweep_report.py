"""What a sweep leaves to look at: the page, the tables, and what they say, on sweeps whose outcome is known."""

import csv
import json
import math
import random
import shutil
import time
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import binomtest, ttest_1samp

from ft.errors import UserError
from ft.report import report
from ft.run_folder import RunFolder
from ft.scoring.metrics import metrics_of
from ft.sweeps.report import PAGE, sweep_asked_for, write_report
from ft.sweeps.report.decision import decision
from ft.sweeps.report.importances import importances
from ft.sweeps.report.leaderboard import precision_note
from ft.sweeps.report.material import Material
from ft.sweeps.report.pareto import front
from ft.sweeps.report.rivals import BOTH, MCNEMAR, SEEDS, _by_variance, _moved, rivals
from ft.sweeps.report.saved import saved
from ft.sweeps.report.tables import write_tables
from ft.sweeps.report.uncertainty import IMAGES, over_seeds, uncertainties
from tests.conftest import composed
from tests.results.test_report_browser import CONTRAST
from tests.sweeps.made import SKILLS, eight_trials, make_sweep, said

OPTIMIZERS = tuple(SKILLS)
VOID = {"meta", "link", "br", "img", "path", "use", "rect"}


def make_optimizers(folder: Path, *, seeds: int = 1, **more: Any) -> Path:
    """A grid of one parameter; adamw is the best, nadam and adam are close to it."""
    return make_sweep(
        folder, params=lambda at: {"optimizer": OPTIMIZERS[at]}, skill=lambda at, params: SKILLS[params["optimizer"]],
        states=("finished",) * 4, seeds=seeds, space={"optimizer": "adam, adamw, nadam, sgd"}, **more,
    )  # fmt: skip


class Page(HTMLParser):
    """Refuses what is not closed; collects texts by the section they stand in, and addresses."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.sections: dict[str, str] = {}
        self.addresses: list[str] = []
        self.section = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.section = str(found.get("id")) if tag == "section" else self.section
        self.addresses += [str(found[name]) for name in ("src", "href") if name in found]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Closed as it is."""

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        words = " ".join(data.split())
        self.sections[self.section] = f"{self.sections.get(self.section, '')} {words}"


def test_the_decision_names_what_cannot_be_told_apart(tmp_path: Path):
    material = Material.read(make_optimizers(tmp_path / "sweeps" / "mine"))
    found = rivals(material)
    assert decision(material, found) == (
        "adamw is best; nadam and adam cannot be told from it on 425 validation images; it is really better than sgd."
    )
    best, *others = (material.predictions(row)[0] for row in material.ranked)
    right = best.told.argmax(1) == best.targets
    p = []
    for rival, other in zip(found, others, strict=True):
        also = other.told.argmax(1) == other.targets
        first, second = int((right & ~also).sum()), int((also & ~right).sum())
        p.append(binomtest(first, first + second).pvalue)
        assert rival.test == MCNEMAR
        assert rival.p == pytest.approx(p[-1])
        assert rival.difference is not None
        assert rival.difference.value == pytest.approx((first - second) / 425)
    assert sorted(rival.p_holm for rival in found) == pytest.approx(
        [min(p) * 3, sorted(p)[1] * 2, max(sorted(p)[1] * 2, max(p))]
    )


def test_with_seeds_their_spread_counts_beside_that_over_the_images(tmp_path: Path):
    material = Material.read(make_optimizers(tmp_path / "sweeps" / "mine", seeds=3))
    found = rivals(material)
    assert decision(material, found).endswith("is really better than sgd.")
    assert {rival.test for rival in found} == {BOTH}
    first, second = (material.predictions(row) for row in material.ranked[:2])
    right = {seed: (said.told.argmax(1) == said.targets).float() for seed, said in first.items()}
    gaps = [right[seed] - (other.told.argmax(1) == other.targets).float() for seed, other in second.items()]
    each = torch.stack(gaps).mean(1)
    wanted = float(torch.stack(gaps).mean(0).var() / 425 + each.var() / 3)
    interval = found[0].difference
    assert interval is not None
    assert interval.value == pytest.approx(float(each.mean()))
    # The half of it is at least the normal one and, of three seeds, at most Student's with two degrees of freedom.
    assert 1.9 * math.sqrt(wanted) < interval.high - interval.value < 4.4 * math.sqrt(wanted)


def test_where_nothing_is_different_little_is_called_so():
    """The rate of false alarms of the test with two seeds, over 60 pairs of trials that are equally good."""
    alarms = 0
    for at in range(60):
        generator = torch.Generator().manual_seed(at)
        pairs = []
        for seed in range(2):
            both = []
            for _ in range(2):
                made = said("classification", 200, 0.9, seed=int(torch.randint(10**6, (1,), generator=generator)))
                wrong = torch.rand(200, generator=generator) < 0.05
                both.append(type(made)(made.split, made.reading, made.names, made.index, made.targets,
                                       torch.where(wrong[:, None], made.logits.flip(1), made.logits)))  # fmt: skip
            pairs.append(tuple(both))
            assert seed < 2
        moved = _moved(pairs, "acc")
        observed = [
            float(metrics_of(one)["acc"](np.ones((200, 1)))[0] - metrics_of(two)["acc"](np.ones((200, 1)))[0])
            for one, two in pairs
        ]
        alarms += _by_variance(observed, over_images=float(moved.var()), num_images=200)[2] < 0.05
    assert alarms <= 6


def test_without_predictions_only_the_seeds_can_tell():
    interval, name, p = _by_variance([0.02, 0.03, 0.025], over_images=0.0, num_images=1)
    wanted = ttest_1samp([0.02, 0.03, 0.025], 0.0)
    assert name == SEEDS
    assert p == pytest.approx(wanted.pvalue)
    assert (interval.low, interval.high) == pytest.approx(tuple(wanted.confidence_interval()))


def test_lower_is_better_in_a_regression(tmp_path: Path):
    sweep = make_sweep(tmp_path / "sweeps" / "mine", task="regression", skill=lambda at, params: 5.0 + at, seeds=1)
    material = Material.read(sweep)
    assert [row["number"] for row in material.ranked] == [0, 1, 2, 3, 4, 5]
    found = rivals(material)
    assert found[-1].differs
    assert found[-1].difference is not None
    # How far the best one is ahead: above zero, though its error is the smaller one.
    assert 0 < found[-1].difference.low < found[-1].difference.value
    write_report(sweep)
    page = Page((sweep / PAGE).read_text())
    assert "val/mae, lower is better" in page.sections["leaderboard"]


def test_trials_that_were_not_scored_on_the_same_images_are_not_compared(tmp_path: Path):
    sweep = make_optimizers(tmp_path / "sweeps" / "mine")
    rows = json.loads((sweep / "trials.json").read_text())
    said("classification", 300, 0.9, seed=1).save(sweep / rows[2]["jobs"][0]["run"])  # nadam's
    found = {rival.row["params"]["optimizer"]: rival for rival in rivals(Material.read(sweep))}
    assert found["nadam"].difference is None
    assert "were not scored on the same images" in found["nadam"].why_not
    assert found["adam"].difference is not None


def test_intervals_are_over_seeds_where_there_are_several_and_else_over_images(tmp_path: Path):
    assert over_seeds([0.9, 0.92, 0.94], share=True).low == pytest.approx(
        0.92 - 4.302653 * 0.02 / math.sqrt(3), abs=1e-6
    )
    assert over_seeds([0.99, 0.97], share=True).high == 1.0
    assert over_seeds([0.99, 0.97], share=False).high > 1.0
    material = Material.read(make_optimizers(tmp_path / "sweeps" / "mine"))
    found = uncertainties(material)
    assert set(found) == {0, 1, 2, 3}
    for row in material.ranked:
        known = found[row["number"]]
        assert known.over == IMAGES
        error = math.sqrt(row["value"] * (1 - row["value"]) / 425)
        assert known.interval.high - known.interval.low == pytest.approx(2 * 1.96 * error, rel=0.15)


def test_values_of_rounded_features_are_told_from_those_of_whole_images(tmp_path: Path):
    sweep = make_optimizers(tmp_path / "sweeps" / "mine")
    material = Material.read(sweep)
    assert precision_note(material, uncertainties(material)) == ""
    rows = json.loads((sweep / "trials.json").read_text())
    rows[0]["value"] += 0.005
    (sweep / "trials.json").write_text(json.dumps(rows))
    material = Material.read(sweep)
    assert "The two differ by up to 0.50 points." in precision_note(material, uncertainties(material))


def test_what_was_saved_is_told_by_its_ways(tmp_path: Path):
    sweep = make_sweep(tmp_path / "sweeps" / "mine", states=("finished", "finished", "pruned"), seeds=1)
    rows = json.loads((sweep / "trials.json").read_text())
    rows[0]["jobs"][0] |= {"together": 2, "shared_seconds": 30.0}
    rows[1]["jobs"][0] |= {"together": 2, "shared_seconds": 30.0}
    rows.append({**rows[0], "number": 3})  # proposed once more: the same run
    (sweep / "trials.json").write_text(json.dumps(rows))
    found = {each.title: each for each in saved(Material.read(sweep))}
    assert found["sharing"].seconds == 60.0
    assert "2 runs" in found["sharing"].how
    # One of four epochs in 4 seconds: three more would have taken 12.
    assert found["pruning"].seconds == pytest.approx(3 * rows[2]["jobs"][0]["seconds"])
    assert "about 3 epochs" in found["pruning"].how
    assert found["skipping"].seconds == rows[0]["jobs"][0]["seconds"]


def screened_sweep(folder: Path) -> Path:
    """Ten trials that were screened in a second each; the first two were run as asked, and the second is better."""
    sweep = make_sweep(
        folder, params=lambda at: {"optimizer.lr": 10 ** (-1 - at / 3), "optimizer": OPTIMIZERS[at % 4]}, seeds=1,
        skill=lambda at, params: 0.9 + 0.02 * at, states=("finished",) * 2 + ("pruned",) * 8,
    )  # fmt: skip
    rows = json.loads((sweep / "trials.json").read_text())
    for row in rows:
        row["screened"] = 0.8 - 0.05 * row["number"]
        row["jobs"][0]["status"] = "finished"
        row["seconds"] = 1.0 + (row["jobs"][0]["seconds"] if row["number"] < 2 else 0.0)
    (sweep / "trials.json").write_text(json.dumps(rows))
    return sweep


def test_parameters_are_looked_at_in_all_trials_that_were_screened(tmp_path: Path):
    pytest.importorskip("optuna", reason="the extra sweep is not installed")
    sweep = screened_sweep(tmp_path / "sweeps" / "mine")
    material = Material.read(sweep)
    assert [row["number"] for row in material.ranked] == [1, 0]
    assert [row["number"] for row in material.searched] == list(range(10))
    assert next(iter(importances(material).shares)) == "optimizer.lr"
    (found,) = saved(material)
    whole = [material.rows[at]["jobs"][0]["seconds"] for at in range(2)]
    assert found.seconds == pytest.approx(8 * sum(whole) / 2 - 10)
    assert found.how == "8 of 10 trials were not run as asked"
    write_report(sweep)
    page = Page((sweep / PAGE).read_text())
    assert "val/acc when screened against each parameter" in page.sections["parameters"]
    with (sweep / "sweep.csv").open(newline="") as lines:
        assert [float(row["screened"]) for row in csv.DictReader(lines)] == [row["screened"] for row in material.rows]


def test_the_front_is_what_nothing_beats():
    points = [(1.0, 0.5), (2.0, 0.9), (3.0, 0.8), (2.0, 0.9), (0.5, 0.1)]
    assert front(points, ("min", "max")) == [0, 1, 3, 4]
    assert front(points, ("max", "min")) == [0, 2, 4]


def test_the_tables_have_a_row_a_trial(tmp_path: Path):
    sweep = make_sweep(tmp_path / "sweeps" / "mine")
    material = Material.read(sweep)
    assert "sweep.csv" in write_tables(material)
    with (sweep / "sweep.csv").open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    assert [row["state"] for row in rows] == ["finished"] * 6 + ["pruned", "failed"]
    assert rows[0]["optimizer"] == "adamw"
    assert float(rows[0]["optimizer.lr"]) == 0.01
    assert (rows[0]["optimizer.momentum"], rows[7]["value"], rows[7]["spread"]) == ("", "", "")
    values = [job["value"] for job in material.rows[0]["jobs"]]
    assert float(rows[0]["spread"]) == pytest.approx(abs(values[0] - values[1]) / math.sqrt(2))
    assert rows[0]["runs"].split() == [job["run"] for job in material.rows[0]["jobs"]]


def test_the_parquet_table_says_the_same(tmp_path: Path):
    parquet = pytest.importorskip("pyarrow.parquet", reason="the extra parquet is not installed")
    sweep = make_sweep(tmp_path / "sweeps" / "mine")
    write_tables(Material.read(sweep))
    table = parquet.read_table(sweep / "sweep.parquet").to_pydict()
    assert table["optimizer.lr"][0] == 0.01
    assert table["optimizer.momentum"][0] is None
    assert table["value"][7] is None


def test_the_parameter_that_decides_is_of_most_importance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("optuna", reason="the extra sweep is not installed")
    generator = random.Random(0)
    drawn = [{"optimizer.lr": 10 ** generator.uniform(-4, -1), "optimizer": generator.choice(OPTIMIZERS)}
             for _ in range(24)]  # fmt: skip
    sweep = make_sweep(tmp_path / "sweeps" / "mine", params=lambda at: drawn[at], states=("finished",) * 24, seeds=1,
                       skill=lambda at, params: 0.9 + 0.1 * math.log10(params["optimizer.lr"]) / 2)  # fmt: skip
    found = importances(Material.read(sweep))
    assert next(iter(found.shares)) == "optimizer.lr"
    assert found.shares["optimizer.lr"] > 0.8
    assert sum(found.shares.values()) == pytest.approx(1.0)
    monkeypatch.setattr("ft.sweeps.report.importances.find_spec", lambda name: None)
    assert "[sweep]" in importances(Material.read(sweep)).why_not
    few = make_sweep(tmp_path / "sweeps" / "few")
    assert importances(Material.read(few)).why_not == "Importances need 8 finished trials; there are 6."


def test_the_page_of_a_sweep_with_every_end(tmp_path: Path):
    sweep = make_sweep(tmp_path / "sweeps" / "mine", skill=lambda at, params: 0.95 - 0.03 * at)
    (sweep / "soup.json").write_text(
        json.dumps(
            {
                "members": ["runs/a", "runs/b", "runs/c"],
                "kept": ["runs/a", "runs/b"],
                "value": 0.971,
                "run": "runs/soup",
            }
        )
    )
    assert write_report(sweep) == sweep / "sweep.html"
    page = Page((sweep / PAGE).read_text())
    assert [address for address in page.addresses if not address.startswith(("#", "data:"))] == []
    assert "8 trials, 2 seeds each: 6 finished, 1 pruned, 1 failed." in page.sections[""]
    assert "Trial 0 (optimizer=adamw lr=0.01 drop_rate=0) is best" in page.sections["decision"]
    assert "experiment=best_of/mine" in page.sections["decision"]
    assert "over the seeds (Student's t)" in page.sections["leaderboard"]
    assert "97.10 %" in page.sections["leaderboard"]
    assert "mean of 2 of 3 runs" in page.sections["leaderboard"]
    assert "1 trial optimizer.lr must be above 0, got 1.58489e-05." in page.sections["failures"]
    assert "2 runs ended early" in page.sections["cost"]
    assert "tag(log, interval(1e-5, 1e-1))" in page.sections["asked"]
    assert {file.name for file in (sweep / "plots").iterdir()} >= {
        "curves_metric.png", "curves_loss.png", "parallel.png", "slice_0.png", "slice_3.png", "pareto_cost.png",
    }  # fmt: skip
    again = [path.name for path in sweep.iterdir() if path.name.startswith(".")]
    assert again == []


@pytest.mark.parametrize(
    ("states", "told"),
    [
        (("finished",), "is the only one that has finished."),
        (("failed",) * 3, "No trial has finished: there is nothing to choose from."),
        (("running",), "No trial has finished yet."),
        (("finished", "running", "interrupted"), "So far, trial 0"),
        (("pruned", "failed"), "No trial has finished"),
    ],
)
def test_a_sweep_that_has_not_come_far_has_a_page_too(tmp_path: Path, states: tuple[str, ...], told: str):
    sweep = make_sweep(tmp_path / "sweeps" / "mine", states=states, seeds=1)
    write_report(sweep)
    assert told in Page((sweep / PAGE).read_text()).sections["decision"]


def test_names_are_escaped_and_dollars_are_no_formula(tmp_path: Path):
    names = ["<script>alert(1)</script>", "$x_1$", "a" * 90]
    sweep = make_sweep(tmp_path / "sweeps" / "mine", states=("finished",) * 3, seeds=1,
                       params=lambda at: {"data.label": names[at], "data.other": f"${at}$"})  # fmt: skip
    write_report(sweep)
    text = (sweep / PAGE).read_text()
    assert "<script>alert" not in text
    assert "&lt;script&gt;alert(1)" in text
    Page(text)


def test_of_backbones_the_chosen_one_comes_first_and_closer_looks_before_the_others(tmp_path: Path):
    sweep = make_optimizers(tmp_path / "sweeps" / "mine", method="backbones")
    rows = json.loads((sweep / "trials.json").read_text())
    names = ("small", "tiny", "large", "odd")
    for row, name, stage in zip(rows, names, (2, 1, 2, 1), strict=True):
        row |= {"params": {"model": name}, "chosen": name == "small"}
        row["metrics"] |= {"stage": stage, "cv/se": 0.01}
    (sweep / "trials.json").write_text(json.dumps(rows))
    material = Material.read(sweep)
    assert [row["params"]["model"] for row in material.ranked] == ["small", "large", "tiny", "odd"]
    assert rivals(material) == []
    assert (
        decision(material, []) == "small is chosen: these images cannot tell it from large, the best, which costs more."
    )
    known = uncertainties(material)[0].interval
    assert known.high - known.low == pytest.approx(2 * 1.959964 * 0.01)


def test_the_verb_reports_a_sweep_by_its_name_or_its_folder(tmp_path: Path):
    sweep = make_sweep(tmp_path / "sweeps" / "mine", states=("finished",), seeds=1)
    (tmp_path / "sweeps" / "last").symlink_to("mine")
    # Of the last one there is a config too, for ft.train.
    (tmp_path / "sweeps" / "tune").symlink_to("mine")
    for word in ("sweep=mine", "sweep=last", f"run='{sweep}'", f"sweep='{sweep}'", "sweep=tune"):
        (sweep / PAGE).unlink(missing_ok=True)
        with composed(f"runs_dir='{tmp_path}'", word, config="report") as config:
            assert Path(report(config)) == sweep.resolve() / PAGE
        assert (sweep / PAGE).is_file()
    assert sweep_asked_for(run=None, sweep=None, runs_dir=str(tmp_path)) is None
    assert sweep_asked_for(run=str(RunFolder(tmp_path).path), sweep=None, runs_dir=str(tmp_path)) is None


def test_mistakes_are_told(tmp_path: Path):
    sweep = make_sweep(tmp_path / "sweeps" / "mine", states=("finished",), seeds=1)
    with pytest.raises(UserError, match=r"sweep=mien is not a sweep: it has no sweep.yaml. Did you mean mine"):
        sweep_asked_for(run=None, sweep="mien", runs_dir=str(tmp_path))
    with pytest.raises(UserError, match="one thing at a time: run=a or sweep=b"):
        sweep_asked_for(run="a", sweep="b", runs_dir=str(tmp_path))
    (sweep / "trials.json").write_text("[{")
    with pytest.raises(UserError, match="has a damaged file"):
        write_report(sweep)
    (sweep / "trials.json").unlink()
    with pytest.raises(UserError, match=r"has no trials\.json: there is nothing to report"):
        write_report(sweep)


@pytest.mark.full
def test_two_hundred_trials_take_seconds_and_little_room(tmp_path: Path):
    generator = random.Random(0)

    def params(at: int) -> dict[str, Any]:
        smooth, recipe = generator.uniform(0, 0.2), generator.choice(["auto", "full"])
        return {**eight_trials(at % 8), "optimizer.lr": 10 ** generator.uniform(-5, -1), "task.label_smoothing": smooth,
                "recipe": recipe}  # fmt: skip

    states = tuple(generator.choices(["finished", "pruned", "failed"], [8, 3, 1], k=200))
    sweep = make_sweep(tmp_path / "sweeps" / "mine", params=params, states=states, epochs=30,
                       skill=lambda at, params: 0.95 - 0.02 * abs(math.log10(params["optimizer.lr"]) + 3))  # fmt: skip
    started = time.process_time()
    write_report(sweep)
    assert time.process_time() - started < 10
    assert (sweep / PAGE).stat().st_size < 3e6
    Page((sweep / PAGE).read_text())


@pytest.mark.full
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_in_a_browser_the_page_is_silent_as_wide_as_its_window_and_sortable(tmp_path: Path, scheme: str, width: int):
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("there is no chromium on this machine")
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    page_file = write_report(make_sweep(tmp_path / "sweeps" / "mine")).resolve()
    with sync_api.sync_playwright() as playwright:
        # Root, as in a container, has no sandbox.
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme).new_page()
        said, asked = [], []
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(page_file.as_uri())
        assert said == []
        assert [url for url in asked if not url.startswith("data:")] == [page_file.as_uri()]
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        for selector in ("main p", "td", ".soft", "svg.plot text"):
            assert page.evaluate(CONTRAST, selector) >= 4.5, selector
        page.locator("#leaderboard thead th").nth(5).locator("button").click()  # lr
        read = "rows => rows.map(row => row.cells[5].textContent.trim())"
        rates = [float(text) for text in page.locator("#leaderboard tbody tr").evaluate_all(read)]
        assert rates == sorted(rates)
        browser.close()
