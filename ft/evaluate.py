"""``python -m ft.evaluate run=RUN split=test``: metrics of a run's best checkpoint, and how sure they are."""

from typing import TYPE_CHECKING, Any

from ft.command.imports import heavy_imports
from ft.command.verb import run_verb

if TYPE_CHECKING:
    from omegaconf import DictConfig


def evaluate(config: "DictConfig") -> float | None:
    """Evaluates one split, prints a table, writes ``evaluation_<split>.json``, and returns the task's metric."""
    with heavy_imports():
        from ft.build.evaluation import build_evaluation
        from ft.results.evaluation import Evaluated
        from ft.scoring.intervals import check_draws
        from ft.show.console import evaluation_table

    draws = {key: int(config[key]) for key in ("seed", "resamples")}
    check_draws(**draws)
    run = build_evaluation(config)
    metrics = run.trainer.test(run.module, run.loader, verbose=False)[0]
    values = {name.replace("test/", f"{run.split}/", 1): float(value) for name, value in metrics.items()}
    per_class = {name: value.tolist() for name, value in run.module.class_results.items()}
    classes = list(run.module.task.classes)
    content: dict[str, Any] = {**values, "checkpoint": run.checkpoint, "classes": classes, "per_class": per_class}
    shown: dict[str, Any] = {"values": values, "per_class": per_class}
    found = run.module.collector.predictions(run.split, run.reading, run.data.splits[run.split].names)
    if found is not None:
        found.save(run.folder.path)
        evaluated = Evaluated.of(found, **draws)
        content |= evaluated.as_dict()
        shown = {"values": evaluated.metric_cells(values), "per_class": evaluated.class_cells(per_class)}
    run.folder.write_json(f"evaluation_{run.split}.json", content)
    evaluation_table(run.folder, run.split, **shown, classes=classes)
    return values.get(run.module.task.metric.replace("val/", f"{run.split}/", 1))


if __name__ == "__main__":
    run_verb(evaluate, "evaluate")
