"""All checks in a row, and ``doctor.json`` made of what they find."""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ft.errors import require
from ft.input_spec import InputSpec
from ft.results.doctor.balance import balance_findings, count
from ft.results.doctor.copies import Copies, copies_findings, identical
from ft.results.doctor.finding import Finding, worst_first
from ft.results.doctor.look import look_at_all
from ft.results.doctor.near import near_copies
from ft.results.doctor.shapes import shape_findings
from ft.results.doctor.subject import Subject
from ft.results.doctor.unreadable import unreadable_finding

# Progress for people: what is done, and how many there are; gives what is to be called after each.
Progress = Callable[[str, int], Callable[[int], None]]
Features = Callable[[Callable[[int], None]], tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class Limits:
    """From where on something is worth a line; the keys of ``conf/doctor.yaml``.

    Raises:
        UserError: One is out of range.

    Attributes:
        phash_bits: Of 64 that may differ between near duplicates.
        dhash_bits: Likewise.
        likeness: Correlation of the details of near duplicates.
        min_images: Of the training split, below which a class is small.
        max_ratio: Of the largest training class to the smallest.
        extreme_aspect: Longer side by shorter side.
        folds: Of the cross-validation that looks for wrong labels.
    """

    phash_bits: int
    dhash_bits: int
    likeness: float
    min_images: int
    max_ratio: float
    extreme_aspect: float
    folds: int

    def __post_init__(self) -> None:
        for key in ("phash_bits", "dhash_bits"):
            require(0 <= getattr(self, key) <= 64, f"limits.{key}", "must be between 0 and 64", getattr(self, key))
        require(0 < self.likeness <= 1, "limits.likeness", "must be in (0, 1]", self.likeness)
        for key in ("max_ratio", "extreme_aspect"):
            require(getattr(self, key) >= 1, f"limits.{key}", "must be at least 1", getattr(self, key))
        require(self.folds >= 2, "limits.folds", "must be at least 2", self.folds)


@dataclass(frozen=True)
class Diagnosis:
    """Everything that was found.

    Attributes:
        subject: The data set.
        images: Readable ones, by split.
        counts: By split and class.
        findings: The worst first.
        skipped: One line for each check that was not done.
        content: Of ``doctor.json``, without the pictures.
    """

    subject: Subject
    images: dict[str, int]
    counts: dict[str, dict[str, int]]
    findings: list[Finding]
    skipped: list[str]
    content: dict[str, Any]


def examine(
    subject: Subject,
    spec: InputSpec,
    limits: Limits,
    *,
    bad_headers: Iterable[tuple[str, str]],
    features: Features | None,
    no_features: str,
    seed: int,
    progress: Progress,
) -> Diagnosis:
    """Looks at a data set in every way.

    Args:
        subject: The data set.
        spec: What the model sees of an image.
        limits: From where on something is worth a line.
        bad_headers: Name and reason of files that are no images, and not in the subject.
        features: Gives ``(R,)`` rows and ``(R, F)`` features of them; ``None``: labels are not looked at.
        no_features: Why not.
        seed: Of the cross-validation.
        progress: For people.
    """
    started = time.perf_counter()
    tick = progress("looking at images", len(subject))
    looks = look_at_all(subject, lambda: tick(1))
    images, counts = count(subject, looks.rows)
    exact = identical(subject, looks)
    near = near_copies(
        looks, exact, phash_bits=limits.phash_bits, dhash_bits=limits.dhash_bits, likeness=limits.likeness
    )
    findings = [
        *copies_findings(subject, [*exact, *near]),
        *unreadable_finding(subject, bad_headers, looks),
    ]
    skipped = []
    if features is not None:
        # Here, so that nobody needs cleanlab who does not look at labels.
        from ft.results.doctor.labels import label_findings

        rows, values = features(progress("computing features", len(subject)))
        groups = copy_numbers(len(subject), [*exact, *near])[rows]
        found, left_out = label_findings(subject, rows, values, groups, folds=limits.folds, seed=seed)
        findings += found
        skipped += [left_out] if left_out else []
    else:
        skipped.append(f"suspicious labels: {no_features}")
    findings += balance_findings(counts, min_images=limits.min_images, max_ratio=limits.max_ratio)
    findings += shape_findings(subject, looks, spec, extreme_aspect=limits.extreme_aspect)
    findings = worst_first(findings)
    content = {
        "task": subject.task,
        "images": images,
        "counts": counts,
        "input": {"width": spec.width, "height": spec.height},
        "findings": [finding.as_dict() for finding in findings],
        "skipped": skipped,
        "seconds": round(time.perf_counter() - started, 2),
    }
    return Diagnosis(subject, images, counts, findings, skipped, content)


def copy_numbers(size: int, groups: Iterable[Copies]) -> np.ndarray:
    """``(size,)``: rows with the same number are copies of each other. A later group may hold an earlier one."""
    numbers = np.arange(size)
    for group in groups:
        numbers[list(group.rows)] = group.rows[0]
    return numbers
