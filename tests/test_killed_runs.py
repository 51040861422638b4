"""A run that is killed at random times, and started again with the same command until it is through, ends as the run
that was left alone: the same bytes."""

import hashlib
import json
import random
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file

from tests.conftest import TINY
from tests.killable import Commands, commands

LONG = ("trainer.max_epochs=6", "model.head.drop_rate=0.3", "plugins=[mixup,ema]", "schedule=cosine")
VARIANTS = {
    "full": (*LONG, "data.num_workers=0"),
    "two workers": (*LONG, "data=folder", "data.root='{photos}'", "data.decoded=off", "data.num_workers=2"),
    "default recipe": (
        "recipe=auto", "trainer.max_epochs=null", "recipe.min_epochs=1", "recipe.always=9", "model.weights='{weights}'",
        "recipe.phases=[{depth: 0.2, steps: 8, views: 1, rate: 1.0}, {depth: 0.5, steps: 12, views: 2, rate: 1.0}]",
    ),
}  # fmt: skip
QUICK = {"full": 3, "two workers": 2, "default recipe": 3}
MANY = {"full": 40, "two workers": 30, "default recipe": 30}


@pytest.fixture(scope="module")
def shell() -> Iterator[Commands]:
    with commands() as found:
        yield found


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Weights of the tiny model, and a folder of photos that have to be decoded."""
    folder = tmp_path_factory.mktemp("given")
    torch.manual_seed(0)
    state = {name: tensor.contiguous() for name, tensor in timm.create_model("test_resnet").state_dict().items()}
    save_file(state, folder / "weights.safetensors")
    made = torch.randint(0, 255, (48, 40, 40, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    from PIL import Image

    for at, pixels in enumerate(made):
        path = folder / "photos" / ("robin" if at % 2 else "wren") / f"{at}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.numpy()).save(path)
    return {"weights": folder / "weights.safetensors", "photos": folder / "photos"}


def words_of(variant: str, places: dict[str, Path]) -> list[str]:
    words = [*TINY, "autoresume=true", *VARIANTS[variant]]
    if variant == "two workers":
        words = [word for word in words if not word.startswith(("data.num_images", "data.size"))]
    return [
        word.replace("{photos}", str(places["photos"])).replace("{weights}", str(places["weights"])) for word in words
    ]


def only_run(folder: Path) -> Path:
    """However often the command was given, it has one run folder."""
    (run,) = [path for path in folder.iterdir() if path.is_dir() and not path.is_symlink() and path.name != ".asked"]
    return run


def outcome(folder: Path) -> dict[str, str]:
    """sha256 of everything that has to be the same, whatever happened on the way."""
    run = only_run(folder)
    summary = json.loads((run / "summary.json").read_text())
    assert summary["status"] == "finished"
    files = {
        "best": run / "checkpoints" / "best" / "weights.safetensors",
        "last": run / "checkpoints" / "last" / "weights.safetensors",
        "metrics": run / "metrics.csv",
        "reading": run / "reading.json",
        "validation": run / "predictions" / "val.csv",
        "test": run / "predictions" / "test.csv",
        "logits": run / "predictions" / "test.safetensors",
    }
    hashes = {name: hashlib.sha256(file.read_bytes()).hexdigest() for name, file in files.items()}
    same = {key: value for key, value in summary.items() if "second" not in key}
    return {**hashes, "summary": json.dumps(same, sort_keys=True)}


def kill_and_go_on(shell: Commands, words: list[str], folder: Path, kills: int, chance: random.Random) -> int:
    """Runs that are killed again and again, until so many kills have hit; how many runs came to their end."""
    calm = folder / "calm"
    calm.mkdir()
    ended = shell.train([*words, f"runs_dir='{calm}'"], folder / "calm.txt")
    assert ended.code == 0, (folder / "calm.txt").read_text()
    wanted, seconds = outcome(calm), ended.seconds
    through = hits = 0
    while hits < kills or through == 0:
        hurt = folder / f"hurt_{through}"
        hurt.mkdir()
        output = folder / f"hurt_{through}.txt"
        command = [*words, f"runs_dir='{hurt}'"]
        while True:
            # Never later than what is left for one that is not hit any more.
            after = chance.uniform(0.0, seconds) if hits < kills else None
            ended = shell.train(command, output, after=after)
            if ended.code == 0:
                break
            assert ended.code == -signal.SIGKILL, output.read_text()
            hits += 1
        assert outcome(hurt) == wanted, output.read_text()
        assert shell.train(command, output).code == 0
        assert output.read_text().splitlines()[-1].startswith("finished already")
        shutil.rmtree(hurt)
        through += 1
    return through


@pytest.mark.full
@pytest.mark.parametrize("variant", VARIANTS)
def test_a_run_that_is_killed_at_random_times_ends_as_the_one_left_alone(shell, places, tmp_path, variant):
    kill_and_go_on(shell, words_of(variant, places), tmp_path, QUICK[variant], random.Random(f"quick {variant}"))


@pytest.mark.soak
@pytest.mark.parametrize("variant", VARIANTS)
def test_a_hundred_kills_change_nothing(shell, places, tmp_path, variant):
    through = kill_and_go_on(shell, words_of(variant, places), tmp_path, MANY[variant], random.Random(variant))
    print(f"{variant}: {MANY[variant]} kills, {through} runs came to their end")


@pytest.mark.full
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
@pytest.mark.parametrize("variant", ["two workers", "default recipe"])
def test_a_signal_at_any_time_ends_within_ten_seconds_with_its_code(shell, places, tmp_path, variant, number, code):
    """And what was begun goes on to the same bytes."""
    words = words_of(variant, places)
    calm, hurt = tmp_path / "calm", tmp_path / "hurt"
    calm.mkdir()
    hurt.mkdir()
    whole = shell.train([*words, f"runs_dir='{calm}'"], tmp_path / "calm.txt")
    assert whole.code == 0
    output = tmp_path / "hurt.txt"
    codes = []
    for share in (0.3, 0.5, 0.6):
        ended = shell.train([*words, f"runs_dir='{hurt}'"], output, after=share * whole.seconds, number=number)
        codes.append(ended.code)
        if ended.code == 0:
            break
        assert ended.code == code, output.read_text()
        assert ended.seconds < 10
    assert code in codes
    assert shell.train([*words, f"runs_dir='{hurt}'"], output).code == 0
    # A worker that hands an image over as it ends may complain of that; the run itself has nothing to.
    assert "ft/command/verb.py" not in output.read_text(), output.read_text().partition("Traceback")[2]
    mine, others = outcome(hurt), outcome(calm)
    for name in ("best", "last", "validation", "test"):
        assert mine[name] == others[name], name
