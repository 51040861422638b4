"""``python -m ft.evaluate run=RUN split=test``: metrics of a run's best checkpoint."""

from typing import TYPE_CHECKING

from ft.command.imports import heavy_imports
from ft.command.verb import run_verb

if TYPE_CHECKING:
    from omegaconf import DictConfig


def evaluate(config: "DictConfig") -> float | None:
    """Evaluates one split, prints a table, writes ``evaluation_<split>.json``, and returns the task's metric."""
    with heavy_imports():
        from ft.build.evaluation import build_evaluation
        from ft.show.console import evaluation_table

    run = build_evaluation(config)
    metrics = run.trainer.test(run.module, run.loader, verbose=False)[0]
    values = {name.replace("test/", f"{run.split}/", 1): float(value) for name, value in metrics.items()}
    per_class = {name: value.tolist() for name, value in run.module.class_results.items()}
    run.folder.write_json(
        f"evaluation_{run.split}.json",
        {**values, "checkpoint": run.checkpoint, "classes": list(run.module.task.classes), "per_class": per_class},
    )
    found = run.module.collector.predictions(run.split, run.reading, run.data.splits[run.split].names)
    if found is not None:
        found.save(run.folder.path)
    evaluation_table(run.folder, run.split, values, per_class, run.module.task.classes)
    return values.get(run.module.task.metric.replace("val/", f"{run.split}/", 1))


if __name__ == "__main__":
    run_verb(evaluate, "evaluate")
