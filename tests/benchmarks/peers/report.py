"""The tables of ``time_to_accuracy``."""

import math
import statistics
from collections.abc import Iterable
from typing import Any

NAMES = {
    "timm": "timm, full fine-tuning",
    "timm_bf16": "the same, bf16 and channels_last",
    "backbone_finetuning": "Lightning's BackboneFinetuning",
    "finetuning_scheduler": "finetuning-scheduler",
    "ours": "ours",
}
Row = dict[str, Any]


def kind_of(row: Row) -> tuple[Any, ...]:
    """What identifies a cell."""
    return tuple(row.get(key) for key in ("method", "model", "set", "seed", "kind"))


def picks(epochs: Iterable[Row]) -> list[tuple[float, float]]:
    """``(seconds, test accuracy)`` of the checkpoint that validation would pick, at every moment one was validated.

    Of two with the same validation accuracy the later one; ours says itself which one it kept.
    """
    best, test, found = -math.inf, 0.0, []
    for record in epochs:
        if record.get("kept", record["val"] >= best):
            best, test = record["val"], record["test"]
        found.append((record["seconds"], test))
    return found


def reached(epochs: Iterable[Row], target: float) -> float | None:
    """The first moment from which on every pick scores the target; ``None`` if the last pick does not."""
    since = None
    for seconds, test in picks(epochs):
        # The target is a mean of shares: equal shares may differ in their last bit.
        if test < target - 1e-9:
            since = None
        elif since is None:
            since = seconds
    return since


class Results:
    """The cells of one model and set."""

    def __init__(self, rows: list[Row], model: str, name: str) -> None:
        self.rows = [row for row in rows if (row["model"], row["set"]) == (model, name) and row["kind"] != "rate"]

    def runs(self, method: str) -> list[list[Row]]:
        """Records of every seed, with the seconds that count: measured, else extrapolated, else none (``nan``)."""
        by_seed: dict[int, Row] = {}
        for kind in ("accuracy", "full"):
            by_seed |= {row["seed"]: row for row in self._of(method, kind)}
        timing = self._of(method, "timing")
        runs = []
        for row in by_seed.values():
            seconds = [record["seconds"] for record in row["epochs"]]
            if row["kind"] == "accuracy":
                every = [row["epoch_seconds"] for row in timing] or [[math.nan] * len(seconds)]
                seconds = [statistics.mean(at) for at in zip(*every, strict=True)]
            runs.append([{**record, "seconds": at} for record, at in zip(row["epochs"], seconds, strict=True)])
        return runs

    def is_extrapolated(self, method: str) -> bool:
        return not self._of(method, "full")

    @property
    def target(self) -> float | None:
        tests = [run[-1]["test"] for run in self.runs("timm")]
        return statistics.mean(tests) if tests else None

    def seconds(self, method: str) -> float | None:
        """To the last epoch, mean over the seeds that were timed; ``None`` where none was."""
        ends = timed(run[-1]["seconds"] for run in self.runs(method))
        ends = ends or [row["seconds"] for row in self._of(method, "timing")]
        return statistics.mean(ends) if ends else None

    def to_target(self, method: str) -> list[float | None]:
        """Of each seed."""
        target = self.target
        return [] if target is None else [reached(run, target) for run in self.runs(method)]

    def finals(self, method: str) -> list[float]:
        """Test accuracy of the last pick, of each seed."""
        return [picks(run)[-1][1] for run in self.runs(method)]

    def _of(self, method: str, kind: str) -> list[Row]:
        return [row for row in self.rows if (row["method"], row["kind"]) == (method, kind)]


def table(rows: list[Row]) -> str:
    """Seconds to the target, ours beside full fine-tuning; then every method."""
    pairs = list(dict.fromkeys((row["model"], row["set"]) for row in rows if row["kind"] != "rate"))
    results = {pair: Results(rows, *pair) for pair in pairs}
    return "\n\n".join((_headline(results), _every_method(results), _rates(rows), "~: extrapolated from a few steps"))


def _headline(results: dict[tuple[str, str], Results]) -> str:
    lines = ["| model | set | target | timm, 8 epochs | ours to the target | ratio |", "|---|---|---|---|---|---|"]
    ratios, missed = [], 0
    for (model, name), found in results.items():
        full, ours = found.seconds("timm"), found.to_target("ours")
        ratio = None
        if full and timed(ours) and None not in ours:
            ratio = full / statistics.mean(timed(ours))
            ratios.append(ratio)
        missed += None in ours
        lines.append(
            f"| {model} | {name} | {_number(found.target, '.4f')} | {_seconds(found, 'timm', full)} | "
            f"{_spread(ours)} | {_number(ratio, '.1f')} |"
        )
    mean = f"{statistics.geometric_mean(ratios):.1f} over {len(ratios)}" if ratios else "-"
    return "\n".join(lines) + f"\n\nGeometric mean of the ratios: {mean}; target not reached by every seed: {missed}"


def _every_method(results: dict[tuple[str, str], Results]) -> str:
    lines = [
        "| model | set | | seeds | test accuracy | seconds in all | to the target |",
        "|---|---|---|---|---|---|---|",
    ]
    for (model, name), found in results.items():
        for method, title in NAMES.items():
            finals, seconds = found.finals(method), found.seconds(method)
            if finals or seconds:
                spread = f"{statistics.mean(finals):.4f} ({min(finals):.4f} to {max(finals):.4f})" if finals else "-"
                lines.append(
                    f"| {model} | {name} | {title} | {len(finals)} | {spread} | {_seconds(found, method, seconds)} | "
                    f"{_spread(found.to_target(method))} |"
                )
    return "\n".join(lines)


def _rates(rows: list[Row]) -> str:
    by_pair: dict[tuple[str, str], dict[float, float]] = {}
    for row in rows:
        if row["kind"] == "rate":
            by_pair.setdefault((row["model"], row["set"]), {})[row["rate"]] = row["val"]
    lines = ["Validation accuracy by rate of full fine-tuning:"]
    lines += [
        f"{model} {name}: " + ", ".join(f"{rate:g} {val:.4f}" for rate, val in sorted(found.items()))
        for (model, name), found in by_pair.items()
    ]
    return "\n".join(lines)


def _seconds(found: Results, method: str, seconds: float | None) -> str:
    return ("~" if seconds and found.is_extrapolated(method) else "") + _number(seconds, ".0f")


def _spread(seconds: list[float | None]) -> str:
    """Mean and range over the seeds that were timed, then how many got there untimed, and how many never."""
    known, missed = timed(seconds), seconds.count(None)
    untimed = len(seconds) - missed - len(known)
    parts = [f"{statistics.mean(known):.0f} ({min(known):.0f} to {max(known):.0f})"] if known else []
    parts += [f"reached by {untimed}, not timed"] if untimed else []
    parts += [f"not reached by {missed}"] if missed else []
    return "; ".join(parts) or "-"


def timed(seconds: Iterable[float | None]) -> list[float]:
    """Those that are known."""
    return [each for each in seconds if each is not None and not math.isnan(each)]


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)
