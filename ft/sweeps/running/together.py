"""Which jobs are computed in one go: runs of ``recipe=head`` that differ in their heads alone (``ft.jobs.heads``).

Such jobs have the same model below the head and the same images, so that features are computed once and all heads are
trained on them at the same time. What may differ is what a head is and how it is trained: ``HEAD_KEYS``.
"""

import json
import math
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

from ft.job_folder import NOT_OF_A_JOB

# ``seed`` too: it decides the order of features, dropout and a head's first weights, and those are each head's own.
HEAD_KEYS = (
    "seed",
    "model.head.hidden",
    "model.head.activation",
    "model.head.drop_rate",
    "model.head.norm",
    "model.head_init",
    "recipe.head_init",
    "recipe.head_training",
    "recipe.mixup",
    "task.label_smoothing",
)
# Of weights, gradients and two moments of them, and what a step computes.
BYTES_A_WEIGHT = 4 * 6
# Not known before a job begins; too many make a group smaller than it need be, and no less right.
FEATURES, OUTPUTS = 4096, 100
AT_ONCE_GIB = 2.0
# A sweep that is killed meanwhile has so many heads to train again at most.
AT_MOST = 256
OUR_MODEL = "ft.model.timm_model.timm_model"


def groups(configs: Mapping[str, Mapping[str, Any]]) -> list[list[str]]:
    """Keys of jobs that are computed in one go, in the order in which they were asked for.

    Args:
        configs: By job key, composed and resolved.

    Returns:
        Every key once; a job that goes with no other is alone.
    """
    alike: dict[str, list[str]] = {}
    for key, config in configs.items():
        alike.setdefault(_below_the_head(config) if _is_of_heads(config) else key, []).append(key)
    return [part for members in alike.values() for part in _parts(members, configs)]


def _is_of_heads(config: Mapping[str, Any]) -> bool:
    """Whether a run is only its head, and every part of it is one that ``ft.jobs.heads`` computes as the run would."""
    return (
        config["recipe"]["name"] == "head"
        # Plugins may change anything; a logger, a budget and several processes are a single run's.
        and not config["plugins"]
        and not config["logger"]
        and config["budget"] is None
        and config["model"]["_target_"] == OUR_MODEL
        and config["model"]["weights"] != "none"
        and not config["optimizer"]["full_batch"]
        and config["trainer"]["devices"] in (1, "1")
        and config["trainer"]["num_nodes"] == 1
        and config["trainer"]["strategy"] == "auto"
    )


def _below_the_head(config: Mapping[str, Any]) -> str:
    """Everything but what a head is and how it is trained."""
    rest = json.loads(json.dumps({name: value for name, value in config.items() if name not in NOT_OF_A_JOB}))
    for key in HEAD_KEYS:
        *groups_of, leaf = key.split(".")
        holder = rest
        for group in groups_of:
            holder = holder.get(group, {})
        holder.pop(leaf, None)
    return json.dumps(rest, sort_keys=True)


def _parts(members: list[str], configs: Mapping[str, Mapping[str, Any]]) -> list[list[str]]:
    """As many at a time as memory allows, in parts of one size."""
    most = max(_bytes(configs[key]) for key in members) if len(members) > 1 else 1
    size = max(1, min(AT_MOST, int(AT_ONCE_GIB * 2**30 / most)))
    size = math.ceil(len(members) / math.ceil(len(members) / size))
    return [members[start : start + size] for start in range(0, len(members), size)]


def _bytes(config: Mapping[str, Any]) -> int:
    """That a head takes while it is trained, at most; of values that are no head's, nothing."""
    head = config["model"].get("head", {})
    hidden = [width for width in head.get("hidden") or [] if isinstance(width, int) and width > 0]
    weights = sum(one * other for one, other in pairwise([FEATURES, *hidden, OUTPUTS]))
    return BYTES_A_WEIGHT * weights
