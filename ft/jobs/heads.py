"""Many runs of ``recipe=head`` in one go: one backbone, one pass over the images, every head trained at once.

    images -> backbone -> features (once) -> H heads (ft.phases.many_heads) -> H ordinary run folders

What is left of a run once its head is trained goes the way every run goes: ``ft.fit`` scores the head, keeps and tests
it, and writes the folder. Only that it finds features where others find images.
"""

import json
import math
import shutil
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from torch import Tensor, nn

from ft.build import same_data
from ft.build.run import Run, build
from ft.build.stored_config import read_config
from ft.fit import fit
from ft.instantiate import instantiate
from ft.job_folder import FAILED, FINISHED, JobFolder, Result
from ft.jobs.head_run import head_run
from ft.jobs.printed import printed_to
from ft.jobs.run import NotANumber, numbers
from ft.jobs.shared_features import FrozenStore, evaluated_features
from ft.model.head import make_head
from ft.phases.head_init import head_features, head_training, linear_layer, solve_layer
from ft.phases.head_training import draw_weights
from ft.phases.many_heads import HeadTraining, train_heads
from ft.phases.plan import HEAD
from ft.phases.stored_views import StoredViews
from ft.run_folder import RunFolder
from ft.show.console import describe_recipe
from ft.tasks.task import Task


@dataclass
class Member:
    """One of the runs.

    Attributes:
        folder: Its job's.
        config: Its own, composed.
        head: Untrained at first.
        task: With its own loss.
        how: Its head is trained.
    """

    folder: JobFolder
    config: dict[str, Any]
    head: nn.Module
    task: Task
    how: HeadTraining


def run_heads(folder: JobFolder, config: DictConfig, *, started: float) -> None:
    """Trains the heads of all member jobs, and leaves of each what a run of its own would have left.

    A member that has a result keeps it; one that cannot be is refused alone. Of a model that no weights were found for,
    all are left without one: their runs have nothing in common.

    Args:
        folder: Of the job; its settings name the ``members``' folders.
        config: Composed, as the verb gets it; the members' own say what is computed.
        started: When the wait for it began, as ``time.monotonic()`` tells it.

    Raises:
        UserError: What would end each of the runs.
        KeyboardInterrupt: After Ctrl-C; finished members stay finished.
    """
    del config
    asked = [JobFolder(Path(path)) for path in folder.job().settings["members"]]
    waiting = [each for each in asked if each.result() is None]
    if not waiting:
        folder.answer(Result(FINISHED, together=len(asked)))
        return
    files = RunFolder(folder.path)
    shared = _build_shared(waiting[0], files, started=started)
    if shared.module.recipe.name != "head":
        # Random weights: everything trains in each of the runs, and they have nothing in common. They go alone.
        print(f"nothing is computed together: {describe_recipe(shared.module.recipe, shared.module.stage_names)}")
        folder.answer(Result(FINISHED))
        return
    features, targets, evaluated = _prepare(shared)
    members = [each for each in (_member(one, shared, features.shape[1], len(waiting)) for one in waiting) if each]
    members = _train(members, features, targets, shared, len(waiting))
    spent = (time.monotonic() - started) / len(waiting)
    for member in members:
        begun = time.monotonic() - spent
        try:
            with printed_to(member.folder):
                place = _fresh(member.folder)
                run = head_run(shared, member.config, member.head, member.task, place, evaluated)
                same_data.copy(files, place)
                value = fit(run, started=begun)
            if value is not None and math.isnan(value):
                raise NotANumber(f"{member.task.metric} is not a number.")
        except Exception as error:
            _refuse(member.folder, error, seconds=time.monotonic() - begun, together=len(waiting))
            continue
        summary = json.loads(place.summary.read_text(encoding="utf-8"))
        member.folder.answer(
            Result(
                FINISHED, value=value, metrics=numbers(summary), seconds=round(time.monotonic() - begun, 2),
                together=len(waiting), shared_seconds=round(spent * (len(waiting) - 1), 2),
            )
        )  # fmt: skip
    folder.answer(Result(FINISHED, seconds=round(time.monotonic() - started, 2), together=len(waiting)))


def _build_shared(member: JobFolder, files: RunFolder, *, started: float) -> Run:
    """A run of which everything but the head is used: its head cannot be wrong, whatever the member's is.

    Args:
        member: One of them.
        files: Gets what the members' runs are begun with.
        started: When the wait for it began.
    """
    config = read_config(member.config)
    OmegaConf.update(config, "model.head", {"hidden": [], "drop_rate": 0.0, "norm": "none", "activation": "relu"})
    OmegaConf.update(config, "model.head_init", None)
    OmegaConf.update(config, "recipe.head_init", "solved")
    if "label_smoothing" in config.task:
        OmegaConf.update(config, "task.label_smoothing", 0.0)
    shared = build(config, started=started, place=_fresh(member))
    same_data.copy(shared.folder, files)
    # Each member makes its own.
    shutil.rmtree(shared.folder.path)
    return shared


def _prepare(shared: Run) -> tuple[Tensor, Tensor, dict[str, StoredViews]]:
    """Training features ``(N, F)`` and targets on the device, and the features that evaluation sees, by split."""
    module, trainer = shared.module, shared.trainer
    module.trainer = trainer
    module.to(trainer.strategy.root_device).eval()
    cache = module.cache
    if cache.options.choice is not None:
        torch.set_num_threads(cache.options.choice.frozen_threads)
    cache.store = FrozenStore(cache.options, seed=cache.seed, budget=cache.budget)
    with torch.no_grad():
        features, targets = head_features(module, shared.loaders, [HEAD])
    module.eval()
    wanted = [split for split in ("val", "test") if split in shared.data.splits] if shared.config["test"] else []
    evaluated = {split: evaluated_features(shared, split) for split in wanted}
    return features.to(module.device), targets.to(module.device), evaluated


def _member(folder: JobFolder, shared: Run, num_features: int, together: int) -> Member | None:
    """A member with its untrained head; ``None`` for one that is refused."""
    try:
        config: Any = OmegaConf.to_container(read_config(folder.config))
        task: Task = instantiate(config["task"], "task")
        known = shared.module.task
        task.load_state_dict(known.state_dict())
        if (weights := getattr(known, "class_weights", None)) is not None:
            task.with_class_weights(weights)
        shape = {key: value for key, value in config["model"]["head"].items() if key != "pool"}
        head = make_head(num_features, task.num_outputs, **shape)
        draw_weights(head, seed=config["seed"])
        recipe = config["recipe"]
        how = head_training(task.loss, recipe["head_training"], mixup=recipe["mixup"], task=task)
    except Exception as error:
        _refuse(folder, error, seconds=0.0, together=together)
        return None
    return Member(folder, config, head.to(shared.module.device), task, how)


def _train(members: Sequence[Member], features: Tensor, targets: Tensor, shared: Run, together: int) -> list[Member]:
    """Trains the heads in place; those of one seed and length in one go. Without the members that are refused."""
    solved: dict[str, nn.Linear] = {}
    for member in members:
        last = linear_layer(member.head)
        begins = member.config["model"]["head_init"] or member.config["recipe"]["head_init"]
        if last is not None and begins == "solved":
            _solve(member, last, features, targets, solved)
    alike: dict[tuple[int, int, int], list[Member]] = {}
    for member in members:
        settings = member.config["recipe"]["head_training"]
        alike.setdefault((settings["steps"], settings["batch_size"], member.config["seed"]), []).append(member)
    trained = []
    for (steps, batch_size, seed), some in alike.items():
        try:
            train_heads(
                [member.head for member in some], features, targets, [member.how for member in some],
                soften=shared.module.task.soft_targets, steps=steps, batch_size=batch_size, seed=seed,
            )  # fmt: skip
        except ValueError as error:
            for member in some:
                _refuse(member.folder, error, seconds=0.0, together=together)
        else:
            trained += some
    return trained


def _solve(member: Member, last: nn.Linear, features: Tensor, targets: Tensor, solved: dict[str, nn.Linear]) -> None:
    """The solution depends on what changes features before the last layer, and on nothing else of a head."""
    head: Any = member.head
    before = "; ".join(repr(layer) for layer in head[:-1] if not isinstance(layer, nn.Dropout))
    if before in solved:
        last.load_state_dict(solved[before].state_dict())
    else:
        solve_layer(member.task, head.eval(), last, features, targets.cpu())
        # Training goes on in the layer itself.
        solved[before] = nn.Linear(last.in_features, last.out_features).to(last.weight)
        solved[before].load_state_dict(last.state_dict())


def _fresh(member: JobFolder) -> RunFolder:
    """Where a member's run is to be, without what an earlier attempt may have left of it."""
    place = RunFolder(Path(member.job().run))
    if place.path.is_dir():
        shutil.rmtree(place.path)
    return place


def _refuse(member: JobFolder, error: Exception, *, seconds: float, together: int) -> None:
    from ft.jobs.dispatch import why

    member.traceback.write_text("".join(traceback.format_exception(error)), encoding="utf-8")
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    said = "\n".join(lines[:3]) or type(error).__name__
    member.answer(Result(FAILED, why=why(error), message=said, seconds=round(seconds, 2), together=together))
