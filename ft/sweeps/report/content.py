"""Everything the page shows, in words and figures."""

import base64
import json
from collections import Counter
from pathlib import Path
from typing import Any

from ft.errors import UserError
from ft.job_folder import FAILED
from ft.page.words import duration_in_words
from ft.scoring.intervals import Interval
from ft.sweeps.material import Material, Row
from ft.sweeps.ranking import reason
from ft.sweeps.report.decision import decision
from ft.sweeps.report.importances import importance_plot, importances
from ft.sweeps.report.parallel import parallel_plot
from ft.sweeps.report.pictures import cost_plots, curve_plots, slice_plots
from ft.sweeps.report.rivals import MOST_RIVALS, rivals
from ft.sweeps.report.saved import saved, total
from ft.sweeps.uncertainty import IMAGES, MOST_RESAMPLED, SEEDS, Uncertainty, seed_values, spread, uncertainties
from ft.sweeps.words import value_in_words

# Told in per cent; the others as they are.
PER_CENT = frozenset({"acc", "top5", "exact", "exact_tuned"})
# Of a run's summary, what no leaderboard needs a column for.
BOOKKEEPING = frozenset({"best_epoch", "epochs", "seconds", "images_per_second", "bad_images"})
# Share of a value, from which on two of them are told to differ.
NOTICEABLE = 1e-4
# Beyond them, a table is wider than anybody reads; sweep.csv has all.
MOST_METRICS = 4


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
        "lower": material.mode == "min",
        "keys": [(key, material.names[key]) for key in material.keys],
        "shown_metrics": _metrics(material),
        "leaders": [_leader(material, row, place, sure) for place, row in enumerate(_ordered(material))],
        "interval_note": _interval_note(material, sure),
        "precision_note": _precision_note(material, sure),
        "soup": _soup(material),
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


def number(measure: str, value: float) -> str:
    """A metric as people read it."""
    return f"{100 * value:.2f} %" if measure in PER_CENT else f"{value:.4g}"


def _lead(material: Material) -> str:
    counts = Counter(str(row["state"]) for row in material.rows)
    told = ", ".join(f"{count} {state}" for state, count in counts.items())
    seeds = int(material.asked.get("seeds") or 1)
    each = f", {seeds} seeds each" if seeds > 1 else ""
    return f"{len(material.rows)} trial{'s' * (len(material.rows) != 1)}{each}: {told}."


def _range(measure: str, interval: Interval) -> str:
    low, high = number(measure, interval.low), number(measure, interval.high)
    return f"{low.removesuffix(' %')} to {high}"


def _winner(material: Material, sure: dict[int, Uncertainty]) -> list[dict[str, str]]:
    """The cards at the top; none without a winner."""
    if not material.ranked:
        return []
    best, *others = material.ranked
    known = sure.get(best["number"])
    over = ""
    if known is not None:
        what = f"{len(seed_values(best))} seeds" if known.over == SEEDS else "images"
        over = f"{_range(material.measure, known.interval)} over {what}"
    cards = [
        {"name": f"best {material.metric}", "value": number(material.measure, best["value"]), "range": over,
         "other": ""}
    ]  # fmt: skip
    tested = material.metric.replace("val/", "test/", 1)
    if tested != material.metric and tested in best["metrics"]:
        cards.append({"name": tested, "value": number(material.measure, best["metrics"][tested]),
                      "range": "its value on images that chose nothing", "other": ""})  # fmt: skip
    if others:
        second = others[0]
        cards.append({"name": "second", "value": number(material.measure, second["value"]),
                      "range": material.name_of(second), "other": ""})  # fmt: skip
    cards.append({"name": "time", "value": duration_in_words(sum(row["seconds"] for row in material.rows)),
                  "range": "of all runs", "other": ""})  # fmt: skip
    return cards


def _metrics(material: Material) -> list[str]:
    names = dict.fromkeys(name for row in material.rows for name in row["metrics"])
    tested = material.metric.replace("val/", "test/", 1)
    wanted = [*(material.asked.get("metrics") or {}), tested, *names]
    kept = [name for name in wanted if name in names and name not in BOOKKEEPING and name != material.metric]
    return list(dict.fromkeys(kept))[:MOST_METRICS]


def _ordered(material: Material) -> list[Row]:
    ranked = {row["number"] for row in material.ranked}
    return [*material.ranked, *(row for row in material.rows if row["number"] not in ranked)]


def _leader(material: Material, row: Row, place: int, sure: dict[int, Uncertainty]) -> dict[str, Any]:
    known, deviation = sure.get(row["number"]), spread(row)
    best = material.ranked[0]["value"] if material.ranked else None
    return {
        "number": row["number"],
        "state": row["state"],
        "best": place == 0 and bool(material.ranked),
        "value": row["value"],
        "told": "" if row["value"] is None else number(material.measure, row["value"]),
        "gap": "" if best is None or row["value"] is None else abs(row["value"] - best),
        "interval": "" if known is None else _range(material.measure, known.interval),
        "over": "" if known is None else known.over,
        "spread": deviation,
        "spread_told": "" if deviation is None else number(material.measure, deviation),
        "params": [value_in_words(row["params"][key]) if key in row["params"] else "" for key in material.keys],
        "metrics": [
            (row["metrics"].get(name), number(name.rpartition("/")[2], row["metrics"][name])) if name in row["metrics"]
            else (None, "")
            for name in _metrics(material)
        ],
        "seconds": row["seconds"],
        "time": duration_in_words(row["seconds"]),
    }  # fmt: skip


def _interval_note(material: Material, sure: dict[int, Uncertainty]) -> str:
    if material.is_of_backbones:
        return "Intervals of 95 % from the standard error over the held-out images."
    kinds = {each.over for each in sure.values()}
    told = []
    if SEEDS in kinds:
        told.append("over the seeds (Student's t)")
    if kinds - {SEEDS}:
        told.append(f"over the validation images where there is one seed (bootstrap; the best {MOST_RESAMPLED} trials)")
    return f"Intervals of 95 % {' and '.join(told)}." if told else ""


def _precision_note(material: Material, sure: dict[int, Uncertainty]) -> str:
    """Where training has scored stored features in half precision, whole images say something slightly different."""
    apart = [
        abs(sure[row["number"]].interval.value - row["value"])
        for row in material.ranked
        if row["number"] in sure and sure[row["number"]].over == IMAGES
    ]
    most = max(apart, default=0.0)
    if most < NOTICEABLE * max(abs(row["value"]) for row in material.ranked or [{"value": 1.0}]):
        return ""
    return (
        f"Intervals and tests are of the stored predictions, which whole images went through; the values are those of "
        f"training, whose stored features are rounded. The two differ by up to {_apart(material, most)}."
    )


def _apart(material: Material, difference: float) -> str:
    return f"{100 * difference:.2f} points" if material.measure in PER_CENT else f"{difference:.3g}"


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


def _soup(material: Material) -> dict[str, Any] | None:
    """What the average of the best runs is worth, where one was made."""
    file = material.folder / "soup.json"
    if not file.is_file():
        return None
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{file} is not valid JSON ({error}): delete it, and run the sweep again.") from None
    value = found.get("value")
    told = "" if value is None else number(material.measure, value)
    gap = "" if value is None or not material.ranked else abs(value - material.ranked[0]["value"])
    return {"value": value, "told": told, "gap": gap, "kept": len(found["kept"]) if isinstance(found["kept"], list)
            else found["kept"], "members": len(found["members"]), "run": found.get("run") or ""}  # fmt: skip


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
