"""What ``GET /info`` tells, and what the page reads: the model, in plain facts."""

import platform
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ft.deploy.server.limits import Limits
from ft.inference.predictor import Predictor

PACKAGES = ("torch", "timm", "pillow", "litserve")


def model_name(predictor: Predictor) -> dict[str, str]:
    """The backbone, and the run it was trained in."""
    origin = Path(predictor.origin).name
    return {"name": str(predictor.card.get("backbone", origin)), "version": str(predictor.card.get("run", origin))}


def describe_model(predictor: Predictor, limits: Limits) -> dict[str, Any]:
    """Task, classes, preprocessing, origin, limits and versions."""
    reading = predictor.reading.as_dict()
    return {
        "model": model_name(predictor),
        "task": reading.pop("task"),
        "classes": reading.pop("classes"),
        "reading": reading,
        "preprocessing": asdict(predictor.spec),
        "origin": predictor.origin,
        "card": predictor.card,
        "limits": asdict(limits),
        "versions": {
            "ft-template": version("ft-template"),
            "python": platform.python_version(),
            **{name: version(name) for name in PACKAGES},
        },
    }
