"""``python -m ft.compare runs=[A,B,...] split=test``: is one run better than another, or does it only look so?"""

from typing import TYPE_CHECKING, Any

from ft.command.imports import heavy_imports
from ft.command.verb import run_verb

if TYPE_CHECKING:
    from omegaconf import DictConfig


def compare(config: "DictConfig") -> None:
    """Compares the stored predictions of several runs, prints tables, and writes ``output`` if it is set."""
    with heavy_imports():
        from omegaconf import OmegaConf

        from ft.build.trained import stored_config
        from ft.results.runs import check_output, common_metric, find_runs, load_predictions, write_comparison
        from ft.results.tables import comparison_tables
        from ft.scoring.compare import compare_runs
        from ft.scoring.intervals import check_draws
        from ft.scoring.matching import match

    wishes: Any = OmegaConf.to_container(config, resolve=True)
    draws = {key: int(wishes[key]) for key in ("seed", "resamples")}
    check_draws(**draws)
    output = check_output(wishes["output"], overwrite=wishes["overwrite"])
    folders = find_runs(wishes["runs"], runs_dir=wishes["runs_dir"])
    predictions = load_predictions(folders, wishes["split"])
    configs = {name: stored_config(folder) for name, folder in folders.items()}
    matched = match(predictions, {name: each["data"] for name, each in configs.items()})
    metric = wishes["metric"] or common_metric({name: each["task"]["metric"] for name, each in configs.items()})
    comparison = compare_runs(matched, metric=metric, **draws)
    if output is not None:
        write_comparison(output, comparison, folders)
    comparison_tables(comparison, output)


if __name__ == "__main__":
    run_verb(compare, "compare")
