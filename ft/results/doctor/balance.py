"""How many images each class has, in which split."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ft.results.doctor.finding import WARNING, Finding, plural
from ft.results.doctor.subject import CLASSIFICATION, REGRESSION, Subject

# In the order in which people think of them.
SPLITS = ("train", "val", "test")

Counts = Mapping[str, Mapping[str, int]]


def count(subject: Subject, rows: np.ndarray) -> tuple[dict[str, int], dict[str, dict[str, int]]]:
    """Images of each split, and images of each class in it; no classes where values are predicted.

    Args:
        subject: The data set.
        rows: ``(R,)`` of the readable images.
    """
    splits, targets = subject.splits[rows], subject.targets[rows]
    images = {split: int((splits == split).sum()) for split in SPLITS if split in subject.parts}
    if subject.task == REGRESSION:
        return images, {split: {} for split in images}
    hot = np.eye(len(subject.classes))[targets] if subject.task == CLASSIFICATION else targets > 0
    return images, {
        split: dict(zip(subject.classes, hot[splits == split].sum(0).astype(int).tolist(), strict=True))
        for split in images
    }


def balance_findings(counts: Counts, *, min_images: int, max_ratio: float) -> list[Finding]:
    """Classes that a split lacks, classes with few images, and how far apart the largest and the smallest are.

    Args:
        counts: By split and class.
        min_images: Of the training split, below which a class is small.
        max_ratio: Of the largest training class to the smallest, above which they are out of balance.
    """
    found = []
    missing = [{"split": s, "class": c} for s, classes in counts.items() for c, number in classes.items() if not number]
    if missing:
        title = f"{plural(len(missing), 'class is', 'classes are')} missing in a split"
        found.append(_finding("missing_classes", title, missing))
    train = dict(sorted(counts["train"].items(), key=lambda item: item[1]))
    small = [{"class": name, "count": number} for name, number in train.items() if number < min_images]
    if small:
        title = f"{plural(len(small), 'class has', 'classes have')} fewer than {min_images} training images"
        found.append(_finding("small_classes", title, small))
    present = {name: number for name, number in train.items() if number}
    if present and (ratio := max(present.values()) / min(present.values())) > max_ratio:
        total = sum(present.values())
        items = [
            {"class": name, "count": number, "share": round(number / total, 4)} for name, number in present.items()
        ]
        least, most = items[0], items[-1]
        title = (
            f"the largest class has {ratio:.1f} times the images of the smallest: "
            f"{most['class']} {most['count']:,}, {least['class']} {least['count']:,}"
        )
        found.append(_finding("imbalance", title, items))
    return found


def _finding(kind: str, title: str, items: Sequence[dict[str, Any]]) -> Finding:
    return Finding(kind, WARNING, title, list(items), [() for _ in items])
