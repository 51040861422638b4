"""Everything the page shows, in words and figures."""

import base64
from collections import Counter
from pathlib import Path
from typing import Any

from ft.job_folder import FAILED
from ft.page.words import duration_in_words
from ft.sweeps.ranking import reason
from ft.sweeps.report.decision import decision
from ft.sweeps.report.importances import importance_plot, importances
from ft.sweeps.report.leaderboard import (
    PER_CENT,
    interval_note,
    leader,
    number,
    ordered,
    precision_note,
    range_in_words,
    shown_metrics,
    soup,
)
from ft.sweeps.report.material import Material
from ft.sweeps.report.parallel import parallel_plot
from ft.sweeps.report.pictures import cost_plots, curve_plots, slice_plots
from ft.sweeps.report.rivals import MOST_RIVALS, rivals
from ft.sweeps.report.saved import saved, total
from ft.sweeps.report.uncertainty import SEEDS, Uncertainty, seed_values, uncertainties
from ft.sweeps.words import value_in_words


def content(material: Material, plots: Path, files: list[str]) -> dict[str, Any]:
    """What the template shows.

    Args:
        material: Of the sweep.
        plots: A folder for the figures.
        files: The tables that were written.
    """
    found = importances(material)
    varied = material.varied or material.keys
    keys = [*found.shares, *(key for key in varied if key not in found.shares)]
    sure = uncertainties(material)
    compared = rivals(material)
    gains = saved(material)
    runs_dir = material.folder.absolute().parent.parent
    return {
        "title": material.asked.get("name") or material.folder.name,
        "lead": _lead(material),
        "decision": decision(material, compared),
        "winner": _winner(material, sure),
        "metric": material.metric,
        "searched_metric": material.searched_metric,
        "lower": material.mode == "min",
        "keys": [(key, material.names[key]) for key in material.keys],
        "shown_metrics": shown_metrics(material),
        "leaders": [leader(material, row, place, sure) for place, row in enumerate(ordered(material))],
        "interval_note": interval_note(material, sure),
        "precision_note": precision_note(material, sure),
        "soup": soup(material),
        "picture": _picture(material),
        "rivals": [_rival(material, each) for each in compared],
        "more_rivals": max(0, len(material.ranked) - 1 - MOST_RIVALS),
        "failures": Counter(reason(row) for row in material.rows if row["state"] == FAILED).most_common(),
        "curves": curve_plots(material, plots),
        "parallel": [] if material.is_of_backbones else parallel_plot(material, keys, plots),
        "importance": importance_plot(material, found, plots),
        "why_no_importance": found.why_not,
        "slices": [] if material.is_of_backbones else slice_plots(material, keys, plots),
        "costs": cost_plots(material, plots),
        "cost_facts": _cost(material),
        "saved": [(each.title, duration_in_words(each.seconds), each.how) for each in gains],
        "saved_in_all": total(gains),
        "asked": _asked(material),
        "folder": str(material.folder),
        "name": material.folder.name,
        "elsewhere": "" if runs_dir == Path("runs").absolute() else f" runs_dir='{runs_dir}'",
        "files": files,
    }


def _lead(material: Material) -> str:
    counts = Counter(str(row["state"]) for row in material.rows)
    told = ", ".join(f"{count} {state}" for state, count in counts.items())
    seeds = int(material.asked.get("seeds") or 1)
    each = f", {seeds} seeds each" if seeds > 1 else ""
    return f"{len(material.rows)} trial{'s' * (len(material.rows) != 1)}{each}: {told}."


def _winner(material: Material, sure: dict[int, Uncertainty]) -> list[dict[str, str]]:
    """The cards at the top; none without a winner."""
    if not material.ranked:
        return []
    best, *others = material.ranked
    known = sure.get(best["number"])
    over = ""
    if known is not None:
        what = f"{len(seed_values(best))} seeds" if known.over == SEEDS else "images"
        over = f"{range_in_words(material.measure, known.interval)} over {what}"
    cards = [
        {"name": f"best {material.metric}", "value": number(material.measure, best["value"]), "range": over}
    ]  # fmt: skip
    tested = material.metric.replace("val/", "test/", 1)
    if tested != material.metric and tested in best["metrics"]:
        cards.append({"name": tested, "value": number(material.measure, best["metrics"][tested]),
                      "range": "its value on images that chose nothing"})  # fmt: skip
    if others:
        second = others[0]
        cards.append({"name": "second", "value": number(material.measure, second["value"]),
                      "range": material.name_of(second)})  # fmt: skip
    cards.append({"name": "time", "value": duration_in_words(sum(row["seconds"] for row in material.rows)),
                  "range": "of all runs"})  # fmt: skip
    return cards


def _rival(material: Material, rival: Any) -> dict[str, Any]:
    difference = rival.difference
    scale, unit = (100, " points") if material.measure in PER_CENT else (1, "")

    def told(value: float) -> str:
        return f"{scale * value:+.2f}" if unit else f"{value:+.4g}"

    return {
        "number": rival.row["number"],
        "name": material.words_of(rival.row),
        "difference": "" if difference is None else f"{told(difference.value)}{unit}",
        "interval": "" if difference is None else f"{told(difference.low)} to {told(difference.high)}",
        "test": rival.test,
        "p": "" if difference is None else _p(rival.p),
        "p_holm": "" if difference is None else _p(rival.p_holm),
        "verdict": rival.why_not if difference is None else "behind" if rival.differs else "cannot be told apart",
        "differs": rival.differs,
    }


def _p(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def _picture(material: Material) -> str:
    """Of ``sweep=backbones``: the metric against the cost; empty where there is none."""
    file = material.folder / "backbones.png"
    if not material.is_of_backbones or not file.is_file():
        return ""
    return f"data:image/png;base64,{base64.b64encode(file.read_bytes()).decode()}"


def _cost(material: Material) -> dict[str, str]:
    seconds = [row["seconds"] for row in material.rows if row["seconds"]]
    if not seconds:
        return {}
    facts = {
        "in all": duration_in_words(sum(seconds)),
        "a trial": f"{duration_in_words(sum(seconds) / len(seconds))} in the mean",
        "longest": duration_in_words(max(seconds)),
    }
    lost = sum(row["seconds"] for row in material.rows if row["state"] == FAILED)
    return {**facts, "lost to failures": duration_in_words(lost)} if lost else facts


def _asked(material: Material) -> dict[str, str]:
    """Of ``sweep.yaml``, without what is empty."""
    asked = {key: value for key, value in material.asked.items() if value not in (None, {}, [], "")}
    space = asked.pop("space", {})
    told = {key: value if isinstance(value, str) else value_in_words(value) for key, value in asked.items()}
    return {**told, **{f"space: {key}": str(text) for key, text in space.items()}}
