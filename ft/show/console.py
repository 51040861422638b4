"""What a run says: the header, a warning nobody can miss, the closing table."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.panel import Panel
from rich.table import Table

from ft.data.check import in_a_line
from ft.machine.choice import choice_from_config, describe
from ft.phases.recipe import Recipe
from ft.run_folder import RunFolder

if TYPE_CHECKING:
    from ft.build.run import Run

# Wide enough for a path when nothing knows the width of the terminal.
PIPED_WIDTH = 120


def console() -> Console:
    out = Console(highlight=False)
    return out if out.is_terminal else Console(highlight=False, width=PIPED_WIDTH)


def warning(line: str) -> None:
    """One line that nobody asked for, and that explains what a user may wonder about."""
    console().print(f"[yellow]{escape(line)}[/]", soft_wrap=True)


def header(run: "Run") -> None:
    """Model, stages, weights, data, device: what is about to happen."""
    model, module, data = run.module.model, run.module, run.data
    total = sum(parameter.numel() for parameter in model.parameters())
    first = module.phase_at(0)
    open_count = sum(parameter.numel() for name, parameter in model.named_parameters() if name in first.tensors)
    stages = " ".join(
        f"[bold green]{stage}[/]" if stage in first.stages else f"[dim]{stage}[/]" for stage in module.stage_names
    )
    spec, options = model.input_spec, module.optimizer_options
    classes = run.module.task.classes
    rows = {
        "model": f"{run.config['model'].get('name', type(model).__name__)}, {total:,} parameters, "
        f"{spec.width} x {spec.height} x {spec.channels}",
        "stages": f"{stages}   (open at first: {open_count:,} parameters)",
        "weights": str(run.config["model"].get("found", "own")),
        "data": ", ".join(f"{name} {len(split.targets):,}" for name, split in data.splits.items()),
        "classes": f"{len(classes)}: {', '.join(classes[:8])}{', ...' if len(classes) > 8 else ''}",
        "optimizer": f"{options.name}, lr {options.lr:g}, batch {data.options.batch_size}",
        "recipe": describe_recipe(module.recipe, module.stage_names),
        "plugins": ", ".join(plugin.name for plugin in module.plugins) or "none",
        "device": f"{run.trainer.strategy.root_device} x {run.trainer.world_size}, {run.trainer.precision}",
        "run": str(run.folder.path),
    }
    table = Table.grid(padding=(0, 2))
    for name, value in rows.items():
        # Class names and paths may hold brackets, which rich would read as markup; the stages are markup of ours.
        table.add_row(f"[bold]{name}[/]", value if name == "stages" else escape(value))
    console().print(Panel(table, title="resumed" if run.resumed else "ft", title_align="left", expand=False))
    choice = choice_from_config(run.config)
    for line in describe(choice) if choice is not None and not run.resumed else []:
        console().print(f"autotune: {line}", markup=False, soft_wrap=True)
    if clocks := by_the_clock(run.config):
        console().print(f"{' '.join(clocks)}: time decides how far this run comes, so it cannot be repeated exactly")
    if data.bad_images.found:
        console().print(f"[yellow]{len(data.bad_images.found)} images cannot be read and are left out[/]")
    left_out = [name for name in run.config["plugins"] if name not in [plugin.name for plugin in module.plugins]]
    if left_out:
        console().print(f"[yellow]{', '.join(left_out)}: of no use on random weights; left out, every stage is open[/]")
    random_weights_warning(run)


def by_the_clock(config: Mapping[str, Any]) -> list[str]:
    """What of a config lets time decide, as it is written on the command line."""
    given = {"budget": config["budget"], "trainer.max_time": config["trainer"]["max_time"]}
    return [f"{key}={value}" for key, value in given.items() if value is not None]


def describe_recipe(recipe: Recipe, stages: Sequence[str]) -> str:
    """Its phases in one line: from which stage on the model is open, and for how long."""
    if not recipe.trains:
        return f"{recipe.name}: the head is {'trained on stored features' if recipe.name == 'head' else 'computed'}"
    if len(recipe.phases) == 1:
        return recipe.name
    parts = [f"from {next(s for s in stages if s in phase.open)} {phase.epochs} epochs" for phase in recipe.phases]
    return f"{recipe.name}: {recipe.head} head; {', '.join(parts)}, as long as it pays"


def random_weights_warning(run: "Run") -> None:
    """Framed, at the start and at the end, unless random weights were asked for."""
    if run.config["model"].get("found") != "random" or run.config["model"]["weights"] == "none":
        return
    console().print(
        Panel(
            f"{run.module.model.weights.where}. Every stage is open, and accuracy will be far below fine-tuning.\n"
            "Set model.weights=FILE or model.weights_dir=FOLDER; model.weights=required makes this an error.",
            title="RANDOM WEIGHTS",
            border_style="bold red",
            expand=False,
        )
    )


def closing_table(run: "Run", summary: dict[str, Any]) -> None:
    """Best epoch, metrics, time, where to look."""
    table = Table(title=summary["status"], title_justify="left", show_header=True)
    table.add_column("")
    table.add_column("val", justify="right")
    table.add_column("test", justify="right")
    names = [name.partition("/")[2] for name in summary if name.startswith(("val/", "test/"))]
    for name in dict.fromkeys(names):
        values = [summary.get(f"{split}/{name}") for split in ("val", "test")]
        table.add_row(name, *("" if value is None else f"{value:.4f}" for value in values))
    out = console()
    out.print(table)
    best = summary["best_epoch"]
    # Before the first epoch only a solved head is there to be the best.
    kept = "none" if best is None else "the solved head, before the first" if best < 0 else best + 1
    out.print(
        f"best epoch {kept} of {summary['epochs']}   "
        f"{summary['seconds']:.0f} s   {summary['images_per_second']:.0f} training images/s"
    )
    for name, why in list(run.data.bad_images.found.items())[:10]:
        out.print(f"left out: {in_a_line(name)}: {why}", markup=False)
    if summary["bad_images"]:
        out.print(f"{summary['bad_images']} images could not be read; all of them are in bad_images.json")
    if pictures := sorted(path.name for path in run.folder.path.glob("*.png")):
        out.print(f"pictures {', '.join(pictures)}", markup=False)
    out.print(f"run folder {run.folder.path}", soft_wrap=True, markup=False)


def evaluation_table(
    folder: RunFolder,
    split: str,
    values: Mapping[str, float | str],
    per_class: Mapping[str, Sequence[float | str]],
    classes: Sequence[str],
) -> None:
    """Metrics of one split, and per class; text is shown as it is, numbers with four digits."""
    out = console()
    for name, value in values.items():
        out.print(f"{name:<16} {_cell(value)}")
    if per_class:
        table = Table("class", *(f"{name}" for name in per_class))
        for at, name in enumerate(classes):
            table.add_row(escape(name), *(_cell(column[at]) for column in per_class.values()))
        out.print(table)
    out.print(f"written: {Path(folder.path) / f'evaluation_{split}.json'}", soft_wrap=True, markup=False)


def _cell(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:.4f}"
