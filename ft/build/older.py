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
    for key, value in (("budget", None), ("choices", {})):
        config.setdefault(key, value)
    config.setdefault("on_nan", "stop")
    config.setdefault("checkpoint", {"on_error": "stop"})
    config.setdefault("on_nan_limits", {"skips": 10, "rollbacks": 3, "lr_factor": 0.5})
    config["trainer"].setdefault("micro_batch", None)
    for key, value in (("timeout", 600), ("changed", "error"), ("decoded", "off"), ("decoded_limit", 1.0)):
        config["data"].setdefault(key, value)
    for key, value in (("flip", True), ("recipe", None)):
        config["data"]["suggested"].setdefault(key, value)
    return config
