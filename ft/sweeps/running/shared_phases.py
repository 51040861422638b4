"""Which runs of a sweep are the same computation for a while: they share their first phases.

    a   phase 1   phase 2   phase 3          runs whole, and keeps what it is at the end of phases 1 and 2
    b   .................   phase 3'         begins where a was after phase 2
    c   .......   phase 2'  phase 3          begins where a was after phase 1

Shared are the first phases of ``recipe=auto`` by jobs whose configs differ in nothing but

- later entries of ``recipe.phases``: a schedule runs once in each phase and knows of no other;
- ``recipe.always``, ``recipe.min_gain`` and ``recipe.min_loss_gain``, as long as none has been asked: during the phases
  that both go through in any case.

Nothing is shared where the end of a run is felt from its beginning: with a budget or a time limit, with
``trainer.max_epochs`` (it is divided among all phases), by a run of one phase (its schedule ends where the trainer
does), by ``recipe=full`` and ``linear``, and with plugins, which may ask how long a run is. Nor by runs of which only
one has phases of several views: that decides whether training images are augmented at all.

What is planned here is checked once more with the model at hand (``ft.jobs.fork``): of a model with few stages two
entries may be one phase, and random weights have none.
"""

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from ft.job_folder import NOT_OF_A_JOB

# Of the recipe, what may differ between runs that begin alike.
ASKED = ("always", "min_gain", "min_loss_gain")
LATER = ("phases", *ASKED)


class Fork(NamedTuple):
    """Where a job begins.

    Attributes:
        source: Key of the job that it continues; has to have ended by then, and keeps its phase for it.
        phase: So many phases of it, at least 1.
    """

    source: str
    phase: int


def plan(configs: Mapping[str, Mapping[str, Any]]) -> dict[str, Fork]:
    """Which jobs begin from another.

    Args:
        configs: By job key, composed and resolved, in the order in which they will run.

    Returns:
        By the key of the job that begins from another, always an earlier one. A source runs all the phases that it is
        asked to keep itself.
    """
    alike: dict[str, list[str]] = {}
    forks: dict[str, Fork] = {}
    for key, config in configs.items():
        if not _has_phases(config):
            continue
        earlier = alike.setdefault(_all_but_later(config), [])
        candidates = [Fork(other, num_shared(configs[other], config)) for other in earlier]
        # Of several that share as much the first: it is the one that has run all of it.
        longest = max(candidates, key=lambda fork: fork.phase, default=None)
        if longest is not None and longest.phase:
            forks[key] = longest
        earlier.append(key)
    return forks


def num_shared(one: Mapping[str, Any], other: Mapping[str, Any]) -> int:
    """How many phases two runs share that differ in ``LATER`` alone."""
    recipes = one["recipe"], other["recipe"]
    phases = [recipe["phases"] for recipe in recipes]
    if len({all(phase["views"] == 1 for phase in each) for each in phases}) > 1:
        return 0
    shared = 0
    for pair in zip(*phases, strict=False):
        if pair[0] != pair[1]:
            break
        shared += 1
    if any(recipes[0].get(name) != recipes[1].get(name) for name in ASKED):
        # At the end of a phase beyond these, and for each checkpoint in it, the two are asked.
        shared = min(shared, *(recipe["always"] for recipe in recipes))
    while shared and any(_goes_on(each, shared) for each in phases):
        shared -= 1
    return shared


def _goes_on(phases: list[Mapping[str, Any]], at: int) -> bool:
    """Two entries of the same depth are one phase."""
    return at < len(phases) and phases[at]["depth"] == phases[at - 1]["depth"]


def _has_phases(config: Mapping[str, Any]) -> bool:
    recipe, trainer = config["recipe"], config["trainer"]
    return (
        recipe["name"] == "auto"
        and config["data"]["suggested"]["recipe"] in (None, "auto")
        and len({phase["depth"] for phase in recipe["phases"]}) > 1
        and config["model"]["open"] == "all"
        and not config["optimizer"]["full_batch"]
        and not config["plugins"]
        and config["budget"] is None
        and trainer["max_epochs"] is None
        and trainer.get("max_time") is None
    )


def _all_but_later(config: Mapping[str, Any]) -> str:
    recipe = {name: value for name, value in config["recipe"].items() if name not in LATER}
    rest = {name: value for name, value in config.items() if name not in NOT_OF_A_JOB}
    return json.dumps({**rest, "recipe": recipe}, sort_keys=True)
