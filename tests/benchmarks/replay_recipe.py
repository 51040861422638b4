"""Which epoch another rule would have kept, and where it would have ended: replayed over runs that went further.

    python -m tests.benchmarks.replay_recipe ROWS.jsonl [MORE.jsonl] [--set always=2 min_gain=0.01]

ROWS are of ``time_to_accuracy --methods ours --ours recipe.always=4``. Training does not depend on the rule until it
ends a run, so that what another one would have kept can be read off the curve; a row whose curve ends before the rule
does says so. ``--set`` changes what ``conf/recipe/auto.yaml`` says of the rule. Runs with phases of their own are left
out. Takes seconds.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

from omegaconf import OmegaConf

from ft.checkpoint.keep import Kept
from ft.phases.recipe import Recipe, deepening
from ft.phases.worth import Score, is_enough, takes_place

RULE = Path(__file__).parents[2] / "conf/recipe/auto.yaml"
TRAIN_IMAGES = {"flowers5": 2836, "trashnet": 1768, "sign_digits": 1444, "hymenoptera": 208}
BATCH_SIZE = 32
# As deep as the models that are measured, so that no two phases of the recipe are one.
STAGES = (*(f"stage{number}" for number in range(8)), "head")
TASK: Any = SimpleNamespace(metric="metric", mode="max")


class Replayed(NamedTuple):
    """What the rule would have done.

    Attributes:
        epoch: That is kept, from 0; -1 is before the first.
        test: Its accuracy.
        epochs: After which the run ends.
        whole: Whether the curve goes that far.
    """

    epoch: int
    test: float
    epochs: int
    whole: bool


def replay(recipe: Recipe, points: Sequence[Mapping[str, Any]]) -> Replayed:
    """The rule over one curve; ``points`` are those of ``time_to_accuracy``, in order."""
    kept: Kept | None = None
    test, epochs = 0.0, 0
    scores: dict[int, Score] = {}
    for point in points:
        values = {TASK.metric: point["val"], "val/loss": point["val_loss"]}
        scores[point["epoch"]] = Score(point["val"], point["val_loss"])
        if kept is None or takes_place(recipe, TASK, point["epoch"], values, kept):
            top = point["val"] if kept is None else max(point["val"], kept.top)
            kept, test = Kept(point["epoch"], values, top), point["test"]
        epochs = point["epoch"] + 1
        if epochs and is_enough(recipe, TASK, epochs, scores):
            break
    assert kept is not None
    ended = epochs == recipe.epochs or is_enough(recipe, TASK, epochs, scores)
    return Replayed(kept.epoch, test, epochs, ended)


def rule_for(name: str, changes: Mapping[str, Any]) -> Recipe:
    """The default recipe of a set."""
    settings: Any = OmegaConf.to_container(OmegaConf.load(RULE))
    return deepening(
        settings | dict(changes), STAGES,
        num_images=TRAIN_IMAGES[name], batch_size=BATCH_SIZE, open=frozenset(STAGES), head=None,
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="+", type=Path)
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="of the rule")
    asked = parser.parse_args()
    changes: Any = OmegaConf.to_container(OmegaConf.from_dotlist(asked.set))
    for file in asked.rows:
        for line in file.read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            if row.get("method") != "ours" or "val_loss" not in row["epochs"][0]:
                continue
            overrides = row["config"]["overrides"]
            if any(word.startswith("recipe.phases=") for word in overrides):
                continue
            found = replay(rule_for(row["set"], changes), row["epochs"])
            end = f"ends after {found.epochs}" if found.whole else f"goes on after these {found.epochs}"
            print(
                f"{row['set']:12} {row['model']:22} seed {row['seed']}  "
                f"epoch {found.epoch + 1:2} is kept, {100 * found.test:5.1f} on test; {end} epochs"
            )


if __name__ == "__main__":
    main()
