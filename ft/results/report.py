"""``report.html``: one page about a run that opens offline, and its figures as ``plots/*.png``."""

import tempfile
from pathlib import Path
from typing import Any

from ft.inference.material import Material
from ft.page import render
from ft.results import confusion, diagrams, sections
from ft.results.curves import History, curves, phases
from ft.results.facts import (
    best_in_words,
    class_counts,
    findings,
    overview,
    read_json,
    settings,
    split_sizes,
    versions,
)
from ft.results.mistakes import is_right
from ft.results.per_class import per_class
from ft.run_folder import write_whole
from ft.scoring.calibration import before_and_after
from ft.scoring.intervals import intervals
from ft.scoring.metrics import LOWER_IS_BETTER

PAGE, PLOTS = "report.html", "plots"
TEMPLATE = Path(__file__).parent / "report.html.jinja"
# What the metrics are, for people.
WORDS = {
    "acc": ("accuracy", "share of images whose class is right"),
    "top5": ("top-5 accuracy", "share of images whose class is among the five likeliest"),
    "f1": ("F1", "mean over the classes"),
    "f1_tuned": ("F1, tuned", "mean over the labels, at their tuned thresholds"),
    "auroc": ("AUROC", "mean over the classes"),
    "map": ("mAP", "average precision, mean over the labels"),
    "exact": ("exact match", "share of images with every label right"),
    "exact_tuned": ("exact, tuned", "share of images with every label right, at tuned thresholds"),
    "nll": ("log loss", "after temperature scaling; lower is better"),
    "ece": ("ECE", "expected calibration error after temperature scaling; lower is better"),
    "mae": ("MAE", "mean absolute error, in the data's unit"),
    "rmse": ("RMSE", "root mean square error, in the data's unit"),
    "r2": ("R²", "share of the variance that is explained"),
}
# Told in per cent; the others as they are.
PER_CENT = frozenset({"acc", "top5", "exact", "exact_tuned", "ece"})


def write_report(material: Material) -> Path:
    """Writes the page and the figures, each as a whole, and returns the page's path."""
    run = material.run
    with tempfile.TemporaryDirectory(prefix=".plots.", dir=run) as place:
        fresh = Path(place) / PLOTS  # its own folder: the outer one is for nobody else to read
        fresh.mkdir()
        page = render(TEMPLATE, content(material, fresh))
        if (run / PLOTS).exists():
            (run / PLOTS).rename(Path(place) / "old")
        fresh.rename(run / PLOTS)
    write_whole(run / PAGE, page)
    return run / PAGE


def content(material: Material, plots: Path) -> dict[str, Any]:
    """Everything the template shows.

    Args:
        material: Of the run.
        plots: A folder for the figures.
    """
    predictions = material.predictions[material.split]
    task = predictions.reading.task
    gallery = None if material.pictures is None else sections.Gallery(material)
    history = History.read(material.run / "metrics.csv")
    summary = read_json(material.run / "summary.json")
    best = summary.get("best_epoch")
    wrong, right, cam_line = ([], [], "") if gallery is None else sections.cam_cards(material, gallery)
    calibration = before_and_after(predictions)
    return {
        "title": material.run.name,
        "task": task,
        "split": material.split,
        "num_images": len(predictions),
        "classes": predictions.reading.classes,
        "headline": _headline(material),
        "overview": overview(material),
        "curves": curves(
            history,
            plots,
            num_stages=len(material.stages),
            metric=material.metric,
            best=None if best is None else best + 1,
        ),
        "phases": phases(history),
        "stages": material.stages,
        "best": best_in_words(best),
        "matrix": confusion.plots(predictions, plots) if task == "classification" else [],
        "numbers": diagrams.number_plots(predictions, plots) if task == "regression" else [],
        "labels": diagrams.label_plots(predictions, plots) if task == "multilabel" else [],
        "per_class": per_class(predictions),
        "thresholds": predictions.reading.thresholds,
        "pairs": sections.pairs(material, gallery),
        "mistakes": sections.mistakes(material, gallery),
        "num_wrong": int((~is_right(predictions)).sum()),
        "cam_wrong": wrong,
        "cam_right": right,
        "cam_line": cam_line,
        "reliability": diagrams.reliability_plots(predictions, plots),
        "ece": None if calibration is None else [each.ece for each in calibration],
        "temperature": predictions.reading.temperature,
        "sizes": split_sizes(material),
        "counts": class_counts(material),
        "doctor": findings(material.run),
        "views": [] if material.pictures is None else sections.training_views(material.pictures, material),
        "views_when": "" if material.pictures is None else material.pictures.drawn_when,
        "has_pictures": material.pictures is not None,
        "why_no_pictures": material.why_no_pictures,
        "settings": settings(material.config),
        "versions": versions(material.run),
        "run": str(material.run),
    }


def _headline(material: Material) -> list[dict[str, Any]]:
    """Metrics of the split with their intervals, and beside them those of the other stored splits."""
    measured = intervals(material.predictions[material.split])
    others = {
        name: intervals(found, resamples=1) for name, found in material.predictions.items() if name != material.split
    }
    return [
        {
            "name": WORDS.get(name, (name, ""))[0],
            "meaning": WORDS.get(name, (name, ""))[1],
            "value": _number(name, found.value),
            "interval": f"{_number(name, found.low)} to {_number(name, found.high)}",
            "others": [
                f"{split} {_number(name, values[name].value)}" for split, values in others.items() if name in values
            ],
            "lower": name in LOWER_IS_BETTER,
        }
        for name, found in measured.items()
    ]


def _number(name: str, value: float) -> str:
    return f"{100 * value:.1f} %" if name in PER_CENT else f"{value:.3f}"
