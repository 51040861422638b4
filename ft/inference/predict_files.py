"""Files to what is told of them, batch by batch: worker processes decode ahead, and nothing is kept.

for batch in predict_files(load_predictor(run), find_images("photos"), views=Views(predictor.transform)): ...
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ft.data.dataset import Unreadable
from ft.data.images import UnreadableImage, open_image
from ft.data.workers import begin_worker
from ft.errors import UserError
from ft.inference.inputs import Listed
from ft.inference.predictor import Predictor
from ft.inference.tta import Views, over_views


@dataclass(frozen=True)
class Told:
    """What is told of the next few images, in their order.

    Attributes:
        names: ``B`` names of those that could be read.
        told: ``(B, K)`` probabilities after temperature, or the predicted numbers.
        features: ``(B, F)`` pooled features; ``None`` unless asked for.
        failures: Name and reason of those that could not.
    """

    names: list[str]
    told: Tensor
    features: Tensor | None
    failures: list[tuple[str, str]]


def predict_files(
    predictor: Predictor,
    images: Sequence[Listed],
    *,
    views: Views,
    batch_size: int,
    num_workers: int,
    features: bool = False,
) -> Iterator[Told]:
    """Every image once, in order.

    Args:
        predictor: What computes.
        images: From ``find_images``.
        views: What is computed of an image.
        batch_size: Views the model sees at once.
        num_workers: Decoding processes; 0 decodes in this one.
        features: Whether pooled features are wanted too, averaged over the views.

    Raises:
        UserError: The model has no features, or its answer is no number.
    """
    if features and predictor.embed is None:
        raise UserError(f"embeddings: {predictor.origin} has no pooled features. Take the run, or a timm export.")
    embed = predictor.embed if features else None
    loader = DataLoader(
        Pictures([path for _, path in images], views),
        batch_size=max(1, batch_size // views.count),
        num_workers=num_workers,
        collate_fn=_collate,
        worker_init_fn=begin_worker,
        generator=torch.Generator(),
        pin_memory=torch.cuda.is_available(),
    )
    for rows, stacked, failures in loader:
        told = _empty(predictor)
        if rows:
            told = over_views(
                lambda crops: predictor.reading.tell(predictor.run(crops)), stacked, mirrored=views.mirrored
            )
        names = [images[row].name for row in rows]
        _refuse_nonsense(told, names)
        yield Told(
            names,
            told,
            over_views(embed, stacked, mirrored=views.mirrored) if embed and rows else None,
            [(images[row].name, why) for row, why in failures],
        )


class Pictures(Dataset[tuple[int, Tensor] | Unreadable]):
    """The views of image files, each with its position."""

    def __init__(self, paths: Sequence[str], views: Views) -> None:
        self.paths = paths
        self.views = views

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, row: int) -> tuple[int, Tensor] | Unreadable:
        try:
            return row, self.views(open_image(self.paths[row]))
        except UnreadableImage as error:
            return Unreadable(row, str(error))


def _collate(
    items: Sequence[tuple[int, Tensor] | Unreadable],
) -> tuple[list[int], Tensor, list[tuple[int, str]]]:
    """Positions and ``(B, V, C, H, W)`` of the images that could be read; position and reason of the others."""
    good = [item for item in items if not isinstance(item, Unreadable)]
    bad = [(item.index, item.why) for item in items if isinstance(item, Unreadable)]
    stacked = torch.stack([views for _, views in good]) if good else torch.empty(0)
    return [row for row, _ in good], stacked, bad


def _empty(predictor: Predictor) -> Tensor:
    return torch.empty(0, len(predictor.reading.classes))


def _refuse_nonsense(told: Tensor, names: list[str]) -> None:
    wrong = (~told.isfinite()).any(1).nonzero().flatten().tolist()
    if wrong:
        raise UserError(
            f"{names[wrong[0]]}: the model answers {told[wrong[0]].tolist()[0]}, which is no number. "
            "Set precision=fp32; if that does not help, the weights are spoilt."
        )
