"""Labels that may be wrong: a linear model that has not seen an image is sure of another class.

    features of the pretrained backbone --> logistic regression, each image predicted by a fold that lacks it
    --> confident learning (cleanlab): which labels are off, by how the classes are confused with each other

Northcutt et al. 2021, https://arxiv.org/abs/1911.00068. Copies of an image stay in one fold: they would give its label
away.
"""

from dataclasses import dataclass

import numpy as np
from cleanlab.filter import find_label_issues
from cleanlab.rank import get_label_quality_scores
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from ft.results.doctor.finding import WARNING, Finding, file_of, plural
from ft.results.doctor.subject import Subject

# For features with mean 0 and variance 1. A thousand of them and more separate a few thousand images by any labels:
# without a strong penalty wrong labels are learned. Of 0.0001 to 0.1 the one with the best probabilities on trashnet.
INVERSE_PENALTY = 0.01
# Only what both of cleanlab's ways to prune point at. With 76 of 2,527 labels of trashnet changed at random it named 62
# of them; what it named besides was a quarter less than with one of the two, and none of the known mistakes went.
FILTER = "both"
MAX_STEPS = 300


@dataclass(frozen=True)
class Suspects:
    """Which labels may be wrong.

    Attributes:
        at: ``(S,)`` positions among the features, the least likely label first.
        suggested: ``(S,)`` the likeliest class instead.
        quality: ``(S,)`` probability of the given label.
        accuracy: Share of all labels that the linear model predicts.
    """

    at: np.ndarray
    suggested: np.ndarray
    quality: np.ndarray
    accuracy: float


def suspects(features: np.ndarray, labels: np.ndarray, groups: np.ndarray, *, folds: int, seed: int) -> Suspects:
    """Finds them.

    Args:
        features: ``(N, F)``.
        labels: ``(N,)`` class numbers; each class has images in at least ``folds`` groups.
        groups: ``(N,)`` images with the same number are copies.
        folds: Number of parts of the cross-validation.
        seed: Of the parts.
    """
    names, numbers = np.unique(labels, return_inverse=True)
    model = make_pipeline(StandardScaler(), LogisticRegression(C=INVERSE_PENALTY, max_iter=MAX_STEPS))
    parts = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    probs = np.asarray(
        cross_val_predict(model, features, numbers, groups=groups, cv=parts, method="predict_proba"), dtype=float
    )
    quality = get_label_quality_scores(numbers, probs)
    wrong = find_label_issues(numbers, probs, filter_by=FILTER, n_jobs=1)
    at = np.flatnonzero(wrong)
    at = at[np.argsort(quality[at], kind="stable")]
    predicted = probs.argmax(1)
    return Suspects(at, names[predicted[at]], quality[at], float((predicted == numbers).mean()))


def label_findings(
    subject: Subject, rows: np.ndarray, features: np.ndarray, groups: np.ndarray, *, folds: int, seed: int
) -> tuple[list[Finding], str]:
    """One finding or none; and a line about what could not be looked at, or nothing.

    Args:
        subject: A data set for classification.
        rows: ``(R,)`` which rows the features are of.
        features: ``(R, F)``.
        groups: ``(R,)`` images with the same number are copies.
        folds: Number of parts of the cross-validation.
        seed: Of the parts.
    """
    labels = subject.targets[rows]
    # Copies count once: all of them are in the same fold.
    distinct = np.unique(np.stack([labels, groups]), axis=1)[0]
    per_class = np.bincount(distinct, minlength=len(subject.classes))
    enough = per_class[labels] >= folds
    few = [name for name, number in zip(subject.classes, per_class, strict=True) if 0 < number < folds]
    left_out = f"suspicious labels: fewer than {folds} different images of {', '.join(few)}" if few else ""
    if len(np.unique(labels[enough])) < 2:
        return [], f"suspicious labels: fewer than two classes have {folds} different images"
    rows = rows[enough]
    found = suspects(features[enough], labels[enough], groups[enough], folds=folds, seed=seed)
    if not len(found.at):
        return [], left_out
    chosen = [int(rows[at]) for at in found.at]
    items = [
        {**file_of(subject, row), "suggested": subject.classes[int(other)], "quality": round(float(quality), 4)}
        for row, other, quality in zip(chosen, found.suggested, found.quality, strict=True)
    ]
    title = (
        f"{plural(len(items), 'label is', 'labels are')} suspicious "
        f"(a linear model on the backbone's features agrees with {found.accuracy:.1%} of all labels)"
    )
    return [Finding("suspicious_labels", WARNING, title, items, [(row,) for row in chosen])], left_out
