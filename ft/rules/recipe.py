"""What is said of ``recipe`` by more than one value: its phases, a range, and a pair of limits."""

from collections.abc import Mapping
from typing import Any

from ft.errors import UserError, did_you_mean, require
from ft.rules.rule import above, at_least, up_to_one

# Of a phase; all of them have to be there.
KEYS = {
    "depth": up_to_one(),
    "steps": at_least(1),
    "views": at_least(1, int | None),
    "rate": above(0),
}


def refuse_wrong_recipe(recipe: Mapping[str, Any]) -> None:
    """Refuses what no run could go through.

    Args:
        recipe: The config's section; what it does not have is not checked.

    Raises:
        UserError: Names the key, and what it lacks, has too much, or must be.
    """
    if "phases" in recipe:
        _refuse_wrong_phases(recipe["phases"])
    crop = recipe.get("crop")
    if crop is not None:
        fits = len(crop) == 2 and 0 < crop[0] <= crop[1] <= 1
        require(fits, "recipe.crop", "must be [least, most] with 0 < least <= most <= 1", crop)
    least, most = recipe.get("min_epochs"), recipe.get("max_epochs")
    if least is not None and most is not None:
        require(least <= most, "recipe.min_epochs", f"must be at most recipe.max_epochs={most}", least)


def _refuse_wrong_phases(phases: Any) -> None:
    listed = isinstance(phases, list) and len(phases) > 0
    require(listed, "recipe.phases", f"must be a list of groups with {', '.join(KEYS)}", phases)
    for number, phase in enumerate(phases):
        key = f"recipe.phases.{number}"
        require(isinstance(phase, Mapping), key, f"must be a group with {', '.join(KEYS)}", phase)
        if unknown := [name for name in phase if name not in KEYS]:
            name = str(unknown[0])
            raise UserError(f"{key} has no {name}; it takes {', '.join(KEYS)}.{did_you_mean(name, KEYS)}")
        for name, rule in KEYS.items():
            if name not in phase:
                raise UserError(f"{key} lacks {name}: each phase has {', '.join(KEYS)}.")
            rule.check(f"{key}.{name}", phase[name])
