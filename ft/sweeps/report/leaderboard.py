"""The leaderboard: a row a trial, its interval, and what has to be said of these."""

from typing import Any

from ft.page.words import duration_in_words
from ft.plain_files import read_json
from ft.scoring.intervals import Interval
from ft.sweeps.report.material import Material, Row
from ft.sweeps.report.uncertainty import IMAGES, MOST_RESAMPLED, SEEDS, Uncertainty, spread
from ft.sweeps.words import value_in_words

# Told in per cent; the others as they are.
PER_CENT = frozenset({"acc", "top5", "exact", "exact_tuned"})
# Of a run's summary, what no leaderboard needs a column for.
BOOKKEEPING = frozenset({"best_epoch", "epochs", "seconds", "images_per_second", "bad_images"})
# Share of a value, from which on two of them are told to differ.
NOTICEABLE = 1e-4
# Beyond them, a table is wider than anybody reads; sweep.csv has all.
MOST_METRICS = 4


def number(measure: str, value: float) -> str:
    """A metric as people read it."""
    return f"{100 * value:.2f} %" if measure in PER_CENT else f"{value:.4g}"


def range_in_words(measure: str, interval: Interval) -> str:
    """Both ends, the unit once."""
    low, high = number(measure, interval.low), number(measure, interval.high)
    return f"{low.removesuffix(' %')} to {high}"


def shown_metrics(material: Material) -> list[str]:
    """Metrics that have a column: those that were optimised, that of the test split, then others."""
    names = dict.fromkeys(name for row in material.rows for name in row["metrics"])
    tested = material.metric.replace("val/", "test/", 1)
    wanted = [*(material.asked.get("metrics") or {}), tested, *names]
    kept = [name for name in wanted if name in names and name not in BOOKKEEPING and name != material.metric]
    return list(dict.fromkeys(kept))[:MOST_METRICS]


def ordered(material: Material) -> list[Row]:
    """Trials with a value, the best first, then the others."""
    ranked = {row["number"] for row in material.ranked}
    return [*material.ranked, *(row for row in material.rows if row["number"] not in ranked)]


def leader(material: Material, row: Row, place: int, sure: dict[int, Uncertainty]) -> dict[str, Any]:
    """One row of the table."""
    known, deviation = sure.get(row["number"]), spread(row)
    return {
        "number": row["number"],
        "state": row["state"],
        "best": place == 0 and bool(material.ranked),
        "value": row["value"],
        "told": "" if row["value"] is None else number(material.measure, row["value"]),
        "interval": "" if known is None else range_in_words(material.measure, known.interval),
        "over": "" if known is None else known.over,
        "spread": deviation,
        "spread_told": "" if deviation is None else number(material.measure, deviation),
        "params": [value_in_words(row["params"][key]) if key in row["params"] else "" for key in material.keys],
        "metrics": [
            (row["metrics"].get(name), number(name.rpartition("/")[2], row["metrics"][name])) if name in row["metrics"]
            else (None, "")
            for name in shown_metrics(material)
        ],
        "seconds": row["seconds"],
        "time": duration_in_words(row["seconds"]),
    }  # fmt: skip


def interval_note(material: Material, sure: dict[int, Uncertainty]) -> str:
    """What the intervals are over."""
    if material.is_of_backbones:
        return "Intervals of 95 % from the standard error over the held-out images."
    kinds = {each.over for each in sure.values()}
    told = []
    if SEEDS in kinds:
        told.append("over the seeds (Student's t)")
    if kinds - {SEEDS}:
        told.append(f"over the validation images where there is one seed (bootstrap; the best {MOST_RESAMPLED} trials)")
    return f"Intervals of 95 % {' and '.join(told)}." if told else ""


def precision_note(material: Material, sure: dict[int, Uncertainty]) -> str:
    """Where training has scored stored features in half precision, whole images say something slightly different."""
    apart = [
        abs(sure[row["number"]].interval.value - row["value"])
        for row in material.ranked
        if row["number"] in sure and sure[row["number"]].over == IMAGES
    ]
    most = max(apart, default=0.0)
    if most <= NOTICEABLE * max((abs(row["value"]) for row in material.ranked), default=0.0):
        return ""
    return (
        f"Intervals and tests are of the stored predictions, which whole images went through; the values are those of "
        f"training, whose stored features are rounded. The two differ by up to {_apart(material, most)}."
    )


def _apart(material: Material, difference: float) -> str:
    return f"{100 * difference:.2f} points" if material.measure in PER_CENT else f"{difference:.3g}"


def soup(material: Material) -> dict[str, Any] | None:
    """What the average of the best runs is worth, where one was made."""
    file = material.folder / "soup.json"
    if not file.is_file():
        return None
    found = read_json(file)
    value = found["value"]
    told = "" if value is None else number(material.measure, value)
    return {
        "value": value,
        "told": told,
        "kept": len(found["kept"]),
        "members": len(found["members"]),
        "run": found["run"],
    }
