"""Config mistakes: the nearest right name first, at once, before torch is imported or any data is touched."""

import io
import re
import subprocess
import sys
import time
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import NamedTuple

import pytest

from ft.command.verb import run_verb
from ft.errors import UserError, nearest
from ft.new import new
from tests.typos import FUNCTIONS, Generator, Typo, first_named, slip

ROOT = Path(__file__).parent.parent
SECONDS = 3  # of the processor; judged by hand only (pytest -m soak), since machines differ


class Answer(NamedTuple):
    code: object
    said: str
    seconds: float


class Reached(Exception):
    """The verb was called: what it imports and reads comes after this."""


def ask(verb: str, *words: str) -> Answer:
    """What the command line says, with a verb that cannot be reached unnoticed."""

    def reached(config):
        raise Reached(verb)

    with pytest.MonkeyPatch.context() as patch, redirect_stderr(io.StringIO()) as err, redirect_stdout(io.StringIO()):
        patch.setattr(sys, "argv", ["ft", *words])
        started = time.process_time()
        try:
            run_verb(reached, verb, lists=["format"] if verb == "export" else ())
        except SystemExit as end:
            return Answer(end.code, err.getvalue(), time.process_time() - started)
    return Answer(0, err.getvalue(), time.process_time() - started)


def check_answer(typo: Typo, answer: Answer, folder: Path) -> None:
    """What every answer has to be, whatever it names."""
    assert answer.code == 2, typo
    assert 1 <= len(answer.said.strip().splitlines()) <= 3, answer.said
    assert "Traceback" not in answer.said
    assert not list(folder.iterdir()), typo


@pytest.fixture
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to be in, which has to stay empty."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.full
def test_of_100_typos_the_nearest_right_name_is_first_in_95(nowhere: Path):
    missed = []
    for typo in Generator(seed=7).typos(100):
        answer = ask(typo.verb, *typo.words)
        check_answer(typo, answer, nowhere)
        if first_named(answer.said) != typo.right:
            missed.append(f"{' '.join(typo.words)}: {typo.right} was meant, {first_named(answer.said)} is offered")
    assert len(missed) <= 5, "\n".join(missed)


@pytest.mark.soak
def test_of_2000_typos_the_nearest_right_name_is_first_in_95_of_100(nowhere: Path):
    missed = []
    slowest = 0.0
    for typo in Generator(seed=11).typos(2000):
        answer = ask(typo.verb, *typo.words)
        check_answer(typo, answer, nowhere)
        slowest = max(slowest, answer.seconds)
        if first_named(answer.said) != typo.right:
            missed.append(f"{' '.join(typo.words)}: {typo.right} was meant, {first_named(answer.said)} is offered")
    print(len(missed), f"of 2000; the slowest answer took {slowest:.2f} s", *missed, sep="\n")
    assert len(missed) <= 100
    assert slowest < SECONDS


# One of each kind; the first line says all that matters.
TOLD = {
    ("train", "--lr", "0.1"): "--lr 0.1 is written without dashes: optimizer.lr=0.1",
    ("predict", "tta=flp"): "tta=flp is not a choice: it must be one of none, flip, ten_crop. Did you mean flip?",
    ("train", "seed=0", "-m", "optimizer.lr=intervall(1,2)"): "Did you mean interval?",
    ("evaluate", "run=nothing"): "run=nothing is not a run folder",
    ("evaluate", "split=test"): "ft.evaluate needs run=RUN_FOLDER, or run=last.",
}
TOLD_LATER = {
    ("train", "modle.head.drop_rate=0.1"): "no config key modle.head.drop_rate. Did you mean model.head.drop_rate?",
    ("train", "model", "=", "resnet"): "model = resnet is written without spaces: model=resnet",
    ("train", "~optimizer.lrr"): "~optimizer.lrr: there is no such key. Did you mean optimizer.lr",
    ("train", "trainer.precision=bf61-mixed"): "Did you mean bf16-mixed",
    ("train", "model.head=3"): "model.head must be a group of keys and values, got 3",
    ("train", "plugins=[clip]", "plugins.clip.mode=nrom"): "Did you mean norm",
    ("train", "plugins=[clip]", "plugins.clip.mod=norm"): "Did you mean plugins.clip.mode",
    ("train", "plugins.mixup.alpha=0.3"): "the plugin mixup is not on. Switch it on with plugins=[mixup]",
    ("train", "optimizer.momentum=0.9"): "the present optimizer has no momentum; optimizer=gd and sgd have it",
    ("train", "-m", "trainer.precision=bf61-mixed,32-true"): "trainer.precision=bf61-mixed is not a choice",
    ("train", "model.name=resnet18.a9_in1k"): "timm has no such weights. Did you mean resnet18.a1_in1k",
}


@pytest.mark.parametrize(
    ("words", "told"),
    [
        *(pytest.param(*each, id=" ".join(each[0])) for each in TOLD.items()),
        *(pytest.param(*each, id=" ".join(each[0]), marks=pytest.mark.full) for each in TOLD_LATER.items()),
    ],
)
def test_a_mistake_of_each_kind_is_told(nowhere: Path, words: tuple[str, ...], told: str):
    answer = ask(*words)
    check_answer(Typo(words[0], words[1:], told), answer, nowhere)
    assert told in answer.said


@pytest.mark.full
def test_what_is_right_reaches_the_verb(nowhere: Path):
    for words in (
        ("train", "data.num_workers=0", "plugins=[mixup,clip]", "plugins.clip.mode=value", "trainer.precision=32"),
        ("train", "resume=null", "experiment=digits", "model.name=vit_tiny_patch16_224.augreg_in21k", "data.limit=10"),
        ("export", "format=timm,pt2", f"run={nowhere}"),
    ):
        with pytest.raises(Reached):
            ask(*words)


@pytest.mark.parametrize(
    "seconds",
    [pytest.param(None, marks=pytest.mark.full), pytest.param(SECONDS, marks=pytest.mark.soak)],
    ids=["any time", "3 s"],
)
@pytest.mark.parametrize(
    "words",
    [
        ("train", "modle.head.drop_rate=0.1"), ("train", "trainer.max_epochs=ten"), ("train", "model.name=resnt18"),
        ("train", "plugins=[mixup]", "plugins.mixup.alpha=big"), ("train", "-m", "sweep=tune", "sweep.sampler=tep"),
        ("doctor", "limits.folds=1"), ("evaluate", "split=tset"), ("serve", "precision=fp61"),
    ],
    ids=" ".join,
)  # fmt: skip
def test_a_process_answers_at_once_and_without_torch(tmp_path: Path, words: tuple[str, ...], seconds: float | None):
    verb, *rest = words
    traced = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", CHILD, f"ft.{verb}", *rest],
        capture_output=True, text=True, cwd=tmp_path, timeout=200,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
    )  # fmt: skip
    assert traced.returncode == 2
    lines = traced.stderr.splitlines()
    imported = {line.split("|")[-1].strip() for line in lines if line.startswith("import time:")}
    assert not imported & {"torch", "timm", "lightning", "torchvision", "optuna"}
    said = [line for line in lines if not line.startswith("import time:")]
    assert 1 <= len(said) <= 3
    assert seconds is None or float(traced.stdout.split()[-1]) < seconds
    assert not list(tmp_path.iterdir())


# Runs a verb as ``python -m`` does, and tells the processor time of the whole process.
CHILD = """
import atexit, runpy, sys, time
atexit.register(lambda: print(time.process_time()))
name, sys.argv = sys.argv[1], sys.argv[1:]
runpy.run_module(name, run_name="__main__", alter_sys=True)
"""


def test_new_tells_what_it_takes(nowhere: Path):
    with pytest.raises(UserError, match=r"required: TARGET.\nUsage: python -m ft.new NAME TARGET"):
        new(["bird-watch"])
    with pytest.raises(UserError, match="unrecognized arguments: --nmae=x"):
        new(["bird-watch", "there", "--nmae=x"])
    assert not list(nowhere.iterdir())


@pytest.mark.parametrize(
    ("given", "known"),
    [
        ("modle", "model"), ("max_epoch", "trainer.max_epochs"), ("trainer/max_epochs", "trainer.max_epochs"),
        ("OPTIMIZER.LR", "optimizer.lr"), ("model.haed.drop_rate", "model.head.drop_rate"), ("lr", "optimizer.lr"),
        ("batch-size", "data.batch_size"), ("cross", "cross_entropy"),
    ],
)  # fmt: skip
def test_the_nearest_of_many_names_is_first(given: str, known: str):
    names = ["trainer.max_epochs", "trainer.max_steps", "optimizer.lr", "model", "model.head.drop_rate", "task.mode"]
    names += ["model.drop_path_rate", "data.batch_size", "recipe.head_training.lr", "cross_entropy", "focal"]
    assert nearest(given, names)[0] == known


def test_nothing_is_offered_where_nothing_is_like_it():
    assert nearest("zzz", ["optimizer.lr", "model.head.drop_rate"]) == []
    assert not re.search("[A-Z]", "".join(nearest("qqqqqq", ["a", "b"])))


def test_a_slip_always_changes_the_name():
    import random

    draw = random.Random(0)
    assert all(slip(name, draw) != name for name in ("lr", "model", "drop_rate", "bf16-mixed") for _ in range(200))
    assert FUNCTIONS
