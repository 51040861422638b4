"""What the page shows of images: thumbnails of mistakes and confused pairs, training views, Grad-CAM."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from ft.data.images import UnreadableImage
from ft.data.transforms import normalize
from ft.inference.material import Material, Pictures
from ft.inference.predictions import Predictions
from ft.results import gradcam
from ft.results.confusion import most_confused
from ft.results.mistakes import Shown, hits, shown, worst
from ft.results.thumbnails import heated, picture

WORST, PAIRS, OF_A_PAIR = 18, 6, 5
CAM_WRONG, CAM_RIGHT, CAM_SIDE = 6, 6, 192
# Images of training, and views of each.
ROWS, VIEWS = 6, 4


class Gallery:
    """Images of the split the report is about, as evaluation sees them; each is read once.

    Args:
        material: With pictures.
    """

    def __init__(self, material: Material) -> None:
        assert material.pictures is not None
        self.predictions = material.predictions[material.split]
        self.images = material.pictures.splits[material.split].images
        self.predictor = material.predictor
        self._seen: dict[int, Tensor | None] = {}

    def pixels(self, row: int) -> Tensor | None:
        """``(C, H, W)`` ``uint8`` of a row of the predictions; ``None`` where it cannot be read any more."""
        if row not in self._seen:
            try:
                self._seen[row] = self.predictor.transform(self.images[int(self.predictions.index[row])])
            except UnreadableImage:
                self._seen[row] = None
        return self._seen[row]

    def card(self, each: Shown) -> dict[str, Any]:
        """What the template shows of one image."""
        pixels = self.pixels(each.row)
        return {
            **caption(self.predictions, each),
            "image": None if pixels is None else picture(pixels),
        }


def caption(predictions: Predictions, each: Shown) -> dict[str, Any]:
    """The words below an image."""
    name = predictions.names[each.row]
    return {
        "name": name,
        "file": name.rpartition("/")[2] or name,
        "said": each.said,
        "true": each.true,
        "right": each.right,
        "confidence": each.confidence,
    }


def mistakes(material: Material, gallery: Gallery | None) -> list[dict[str, Any]]:
    """The worst of them; without their images where those are not there."""
    predictions = material.predictions[material.split]
    return [
        {**caption(predictions, each), "image": None} if gallery is None else gallery.card(each)
        for each in worst(predictions, WORST)
    ]


def pairs(material: Material, gallery: Gallery | None) -> list[dict[str, Any]]:
    """The classes most often confused, with the surest of their mistakes; none for other tasks."""
    predictions = material.predictions[material.split]
    if predictions.reading.task != "classification":
        return []
    names = predictions.reading.classes
    return [
        {
            "true": names[pair.true],
            "predicted": names[pair.predicted],
            "count": len(pair.rows),
            "share": pair.share,
            "cards": []
            if gallery is None
            else [gallery.card(shown(predictions, row)) for row in pair.rows[:OF_A_PAIR]],
        }
        for pair in most_confused(predictions, PAIRS)
    ]


def training_views(pictures: Pictures, material: Material) -> list[dict[str, Any]]:
    """Some training images as evaluation sees them and as training does; images that cannot be read are left out."""
    split = pictures.splits["train"]
    size = len(split.targets)
    positions = sorted({round(at) for at in torch.linspace(0, size - 1, min(ROWS, size)).tolist()})
    plain: dict[int, Tensor] = {}
    for position in positions:
        try:
            plain[position] = material.predictor.transform(split.images[position])
        except UnreadableImage:
            continue
    rows = {position: [] for position in plain}
    for number in range(VIEWS if pictures.drawn is not None else 0):
        assert pictures.drawn is not None
        read, views = pictures.drawn(list(plain), number)
        for position, view in zip(read, views, strict=True):
            rows[position].append(picture(view))
    return [{"name": split.names[at], "plain": picture(plain[at]), "views": rows[at]} for at in plain]


def cam_cards(material: Material, gallery: Gallery) -> tuple[list[dict[str, Any]], list[dict[str, Any]], str]:
    """Cards of mistakes and of hits, each with a heat map; and a line that says which layer, or why there is none."""
    if not gradcam.is_installed():
        return [], [], f"Grad-CAM needs the package grad-cam: {gradcam.HOW_TO_INSTALL}"
    predictions = material.predictions[material.split]
    found = [
        each
        for each in (*worst(predictions, CAM_WRONG), *hits(predictions, CAM_RIGHT))
        if gallery.pixels(each.row) is not None
    ]
    if not found:
        return [], [], "There is no image to look at."
    model = material.predictor.model
    images = _normalized(material, [gallery.pixels(each.row) for each in found])
    layer = gradcam.find_layer(model, images[:2])
    if layer is None:
        return [], [], "This model has no layer whose output is a map of features that moves its prediction."
    maps = [
        heat
        for start in range(0, len(found), 4)
        for heat in gradcam.heat_maps(
            model, layer, images[start : start + 4], [each.output for each in found[start : start + 4]]
        )
    ]
    cards = [
        {**gallery.card(each), "heat": heated(_there(gallery.pixels(each.row)), heat, CAM_SIDE)}
        for each, heat in zip(found, maps, strict=True)
    ]
    wrong = [card for card in cards if not card["right"]]
    return wrong, [card for card in cards if card["right"]], f"Looked at: the output of {layer.name}."


def _normalized(material: Material, pixels: Iterable[Tensor | None]) -> Tensor:
    device = next(material.predictor.model.parameters()).device
    stacked = torch.stack([_there(each) for each in pixels])
    return normalize(stacked.to(device), material.predictor.spec)


def _there(pixels: Tensor | None) -> Tensor:
    assert pixels is not None
    return pixels
