"""Many heads in one go leave what each run of its own would have left."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml
from omegaconf import OmegaConf

from ft.build.evaluation import build_evaluation
from ft.build.trained import load_predictor
from ft.checkpoint.load import load
from ft.inference.predictions import Predictions
from ft.job_folder import FAILED, FINISHED, Job, JobFolder, Result
from ft.jobs.dispatch import run_job
from ft.jobs.heads import run_heads
from ft.phases import frozen_pass
from ft.run_folder import RunFolder
from tests.conftest import TINY, composed

HEAD = (
    "recipe=head",
    "trainer.max_epochs=null",
    "recipe.head_training.steps=20",
    "recipe.head_training.batch_size=16",
    "data.num_images=60",
)
MEMBERS = {
    "plain": (),
    "random": ("model.head_init=random", "recipe.head_training.lr=0.01", "seed=3"),
    "dropout": ("model.head.drop_rate=0.3", "recipe.head_training.weight_decay=0"),
    "smoothed": ("task.label_smoothing=0.2", "recipe.mixup=0.3"),
    "hidden": ("model.head.hidden=[8]", "model.head.drop_rate=0.2", "model.head.activation=gelu"),
    "norm": ("model.head.norm=layer", "recipe.head_training.steps=12"),
    "batch norm": ("model.head.norm=batch", "model.head.hidden=[6]"),
}
QUICK = ["random", "smoothed", "hidden"]


class Heads:
    """Jobs in a folder of a sweep."""

    def __init__(self, folder: Path, *words: str) -> None:
        self.folder = folder
        self.words = (*TINY, *HEAD, f"runs_dir={folder}", *words)

    def member(self, name: str, *overrides: str) -> JobFolder:
        folder = JobFolder(self.folder / "jobs" / name.replace(" ", "_"))
        with composed(*self.words, *overrides) as config:
            content = OmegaConf.to_container(config, resolve=True)
        run = self.folder / "runs" / name.replace(" ", "_")
        folder.ask(Job("run", name, run=str(run)), yaml.safe_dump(content))
        return folder

    def __call__(self, members: dict[str, tuple[str, ...]]) -> dict[str, JobFolder]:
        folders = {name: self.member(name, *overrides) for name, overrides in members.items()}
        job = JobFolder(self.folder / "jobs" / "together")
        job.ask(Job("heads", "together", settings={"members": [str(each.path) for each in folders.values()]}), "{}")
        with composed(*self.words, f"sweep.job='{job.path}'") as config:
            run_job(config, started=0.0)
        return folders


def run_of(member: JobFolder) -> RunFolder:
    return RunFolder(Path(member.job().run))


@pytest.fixture
def heads(tmp_path: Path, pretrained: str) -> Heads:
    return Heads(tmp_path / "sweep", pretrained)


def summary_of(folder: RunFolder) -> dict:
    content = json.loads(folder.summary.read_text())
    # Of the clock, and of nothing else.
    return {key: value for key, value in content.items() if key not in ("seconds", "images_per_second")}


@pytest.mark.parametrize("names", [QUICK, pytest.param([*MEMBERS], marks=pytest.mark.full)], ids=["some", "all"])
def test_a_member_leaves_what_a_run_of_its_own_leaves(
    heads: Heads, train_run: Callable, pretrained: str, names: list[str]
):
    for name, member in heads({name: MEMBERS[name] for name in names}).items():
        alone = train_run(*HEAD, pretrained, *MEMBERS[name]).folder
        place = run_of(member)
        for which in ("best", "last"):
            one, other = load(place.checkpoint(which)), load(alone.checkpoint(which))
            assert one["state_dict"].keys() == other["state_dict"].keys()
            for tensor in one["state_dict"]:
                assert torch.allclose(one["state_dict"][tensor], other["state_dict"][tensor], atol=1e-5), (name, tensor)
            assert one.keys() == other.keys()
        found, wanted = summary_of(place), summary_of(alone)
        assert found.keys() == wanted.keys()
        assert found == {key: pytest.approx(value, abs=1e-5) for key, value in wanted.items()}, name
        for split in ("val", "test"):
            one, other = Predictions.load(place.path, split), Predictions.load(alone.path, split)
            assert one.names == other.names
            assert torch.equal(one.index, other.index)
            assert torch.equal(one.targets, other.targets)
            assert torch.allclose(one.logits, other.logits, atol=1e-4)
            assert one.reading.temperature == pytest.approx(other.reading.temperature, abs=1e-3)
        ours, theirs = OmegaConf.load(place.config), OmegaConf.load(alone.config)
        del ours.runs_dir, theirs.runs_dir
        assert ours == theirs
        assert sorted(path.name for path in place.path.iterdir()) == sorted(path.name for path in alone.path.iterdir())


def test_the_images_go_through_the_backbone_once(heads: Heads, monkeypatch: pytest.MonkeyPatch):
    passes: list[str] = []
    genuine = frozen_pass.from_images

    def counted(module, data, split, *args):
        passes.append(split)
        return genuine(module, data, split, *args)

    monkeypatch.setattr("ft.phases.activation_store.from_images", counted)
    # Images that no earlier test has left the features of.
    for member in heads(
        {name: ("data.num_images=56", *MEMBERS[name]) for name in ("plain", "hidden", "dropout")}
    ).values():
        assert member.result().status == FINISHED
    assert sorted(passes) == ["train", "val"]


def test_results_say_what_was_shared(heads: Heads):
    members = heads({name: MEMBERS[name] for name in ("plain", "dropout", "hidden")})
    for member in members.values():
        result = member.result()
        assert (result.status, result.together, result.attempts) == (FINISHED, 3, 1)
        summary = summary_of(run_of(member))
        assert result.value == summary["val/acc"]
        assert result.metrics["test/acc"] == summary["test/acc"]
        assert result.shared_seconds > 0
        assert "finished" in member.output.read_text()
    together = JobFolder(heads.folder / "jobs" / "together").result()
    assert (together.status, together.together) == (FINISHED, 3)


def test_a_head_that_cannot_be_fails_alone(heads: Heads):
    members = heads(
        {
            "wide": ("model.head.hidden=[0]",),
            "smooth": ("task.label_smoothing=1.5",),
            "still": ("recipe.head_training.lr=0",),
            "endless": ("recipe.head_training.steps=0",),
            "odd": ("model.head_init=ridge",),
            "good": (),
        }
    )
    told = {
        "wide": "model.head.hidden must list widths of at least 1, got [0]",
        "smooth": "task.label_smoothing must be in [0, 1), got 1.5",
        "still": "recipe.head_training.lr must be above 0, got 0",
        "endless": "recipe.head_training.steps must be at least 1, got 0",
        "odd": "model.head_init=ridge is not a choice",
    }
    for name, message in told.items():
        result = members[name].result()
        assert (result.status, result.why) == (FAILED, "mistake")
        assert message in result.message
        assert message in members[name].traceback.read_text()
        assert not run_of(members[name]).path.exists()
    assert members["good"].result().status == FINISHED


def test_a_metric_that_is_no_number_fails_alone(heads: Heads):
    members = heads({"wild": ("recipe.head_training.lr=1e30", "model.head.hidden=[4]"), "good": ("seed=2",)})
    assert members["wild"].result().status == FAILED
    assert members["good"].result().status == FINISHED


def test_what_ends_all_is_told_for_all(heads: Heads):
    wrong = ("data.class_weights=[1,2]",)
    members = heads({"one": wrong, "two": (*wrong, "model.head.drop_rate=0.1")})
    for member in members.values():
        result = member.result()
        assert (result.status, result.why) == (FAILED, "mistake")
        assert "data.class_weights must be null" in result.message
        assert not run_of(member).path.exists()


def test_runs_that_are_not_their_heads_alone_are_left_to_themselves(heads: Heads):
    # Without weights every stage is open.
    members = heads({"one": ("model.weights=none",), "two": ("model.weights=none", "model.head.drop_rate=0.1")})
    for member in members.values():
        assert member.result() is None
        assert not run_of(member).path.exists()


def test_a_second_go_computes_only_what_has_no_result(heads: Heads):
    names = {name: MEMBERS[name] for name in ("plain", "dropout")}
    first = heads(names)
    kept = run_of(first["plain"]).summary.stat().st_mtime_ns
    # Killed after the folder of the second was begun.
    (first["dropout"].path / "result.json").unlink()
    for name in ("summary.json", "reading.json"):
        (run_of(first["dropout"]).path / name).unlink()
    again = heads(names)
    assert run_of(again["plain"]).summary.stat().st_mtime_ns == kept
    assert again["dropout"].result().status == FINISHED
    assert run_of(again["dropout"]).summary.is_file()


def test_ctrl_c_keeps_what_is_finished(heads: Heads, monkeypatch: pytest.MonkeyPatch):
    from ft.jobs import heads as module

    genuine, done = module.fit, []

    def interrupted(run, *, started):
        if done:
            raise KeyboardInterrupt
        done.append(run)
        return genuine(run, started=started)

    monkeypatch.setattr(module, "fit", interrupted)
    with pytest.raises(KeyboardInterrupt):
        heads({name: MEMBERS[name] for name in ("plain", "dropout")})
    results = [JobFolder(heads.folder / "jobs" / name).result() for name in ("plain", "dropout")]
    assert [each.status if each else None for each in results] == [FINISHED, None]


def test_a_member_is_evaluated_and_predicts_like_any_run(heads: Heads):
    (member,) = heads({"hidden": MEMBERS["hidden"]}).values()
    place = run_of(member)
    with composed(f"run='{place.path}'", "split=test", "accelerator=cpu", config="evaluate") as config:
        evaluation = build_evaluation(config)
    found = evaluation.trainer.test(evaluation.module, evaluation.loader, verbose=False)[0]
    assert found["test/acc"] == pytest.approx(summary_of(place)["test/acc"], abs=1e-6)
    assert found["test/loss"] == pytest.approx(summary_of(place)["test/loss"], abs=1e-5)
    assert load_predictor(place, device="cpu").reading.classes == tuple(
        json.loads((place.path / "classes.json").read_text())["classes"]
    )


@pytest.mark.full
@pytest.mark.parametrize(("task", "kind"), [("multilabel", "labels"), ("regression", "values")])
def test_other_tasks_have_heads_too(heads: Heads, task: str, kind: str):
    words = (f"task={task}", f"data.kind={kind}", "recipe.mixup=0.2")
    for member in heads({"one": words, "two": (*words, "model.head.drop_rate=0.2")}).values():
        result = member.result()
        assert result.status == FINISHED, result.message
        assert result.value is not None


def test_nothing_is_left_to_do_where_all_have_ended(heads: Heads):
    member = heads.member("done")
    member.answer(Result(FINISHED, value=0.5))
    job = JobFolder(heads.folder / "jobs" / "together")
    job.ask(Job("heads", "together", settings={"members": [str(member.path)]}), "{}")
    with composed(*heads.words) as config:
        run_heads(job, config, started=0.0)
    assert job.result().status == FINISHED
    assert not run_of(member).path.exists()
