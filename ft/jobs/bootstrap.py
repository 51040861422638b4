"""How sure a metric is: its values on images drawn again and again, the same draws for everyone who asks."""

import numpy as np
import torch
from torch import Tensor

from ft.tasks.task import Task

# The standard error that they give is itself off by 5 %.
DRAWS = 200


def bootstrapped(task: Task, logits: Tensor, targets: Tensor, *, draws: int = DRAWS) -> tuple[float, np.ndarray]:
    """The task's metric, and ``(draws,)`` of its values on as many images, drawn with replacement.

    Two models that predicted the same images are compared by the differences of their values, draw by draw. Efron
    1979, https://doi.org/10.1214/aos/1176344552.

    Args:
        task: Says which metric.
        logits: ``(N, K)``.
        targets: ``(N,)`` or ``(N, K)``.
        draws: How many times.
    """
    generator = np.random.default_rng(0)
    values = []
    for _ in range(draws):
        chosen = torch.from_numpy(generator.integers(len(targets), size=len(targets)))
        values.append(metric_value(task, logits[chosen], targets[chosen]))
    return metric_value(task, logits, targets), np.asarray(values)


def metric_value(task: Task, logits: Tensor, targets: Tensor) -> float:
    """``task.metric`` of some predictions; the loss, if that is what decides."""
    name = task.metric.rpartition("/")[2]
    if name == "loss":
        return float(task.loss(logits, targets))
    metric = task.metrics()[name]
    metric.update(task.probabilities(logits), task.metric_targets(targets))
    return float(metric.compute())
