"""Which parameters matter: fANOVA, the share of the value's variance that each explains alone.

Hutter, Hoos & Leyton-Brown 2014, https://proceedings.mlr.press/v32/hutter14.html; by Optuna, from the rows, so that a
grid without a study has them too.
"""

import warnings
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ft.page.figures import BLUE, Plot, draw
from ft.sweeps.report.material import Material
from ft.sweeps.words import value_in_words

# A forest of fewer trials explains the trials and not the parameters.
FEWEST_TRIALS = 8


@dataclass(frozen=True)
class Importances:
    """Key to its share, the largest first; where there are none, why."""

    shares: dict[str, float] = field(default_factory=dict)
    why_not: str = ""


def importances(material: Material) -> Importances:
    """Of the parameters that every trial with a value has, and that vary."""
    rows = material.searched
    common = [key for key in material.varied if all(key in row["params"] for row in rows)]
    keys = [key for key in common if len({value_in_words(row["params"][key]) for row in rows}) > 1]
    if len(rows) < FEWEST_TRIALS:
        return Importances(why_not=f"Importances need {FEWEST_TRIALS} finished trials; there are {len(rows)}.")
    if len(keys) < 2:
        return Importances(why_not="Importances need two parameters that vary in every trial.")
    if len({row["value"] for row in rows}) == 1:
        return Importances(why_not="Every trial has the same value: nothing is of importance.")
    if find_spec("optuna") is None:
        return Importances(why_not="Importances need optuna: pip install -c constraints.txt -e '.[sweep]'")
    return Importances(_fanova(material, keys))


def _fanova(material: Material, keys: list[str]) -> dict[str, float]:
    import optuna
    from optuna.importance import FanovaImportanceEvaluator, get_param_importances

    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        study = optuna.create_study(direction="maximize")
        spaces = {key: _distribution(material, key) for key in keys}
        for row in material.searched:
            params = {key: _plain(material, key, row["params"][key]) for key in keys}
            study.add_trial(optuna.trial.create_trial(params=params, distributions=spaces, value=row["value"]))
        with warnings.catch_warnings():
            # Optuna marks parts of its interface as experimental; what is used here has been there since 1.3.
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            shares = get_param_importances(study, evaluator=FanovaImportanceEvaluator(seed=0), params=keys)
    finally:
        optuna.logging.set_verbosity(before)
    return dict(sorted(shares.items(), key=lambda item: -item[1]))


def _distribution(material: Material, key: str) -> Any:
    """As wide as what was tried: the space itself may be wider."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution

    if not material.is_number(key):
        names = [value_in_words(row["params"][key]) for row in material.searched]
        return CategoricalDistribution(list(dict.fromkeys(names)))
    values = [float(row["params"][key]) for row in material.searched]
    return FloatDistribution(min(values), max(values), log=material.is_log(key) and min(values) > 0)


def _plain(material: Material, key: str, value: Any) -> float | str:
    return float(value) if material.is_number(key) else value_in_words(value)


def importance_plot(material: Material, found: Importances, folder: Path) -> list[Plot]:
    """Bars; none without importances."""
    if not found.shares:
        return []

    def paint(axes: Any) -> None:
        names = [material.names[key].replace("$", r"\$") for key in found.shares][::-1]
        values = [100 * share for share in found.shares.values()][::-1]
        axes.barh(range(len(names)), values, color=BLUE, height=0.62)
        for at, value in enumerate(values):
            axes.annotate(f"{value:.0f} %", (value, at), xytext=(4, 0), textcoords="offset points", va="center",
                          fontsize=8)  # fmt: skip
        axes.set_yticks(range(len(names)), names)
        axes.tick_params(axis="y", length=0)
        axes.set(xlabel="% of the variance", xlim=(0, max(values) * 1.15 or 1), title="Importance (fANOVA)")
        axes.grid(visible=False, axis="y")

    told = ", ".join(f"{material.names[key]} {100 * share:.0f} %" for key, share in found.shares.items())
    return [draw(folder, "importances", f"Importances: {told}.", paint, height=1.1 + 0.3 * len(found.shares))]
