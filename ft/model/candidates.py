"""Which of several models have pretrained weights in reach; the hub is asked for all of them at once."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from ft.model.backbone import pretrained_cfg
from ft.model.weights import Weights, find_weights


def weights_of(models: Mapping[str, Mapping[str, Any]]) -> dict[str, Weights]:
    """Where each model's weights are; ``random`` of those without.

    Args:
        models: By any name, the config's section ``model``.

    Raises:
        UserError: A model's name is unknown to timm.
    """

    def find(section: Mapping[str, Any]) -> Weights:
        hub_id = pretrained_cfg(section["name"]).hf_hub_id
        return find_weights(
            section["name"], weights=section["weights"], weights_dir=section["weights_dir"], hub_id=hub_id
        )

    for section in models.values():
        pretrained_cfg(section["name"])  # a mistyped name is told before anything is downloaded
    # A hub that does not answer is waited for once, not once a model.
    with ThreadPoolExecutor(max(1, len(models))) as threads:
        return dict(zip(models, threads.map(find, models.values()), strict=True))
