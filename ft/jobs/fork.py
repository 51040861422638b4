"""A run that begins where another one was at the end of a phase, and is from there on as if it had run whole.

    source   checkpoints/phase_2/last, best    hard links to what ``last`` and ``best`` were
             checkpoints/phase_2/phase.json    what was planned so far, and what planning depends on
    target   config.yaml                       its own
             checkpoints/last, best            the source's
             metrics.csv                       the source's, up to there
             begun_from.json                   which run, how many phases and epochs of it, and the seconds they took

Resuming the target trains its own later phases. Which jobs begin like this is for ``ft.sweeps.running.shared_phases``.
"""

import json
import os
import shutil
import time
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, Trainer
from omegaconf import DictConfig, OmegaConf

from ft.build import same_data
from ft.build.resume import config_at
from ft.build.stored_config import read_config
from ft.checkpoint.manifest import verify
from ft.checkpoint.save import link
from ft.errors import UserError
from ft.phases.plan import start_value
from ft.phases.recipe import PlannedPhase, Recipe, deepening, within
from ft.run_folder import RunFolder
from ft.show.metrics_csv import MetricsCsv

BEGUN_FROM = "begun_from.json"


class KeepPhases(Callback):
    """Keeps ``checkpoints/phase_<n>`` at the end of phases; without effect on a run that has only one.

    Args:
        phases: Which, counted from 1: the phases that are then behind.
    """

    def __init__(self, phases: Iterable[int]) -> None:
        self.phases = frozenset(phases)
        self._since = 0.0

    def on_fit_start(self, trainer: Trainer, pl_module: Any) -> None:
        self._since = time.perf_counter()

    def on_train_epoch_start(self, trainer: Trainer, pl_module: Any) -> None:
        # Not at the end of the epoch before: callbacks that keep checkpoints come after all others there.
        self._keep(trainer, pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: Any) -> None:
        self._keep(trainer, pl_module)

    def _keep(self, trainer: Trainer, module: Any) -> None:
        recipe: Recipe = module.recipe
        if recipe.name != "auto" or len(recipe.phases) < 2 or not trainer.is_global_zero:
            return
        ends = [sum(phase.epochs for phase in recipe.phases[:at]) for at in range(1, len(recipe.phases) + 1)]
        if trainer.current_epoch not in ends:
            return
        number = ends.index(trainer.current_epoch) + 1
        place = trainer.checkpoint_callback.folder / f"phase_{number}"  # pyright: ignore -- KeepCheckpoints
        last = place.with_name("last")
        if number not in self.phases or place.is_dir() or not last.is_dir():
            return
        if verify(last)["global_step"] != trainer.global_step:
            return  # it was resumed inside the next epoch
        fresh = fresh_folder(place)
        for name in ("last", "best"):
            if place.with_name(name).is_dir():
                link_folder(place.with_name(name), fresh / name)
        content = {
            "phases": [{**asdict(phase), "open": sorted(phase.open)} for phase in recipe.phases[:number]],
            "augmented": _is_augmented(recipe),
            "stages": list(module.stage_names),
            "num_images": len(trainer.datamodule.splits["train"].targets),  # pyright: ignore -- set by fit
            "epochs": trainer.current_epoch,
            "seconds": round(self._seconds(Path(trainer.default_root_dir)), 2),
        }
        (fresh / "phase.json").write_text(json.dumps(content, indent=2), encoding="utf-8")
        fresh.rename(place)

    def _seconds(self, folder: Path) -> float:
        """Of training until now; of a run that was resumed since then, those of another that it began from besides."""
        begun = folder / BEGUN_FROM
        before = json.loads(begun.read_text(encoding="utf-8"))["seconds"] if begun.is_file() else 0.0
        return before + time.perf_counter() - self._since


def begin_from(source: RunFolder, phase: int, target: RunFolder, config: DictConfig) -> float:
    """Makes a run folder that continues another run.

    Args:
        source: Has ended, in whatever way.
        phase: How many of its phases are shared, at most; fewer are where it has kept fewer.
        target: Not there yet; nor is it afterwards, where the source has kept nothing that fits.
        config: The target's, composed. It differs from the source's as ``ft.sweeps.running.shared_phases`` says.

    Returns:
        Seconds that the shared phases took; 0 where the target has to run whole.
    """
    _, settings = config_at(target, config)
    for number in range(phase, 0, -1):
        place = source.checkpoints / f"phase_{number}"
        if not (place / "phase.json").is_file():
            continue
        kept = json.loads((place / "phase.json").read_text(encoding="utf-8"))
        recipe = recipe_of(settings, kept["stages"], num_images=kept["num_images"])
        if _begins_with(recipe, kept) and _is_whole(place):
            _make(source, place, kept, target, _completed(settings, source, recipe))
            return kept["seconds"]
    return 0.0


def recipe_of(settings: dict[str, Any], stages: list[str], *, num_images: int) -> Recipe:
    """The phases of a config with ``recipe=auto``, without building anything; as ``ft.build.recipe`` does.

    Args:
        settings: The whole config.
        stages: Of its model.
        num_images: For training.
    """
    recipe = deepening(
        settings["recipe"],
        stages,
        num_images=num_images,
        batch_size=settings["data"]["batch_size"],
        open=start_value(settings["model"]["open"], stages),
        head=settings["model"]["head_init"],
    )
    epochs = settings["trainer"]["max_epochs"]
    return recipe if epochs is None else within(recipe, epochs)


def link_folder(source: Path, target: Path) -> None:
    """A copy that takes no room where the file system has hard links: checkpoints are replaced, never changed."""
    shutil.copytree(source, target, copy_function=_link)


def _begins_with(recipe: Recipe, kept: dict[str, Any]) -> bool:
    phases = tuple(PlannedPhase(**{**each, "open": frozenset(each["open"])}) for each in kept["phases"])
    alike = recipe.phases[: len(phases)] == phases and _is_augmented(recipe) == kept["augmented"]
    return alike and len(recipe.phases) > 1


def _is_augmented(recipe: Recipe) -> bool:
    # See ft.build.recipe.recipe_view: one phase of several views, and the images of all of them are.
    return any(phase.views != 1 for phase in recipe.phases)


def _is_whole(place: Path) -> bool:
    try:
        for name in ("last", "best"):
            if name == "last" or (place / name).is_dir():
                verify(place / name)
    except UserError as error:
        print(f"the run is not begun from another: {error}", flush=True)
        return False
    return True


def _completed(settings: dict[str, Any], source: RunFolder, recipe: Recipe) -> dict[str, Any]:
    """The target's config with what building the source has found out: of the model, and how the machine computes."""
    found: Any = OmegaConf.to_container(read_config(source.config))
    tuned = {"tuned": found["trainer"]["tuned"]} if "tuned" in found["trainer"] else {}
    trainer = {**settings["trainer"], "max_epochs": recipe.epochs, **tuned}
    return {**settings, "model": found["model"], "trainer": trainer}


def _make(source: RunFolder, place: Path, kept: dict[str, Any], target: RunFolder, config: dict[str, Any]) -> None:
    fresh = RunFolder(fresh_folder(target.path))
    for name in ("last", "best"):
        if (place / name).is_dir():
            link(place / name, fresh.checkpoints / name)
    shutil.copyfile(source.path / "classes.json", fresh.path / "classes.json")
    same_data.copy(source, fresh)
    metrics = MetricsCsv(source.path / "metrics.csv")
    metrics.forget_from(kept["epochs"])
    metrics.file = fresh.path / "metrics.csv"
    metrics.save()
    fresh.write_json(
        BEGUN_FROM,
        {
            "run": str(source.path),
            "phases": len(kept["phases"]),
            "epochs": kept["epochs"],
            "seconds": kept["seconds"],
        },
    )
    fresh.config.write_text(OmegaConf.to_yaml(config), encoding="utf-8")
    fresh.path.rename(target.path)


def fresh_folder(place: Path) -> Path:
    """An empty folder beside its place, to be moved there when it is whole."""
    fresh = place.with_name(f".{place.name}.new")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    return fresh


def _link(source: str, target: str) -> str:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
    return target
