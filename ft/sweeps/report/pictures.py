"""Learning curves of all runs, the value against each parameter, and what it costs."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ft.job_folder import PRUNED
from ft.page.figures import BLUE, GREEN, INK, ORANGE, Plot, draw
from ft.sweeps.report.axis import Axis, short, thinned
from ft.sweeps.report.material import Material, Row
from ft.sweeps.report.pareto import front

# In all pictures of curves together; thinner lines say the same, and a page stays small.
MOST_POINTS = 16_000
MOST_SLICES = 12
# More points become an image, or the page would be slow.
MOST_SHAPES = 400
# So many points are drawn large.
FEW = 40


def curve_plots(material: Material, folder: Path) -> list[Plot]:
    """Metric and validation loss of every run by epoch; the best trial stands out, pruned ones are faint."""
    runs = [(row, job, material.history(job)) for row in material.rows for job in row["jobs"] if job["run"]]
    best = material.ranked[0]["number"] if material.ranked else None
    found = []
    columns = {"curves_metric": material.metric, "curves_loss": "val/loss"}
    for name, column in columns.items() if material.metric != "val/loss" else [("curves_loss", "val/loss")]:
        lines = [(row, job, history.series(column)) for row, job, history in runs if column in history.columns]
        lines = [(row, job, series) for row, job, series in lines if series[0]]
        if lines:
            alt = f"{column} by epoch of {len(lines)} runs."
            found.append(draw(folder, name, alt, _curves(lines, column, best), height=3.4))
    return found


def _curves(
    lines: Sequence[tuple[Row, Mapping[str, Any], tuple[list[int], list[float]]]], title: str, best: Any
) -> Any:
    most = max(2, MOST_POINTS // len(lines))

    def paint(axes: Any) -> None:
        from matplotlib.collections import LineCollection
        from matplotlib.ticker import MaxNLocator

        strong = 0.75 if len(lines) <= 12 else 0.4 if len(lines) <= 60 else 0.2
        # Drawn in this order: what stands out is on top.
        kinds = {
            "pruned": {"color": INK, "alpha": 0.3 * strong + 0.08, "linewidth": 1.0},
            "others": {"color": BLUE, "alpha": strong, "linewidth": 1.2},
            "best": {"color": ORANGE, "linewidth": 2.2},
        }
        for kind, look in kinds.items():
            own = [thinned(list(zip(x, y, strict=True)), most) for row, job, (x, y) in lines
                   if _kind(row, job, best) == kind]  # fmt: skip
            if own:
                # One shape for all: a line each would take seconds.
                axes.add_collection(LineCollection(own, label=kind, **look))
                dots = [points[0] for points in own if len(points) == 1]
                axes.plot([x for x, _ in dots], [y for _, y in dots], linestyle="", marker="o", markersize=2.5,
                          color=look["color"], alpha=look.get("alpha"))  # fmt: skip
        axes.autoscale()
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set(xlabel="epoch", title=title)
        _legend(axes)

    return paint


def _kind(row: Row, job: Mapping[str, Any], best: Any) -> str:
    if row["number"] == best:
        return "best"
    return "pruned" if PRUNED in (row["state"], job["status"]) else "others"


def slice_plots(material: Material, keys: Sequence[str], folder: Path) -> list[Plot]:
    """The value against each parameter, the most important first."""
    if len(material.searched) < 2 or not material.ranked:
        return []
    found = []
    for at, key in enumerate(keys[:MOST_SLICES]):
        axis = Axis.of(material, key)
        alt = f"{material.searched_metric} against {key}."
        found.append(draw(folder, f"slice_{at}", alt, _slice(material, axis)))
    return found


def _slice(material: Material, axis: Axis) -> Any:
    rows = [(axis.value(row), row) for row in material.searched]
    known = [(value, row["value"], row["number"]) for value, row in rows if value is not None]

    def paint(axes: Any) -> None:
        rasterized = len(known) > MOST_SHAPES
        best = material.ranked[0]["number"]
        x = [value + _jitter(number) if axis.choices else value for value, _, number in known]
        y = [result for _, result, _ in known]
        size, alpha = (34, 0.85) if len(known) <= FEW else (18, 0.55)
        axes.scatter(x, y, s=size, color=BLUE, alpha=alpha, linewidth=0, rasterized=rasterized)
        for at, (_, result, number) in enumerate(known):
            if number == best:
                axes.scatter([x[at]], [result], s=52, color=ORANGE, zorder=4, label="best")
        if axis.choices:
            told = False
            for place in range(len(axis.choices)):
                own = [result for value, result, _ in known if value == place]
                if own:
                    axes.plot([place - 0.3, place + 0.3], [sum(own) / len(own)] * 2, color=GREEN, linewidth=2,
                              label=None if told else "mean")  # fmt: skip
                    told = True
            names = [short(name) for name in axis.choices]
            turned = sum(len(name) + 2 for name in names) > 52
            axes.set_xticks(range(len(names)), names, rotation=40 if turned else 0, ha="right" if turned else "center")
            axes.set_xlim(-0.6, len(names) - 0.4)
        elif axis.log:
            axes.set_xscale("log")
        axes.set_title(axis.key.replace("$", r"\$"))
        axes.set_ylabel(material.searched_metric)
        _legend(axes)

    return paint


def _legend(axes: Any) -> None:
    """Above the figure, at the end of the title's line: inside, it would lie on lines."""
    labels = axes.get_legend_handles_labels()[1]
    if labels:
        axes.legend(loc="lower right", bbox_to_anchor=(1.0, 0.99), ncols=len(labels), fontsize=8, borderaxespad=0,
                    columnspacing=1.2, handlelength=1.4)  # fmt: skip


def _jitter(number: int) -> float:
    """Trials of the same choice beside each other; the golden ratio spreads any count of them evenly."""
    return 0.5 * ((number * 0.6180339887) % 1 - 0.5)


def cost_plots(material: Material, folder: Path) -> list[Plot]:
    """The value against the seconds, and one metric against another where the sweep has several; fronts as lines."""
    found = []
    rows = material.ranked
    if len(rows) > 1:
        points = [(row["seconds"], row["value"], row["number"]) for row in rows]
        found.append(
            _pareto(folder, "pareto_cost", points, ("seconds a trial", "min"), (material.metric, material.mode))
        )
    metrics = dict(material.asked.get("metrics") or {})
    if len(metrics) > 1:
        one, two = list(metrics.items())[:2]
        points = [
            (row["metrics"][one[0]], row["metrics"][two[0]], row["number"])
            for row in rows
            if one[0] in row["metrics"] and two[0] in row["metrics"]
        ]
        if len(points) > 1:
            found.append(_pareto(folder, "pareto_metrics", points, one, two))
    return found


def _pareto(
    folder: Path, name: str, points: Sequence[tuple[float, float, int]], x: tuple[str, str], y: tuple[str, str]
) -> Plot:
    best = front([(one, two) for one, two, _ in points], (x[1], y[1]))

    def paint(axes: Any) -> None:
        rest = [point for at, point in enumerate(points) if at not in best]
        size, alpha = (34, 0.85) if len(points) <= FEW else (18, 0.5)
        axes.scatter([point[0] for point in rest], [point[1] for point in rest], s=size, color=BLUE, alpha=alpha,
                     linewidth=0, rasterized=len(rest) > MOST_SHAPES)  # fmt: skip
        ordered = sorted(points[at] for at in best)
        where = "post" if x[1] == "min" else "pre"
        axes.step([point[0] for point in ordered], [point[1] for point in ordered], where=where, color=ORANGE,
                  linewidth=1.2, alpha=0.8)  # fmt: skip
        axes.scatter([point[0] for point in ordered], [point[1] for point in ordered], s=34, color=ORANGE, zorder=3,
                     label="nothing is better in both")  # fmt: skip
        for one, two, number in ordered[:: -(-len(ordered) // 8)]:
            above = 7 if y[1] == "max" else -12
            axes.annotate(f"{number}", (one, two), xytext=(0, above), textcoords="offset points", fontsize=8,
                          ha="center", annotation_clip=False)  # fmt: skip
        least = min(point[0] for point in points)
        if least > 0 and max(point[0] for point in points) / least > 10:
            axes.set_xscale("log")
        axes.margins(y=0.12)
        axes.set(xlabel=f"{x[0]} ({'lower' if x[1] == 'min' else 'higher'} is better)", ylabel=y[0])
        axes.set_title(f"{y[0]} and {x[0]}")
        _legend(axes)

    return draw(
        folder, name, f"{y[0]} against {x[0]}; the points that none beats in both are joined.", paint, height=3.4
    )
