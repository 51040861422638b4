"""What a report is made from: what a run has said, and its images where they still are. Plain objects."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from ft.data.module import EncodedSplit
from ft.inference.predictions import Predictions
from ft.inference.predictor import Predictor


@dataclass(frozen=True)
class Pictures:
    """A run's data set.

    Attributes:
        splits: Images, targets and names.
        drawn: Positions in ``train`` to those that can be read and one training view of each, ``(N, C, H, W)``
            ``uint8``; the second argument tells views of the same images apart. ``None`` where training sees what
            evaluation sees.
        drawn_when: The epoch that ``drawn`` is of, in words.
    """

    splits: Mapping[str, EncodedSplit]
    drawn: Callable[[Sequence[int], int], tuple[list[int], Tensor]] | None
    drawn_when: str


@dataclass(frozen=True)
class Material:
    """One run.

    Attributes:
        run: Its folder.
        split: The one that the report is about.
        predictions: By split: that one, and others that are stored.
        predictor: The best checkpoint.
        stages: From the stem to the head.
        config: Plain values.
        metric: What decided, such as ``val/acc``.
        pictures: ``None`` where the data set cannot be read.
        why_no_pictures: The reason then.
    """

    run: Path
    split: str
    predictions: Mapping[str, Predictions]
    predictor: Predictor
    stages: Sequence[str]
    config: Mapping[str, Any]
    metric: str
    pictures: Pictures | None
    why_no_pictures: str
