"""Run folders of before there were recipes and caches: what their configs lack, as those runs had it."""

from typing import Any


def complete(config: dict[str, Any]) -> dict[str, Any]:
    """Fills in what an older run's config does not say; one of this version stays as it is.

    Args:
        config: As the run folder holds it; changed in place.
    """
    config.setdefault("recipe", {"name": "full", "epochs": 8, "views": None, "head_training": {}})
    if config["recipe"]["name"] == "auto":
        config["recipe"].setdefault("mixup", 0.0)
    config.setdefault("cache", {"activations": False, "dtype": "auto", "memory": 0, "disk": 0})
    config.setdefault("budget", None)
    for key, value in (("decoded", "off"), ("decoded_limit", 1.0)):
        config["data"].setdefault(key, value)
    for key, value in (("flip", True), ("recipe", None)):
        config["data"]["suggested"].setdefault(key, value)
    return config
