"""Which backbone: what is looked at, when again, and what is decided."""

import csv
import functools
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hydra.errors import MissingConfigException

from ft.errors import UserError
from ft.job_folder import FAILED, FINISHED, JobFolder, Result
from ft.sweeps.backbones.candidates import Candidate, find_candidates
from ft.sweeps.backbones.looks import FIRST, HELD_OUT, SECOND, Look, Seen, difference_error, row
from ft.sweeps.backbones.sweep import Choice, asked_candidates, decide, rank_backbones
from tests.sweeps.backbone_driver import HereDriver


@pytest.fixture
def seen(tmp_path):
    """Makes a candidate that was looked at once, with bootstraps around its value."""

    def make(name: str, value: float, cost: float, *, stage: int = FIRST, shift=0.0, noise: float = 0.01) -> Seen:
        folder = JobFolder(tmp_path / f"{name}-{stage}")
        folder.path.mkdir()
        shared = np.random.default_rng(0).normal(size=200)
        bootstraps = value + noise * shared + np.asarray(shift)
        np.savez(folder.path / HELD_OUT, rows=np.arange(10), bootstraps=bootstraps)
        metrics = {"cv/acc": value, "cv/se": noise, "logme": 0.1, "parameters": 1e6 * cost, "gmacs": 0.1}
        result = Result(FINISHED, value=value, metrics={**metrics, "images": 10, "side": 64}, seconds=1.0)
        candidate = Candidate(name, "model", {"name": name}, "file")
        return Seen(int(cost), candidate, (Look(stage, folder, result),), cost)

    return make


def spread(width: float) -> np.ndarray:
    """``(200,)`` differences with this standard error, draw by draw."""
    values = np.random.default_rng(1).normal(size=200)
    return width * (values - values.mean()) / values.std(ddof=1)


def test_a_difference_is_judged_draw_by_draw(seen):
    # Each alone is uncertain by 0.01; together they move.
    one, other = seen("a", 0.9, 1), seen("b", 0.905, 2, shift=spread(0.001))
    assert difference_error(one.last.folder, other.last.folder) == pytest.approx(0.001)
    np.savez(one.last.folder.path / HELD_OUT, rows=np.arange(9), bootstraps=0.9 + spread(0.003))
    np.savez(other.last.folder.path / HELD_OUT, rows=np.arange(10), bootstraps=0.9 + spread(0.004))
    assert difference_error(one.last.folder, other.last.folder) == pytest.approx(0.005)


@pytest.mark.parametrize(
    ("width", "alike", "chosen"), [(0.004, 1, "dear"), (0.006, 1, "cheap"), (0.006, 0, "dear"), (0.004, 2, "cheap")]
)
def test_the_cheaper_one_is_chosen_only_if_chance_may_have_made_the_difference(seen, width, alike, chosen):
    cheap, dear = seen("cheap", 0.900, 1, shift=spread(width)), seen("dear", 0.905, 2)
    choice = decide([cheap, dear], mode="max", metric="val/acc", alike=alike)
    assert choice.chosen.candidate.name == chosen
    assert choice.best.candidate.name == "dear"
    assert choice.rivals == (("cheap",) if chosen == "cheap" else ())


def test_the_smaller_value_is_better_where_the_task_says_so(seen):
    choice = decide([seen("a", 3.0, 1), seen("b", 2.0, 2)], mode="min", metric="val/mae", alike=1)
    assert (choice.chosen.candidate.name, choice.metric) == ("b", "mae")


def test_only_looks_of_one_kind_are_compared(seen):
    small, whole = seen("small", 0.99, 1), seen("whole", 0.9, 2, stage=SECOND)
    assert decide([small, whole], mode="max", metric="val/acc", alike=1).chosen is whole


def test_a_row_tells_the_last_look_and_the_time_of_both(seen):
    one = seen("a", 0.9, 3)
    again = seen("a", 0.95, 3, stage=SECOND)
    both = row(replace(one, looks=(*one.looks, *again.looks)))
    assert (both["value"], both["metrics"]["stage"], both["metrics"]["ms_per_image"]) == (0.95, SECOND, 3)
    assert [job["value"] for job in both["jobs"]] == [0.95]
    assert both["seconds"] == 2.0
    assert row(replace(one, looks=()))["state"] == "running"
    failed = Look(FIRST, one.last.folder, Result(FAILED, why="mistake", message="no"))
    assert (row(replace(one, looks=(failed,)))["state"], row(replace(one, looks=(failed,)))["value"]) == (FAILED, None)


@functools.cache
def whole_config() -> dict[str, Any]:
    """The config of a sweep of backbones."""
    return HereDriver(Path()).compose([])


class Answers(HereDriver):
    """Answers jobs at once: ``values`` by override and stage; a value of ``None`` is a failure.

    Every candidate is uncertain by 0.01, a difference by 0.014.
    """

    def __init__(self, path, values: dict[tuple[str, int], float | None], **settings: object) -> None:
        self.values = values
        self.path, self.fixed, self.done, self.told = path, (), [], []
        self.config = whole_config()
        self.settings = {**self.config["sweep"], "candidates": ["test_resnet", "test_byobnet", "test_vit"], **settings}

    def compose(self, overrides):
        """Without Hydra, which would take as long as all the rest."""
        model = dict(self.config["model"])
        for key, value in (word.split("=") for word in overrides):
            if key == "model":
                raise MissingConfigException("no such choice")
            model["name"] = value
        return {**self.config, "model": model}

    def _do(self, folder: JobFolder) -> None:
        job = folder.job()
        self.done.append((job.overrides, dict(job.settings)))
        if "models" in job.settings:
            metrics = {f"ms_per_image/{name}": 1.0 + at for at, name in enumerate(job.settings["models"])}
            folder.answer(Result(FINISHED, metrics=metrics))
            return
        value = self.values[job.overrides[0], FIRST if job.settings["resolution"] else SECOND]
        if value is None:
            folder.answer(Result(FAILED, why="raised", message="it broke"))
            return
        noise = np.random.default_rng(sum(map(ord, job.overrides[0]))).normal(scale=0.01, size=200)
        np.savez(folder.path / HELD_OUT, rows=np.arange(10), bootstraps=value + noise)
        metrics = {"cv/acc": value, "cv/se": 0.01, "logme": 0.0, "parameters": 1e6, "gmacs": 0.1, "images": 10}
        folder.answer(Result(FINISHED, value=value, metrics={**metrics, "side": 64}, seconds=1.0))


def rank(driver: HereDriver) -> Choice | None:
    return rank_backbones(driver, *asked_candidates(driver.settings, driver.compose))


def chosen_by(driver: HereDriver) -> str:
    choice = rank(driver)
    assert choice is not None
    return choice.chosen.candidate.override


A, B, C = "model.name=test_resnet", "model.name=test_byobnet", "model.name=test_vit"


@pytest.fixture
def in_reach(monkeypatch):
    """All weights are there, as far as anybody asks."""
    monkeypatch.setattr("ft.sweeps.backbones.candidates._weights", lambda found: dict.fromkeys(found, "folder: here"))


def test_the_best_are_looked_at_again_and_nobody_else(in_reach, tmp_path, capsys):
    values = {(A, FIRST): 0.90, (B, FIRST): 0.9001, (C, FIRST): 0.5, (A, SECOND): 0.95, (B, SECOND): 0.9}
    driver = Answers(tmp_path, values)
    choice = rank(driver)
    assert choice is not None
    assert choice.chosen.candidate.override == A
    assert [words for words, asked in driver.done if asked.get("resolution")] == [(A,), (B,), (C,)]
    assert [words for words, asked in driver.done if "folds" in asked and not asked["resolution"]] == [(B,), (A,)]
    last = driver.told[-1]
    assert [each["value"] for each in last] == [0.95, 0.9, 0.5]
    assert [each["chosen"] for each in last] == [True, False, False]
    assert last[0]["params"] == {"model.name": "test_resnet"}
    assert [each["state"] for each in driver.told[0]] == ["finished", "running", "running"]
    with (tmp_path / "backbones.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(each["candidate"], each["stage"], each["chosen"]) for each in rows] == [
        ("test_resnet", "2", "True"), ("test_byobnet", "2", "False"), ("test_vit", "1", "False")]  # fmt: skip
    assert (tmp_path / "backbones.png").read_bytes().startswith(b"\x89PNG")
    said = capsys.readouterr().out
    assert "model.name=test_resnet: acc 0.9500" in said
    # The same question again: everything is answered.
    again = Answers(tmp_path, {})
    assert chosen_by(again) == A
    assert again.done == []


def test_one_that_is_far_ahead_needs_no_second_look(in_reach, tmp_path):
    driver = Answers(tmp_path, {(A, FIRST): 0.9, (B, FIRST): 0.6, (C, FIRST): 0.5})
    assert chosen_by(driver) == A
    assert all(asked.get("resolution") or "models" in asked for _, asked in driver.done)


def test_a_candidate_that_fails_is_told_and_the_rest_decide(in_reach, tmp_path, capsys):
    driver = Answers(tmp_path, {(A, FIRST): None, (B, FIRST): 0.9, (C, FIRST): 0.5})
    assert chosen_by(driver) == B
    assert driver.told[-1][0]["state"] == FAILED
    assert "failed: it broke" in capsys.readouterr().out


def test_where_all_fail_nothing_is_chosen_and_the_rows_say_why(in_reach, tmp_path):
    driver = Answers(tmp_path, {(A, FIRST): None, (B, FIRST): None, (C, FIRST): None})
    assert rank(driver) is None
    assert [each["state"] for each in driver.told[-1]] == [FAILED] * 3
    assert driver.told[-1][0]["jobs"][0]["message"] == "it broke"
    assert len(driver.done) == 3


def test_a_resolution_in_pixels_is_refused_before_any_job(in_reach, tmp_path):
    driver = Answers(tmp_path, {}, resolution=128)
    with pytest.raises(UserError, match=r"sweep.resolution must be in \(0, 1\], got 128"):
        rank(driver)
    assert driver.done == []


@pytest.mark.parametrize(("key", "value"), [("refine", -1), ("alike", -1), ("folds", 1), ("images", 1)])
def test_settings_out_of_range_are_refused_before_any_job(in_reach, tmp_path, key, value):
    driver = Answers(tmp_path, {}, **{key: value})
    with pytest.raises(UserError, match=f"sweep.{key} must be at least .*, got {value}"):
        rank(driver)
    assert driver.done == []


def test_candidates_without_weights_are_left_out_and_named(tmp_path, weights_here):
    driver = HereDriver(tmp_path, f"model.weights_dir='{weights_here}'")
    found, without = find_candidates(["test_byobnet", "test_resnet", "test_vit", "test_resnet"], driver.compose)
    assert [each.override for each in found] == ["model.name=test_byobnet", "model.name=test_resnet"]
    assert found[0].weights.startswith("folder: ")
    assert without == ["test_vit"]
    with pytest.raises(UserError, match=r"none of sweep.candidates has pretrained weights in reach: test_vit\.\n"):
        find_candidates(["test_vit"], driver.compose)


def test_a_choice_of_conf_and_the_timm_name_behind_it_count_once(in_reach, tmp_path):
    driver = HereDriver(tmp_path)
    found, _ = find_candidates(["resnet", "resnet18", "tf_efficientnet_lite1"], driver.compose)
    assert [each.override for each in found] == ["model=resnet", "model.name=tf_efficientnet_lite1"]


@pytest.mark.parametrize(
    ("candidates", "fixed", "told"),
    [
        ([], (), "sweep.candidates is empty"),
        (["resnt18"], (), "sweep.candidates: model.name=resnt18 is not a timm model. Did you mean resnet18"),
        (["resnet18"], ("model.weights=none",), "model.weights=none is not for all of them"),
    ],
)
def test_candidates_that_are_none(tmp_path, candidates, fixed, told):
    with pytest.raises(UserError) as caught:
        find_candidates(candidates, HereDriver(tmp_path, *fixed).compose)
    assert told in str(caught.value)
    assert len(str(caught.value).splitlines()) <= 3


def test_every_choice_of_model_is_a_candidate(tmp_path):
    from ft.command.verb import CONF

    choices = {file.stem for file in (CONF / "model").glob("*.yaml")}
    assert choices <= set(HereDriver(tmp_path).settings["candidates"])


def test_a_hub_that_does_not_answer_is_waited_for_once(monkeypatch):
    from ft.model.candidates import weights_of

    def slow(hub_id: str) -> None:
        time.sleep(0.3)

    monkeypatch.setattr("ft.model.weights._from_cache", lambda hub_id: None)
    monkeypatch.setattr("ft.model.weights._from_hub", slow)
    monkeypatch.delenv("FT_WEIGHTS_DIR", raising=False)
    names = ["resnet18", "resnet34", "resnet50", "vit_tiny_patch16_224"]
    start = time.monotonic()
    found = weights_of({name: {"name": name, "weights": "auto", "weights_dir": None} for name in names})
    assert time.monotonic() - start < 0.9
    assert [each.kind for each in found.values()] == ["random"] * 4


@pytest.fixture
def weights_here(tmp_path, monkeypatch):
    """A folder with weights of two tiny models; the hub is out of reach."""
    import timm
    import torch
    from safetensors.torch import save_file

    monkeypatch.setattr("ft.model.weights._from_hub", lambda hub_id: None)
    folder = tmp_path / "weights"
    folder.mkdir()
    torch.manual_seed(0)
    for name in ("test_resnet", "test_byobnet"):
        state = {key: value.contiguous() for key, value in timm.create_model(name).state_dict().items()}
        save_file(state, folder / f"{name}.safetensors")
    return folder


SMALL = ("data=synthetic", "data.num_images=80", "data.size=32", "data.suggested.img_size=32", "data.num_workers=0",
         "trainer.accelerator=cpu", "sweep.images=40", "sweep.folds=3",
         "sweep.candidates=[test_resnet,test_byobnet,test_vit]", "sweep.timed_rounds=1")  # fmt: skip


def test_the_whole_way_from_images_to_a_choice(tmp_path, weights_here):
    driver = HereDriver(tmp_path / "sweep", f"model.weights_dir='{weights_here}'", *SMALL)
    choice = rank(driver)
    assert choice is not None
    assert choice.without == ("test_vit",)
    assert {each.candidate.name for each in choice.seen} == {"test_resnet", "test_byobnet"}
    for each in choice.seen:
        told = each.looks[0].result.metrics
        assert told["images"] == 40
        assert 0 <= told["cv/acc"] <= 1
        assert each.milliseconds is not None
        assert each.milliseconds > 0
