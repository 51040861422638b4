"""What the page's parts are made of, on predictions whose truth is known."""

import json
from dataclasses import replace

import numpy as np
import pytest
import timm
import torch
from torch import nn

from ft.errors import UserError
from ft.page.history import History
from ft.results.confusion import confusion, most_confused, plots
from ft.results.curves import curves, phases
from ft.results.diagrams import label_plots, number_plots
from ft.results.facts import findings, read_json
from ft.results.mistakes import hits, is_right, shown, worst
from ft.results.thumbnails import as_rgb
from tests.results.made import classified, labelled, measured, predictions

# True class, logits.
SAID = [(0, [3.0, 0, 0]), (0, [0, 2.0, 0]), (0, [0, 4.0, 0]), (1, [0, 3.0, 0]), (2, [0, 1.0, 0]), (2, [0, 0, 5.0])]


def said():
    targets = torch.tensor([true for true, _ in SAID])
    return predictions("classification", "softmax", targets, torch.tensor([logits for _, logits in SAID]))


def test_the_confusion_matrix_has_a_row_for_each_true_class():
    assert confusion(said()).tolist() == [[1, 2, 0], [0, 1, 0], [0, 1, 1]]


def test_pairs_are_ordered_by_their_images_and_the_surest_mistake_comes_first():
    first, second = most_confused(said(), 5)
    assert (first.true, first.predicted, first.rows, first.share) == (0, 1, [2, 1], 2 / 3)
    assert (second.true, second.predicted, second.rows, second.share) == (2, 1, [4], 1 / 2)
    assert len(most_confused(said(), 1)) == 1


def test_the_worst_mistakes_have_the_highest_loss_and_hits_come_from_every_class():
    found = said()
    assert [each.row for each in worst(found, 9)] == [2, 1, 4]
    assert [each.row for each in worst(found, 1)] == [2]
    assert [each.row for each in hits(found, 3)] == [0, 3, 5]
    each = shown(found, 2)
    assert (each.said, each.true, each.right, each.output) == ("c1", "c0", False, 1)
    assert each.confidence == pytest.approx(float(torch.tensor([0.0, 4, 0]).softmax(0)[1]))


def test_a_label_too_many_is_a_mistake_and_numbers_are_neither_right_nor_wrong():
    targets = torch.tensor([[1.0, 0], [1, 1], [0, 0]])
    found = predictions("multilabel", "sigmoid", targets, torch.tensor([[2.0, 1], [2, 2], [-1, -1]]))
    assert is_right(found).tolist() == [False, True, True]
    each = shown(found, 0)
    assert (each.said, each.true, each.output) == ("c0, c1", "c0", 1)
    assert shown(found, 2).said == "none"
    assert not is_right(measured(5, 2)).any()
    assert hits(measured(5, 2), 3) == []
    largest = worst(measured(50, 2), 1)[0].row
    errors = (measured(50, 2).told - measured(50, 2).targets).abs().mean(1)
    assert largest == int(errors.argmax())


def test_phases_are_runs_of_epochs_with_as_many_open_stages():
    history = History([1, 2, 3, 4, 5], {"open": [1.0, 1.0, 3.0, 3.0, 1.0]})
    assert phases(history) == [(1, 2, 1), (3, 4, 3), (5, 5, 1)]
    assert phases(History([1, 2], {"train/loss": [1.0, 0.5]})) == []


def test_curves_of_a_run_that_was_not_validated_every_epoch(tmp_path):
    (tmp_path / "metrics.csv").write_text("epoch,val/acc,lr,plugins/x/rate\n0,,0,0.5\n1,0.5,0,0.5\n2,,0,0.5\n")
    history = History.read(tmp_path / "metrics.csv")
    assert history.series("val/acc") == ([2], [0.5])
    drawn = curves(history, tmp_path, num_stages=4, metric="val/acc", best=0)
    assert [plot.name for plot in drawn] == ["metrics", "learning_rate", "plugin_x"]
    assert curves(History.read(tmp_path / "none.csv"), tmp_path, num_stages=4, metric="val/acc", best=None) == []


def test_many_classes_make_a_matrix_of_pixels_and_names_with_dollars_no_formula(tmp_path):
    counts, shares = plots(classified(600, 120), tmp_path)
    assert len(counts.svg) + len(shares.svg) < 400_000
    assert "<image" in counts.svg
    few = classified(60, 3)
    reading = replace(few.reading, classes=("$x_1$", "plain", "a" * 40))
    drawn = plots(replace(few, reading=reading), tmp_path)[0].svg
    assert ">$x_1$<" in drawn.replace("\n", "")
    assert "<image" not in drawn


def test_many_labels_and_many_numbers_are_no_flood(tmp_path):
    assert label_plots(labelled(40, 60), tmp_path) == []
    assert len(number_plots(measured(3000, 20), tmp_path)) == 12
    assert sum(len(plot.svg) for plot in number_plots(measured(3000, 1), tmp_path)) < 300_000


def test_a_damaged_file_is_named(tmp_path):
    (tmp_path / "doctor.json").write_text("{")
    with pytest.raises(UserError, match=r"doctor.json is not valid JSON"):
        findings(tmp_path)
    assert read_json(tmp_path / "none.json") == {}
    assert findings(tmp_path / "elsewhere") is None


def test_every_kind_of_finding_is_told_in_words(tmp_path):
    file = {"split": "val", "file": "a.jpg", "label": "cat"}
    items = {
        "suspicious_labels": ({**file, "suggested": "dog", "quality": 0.02},
                              "val/a.jpg (cat), suggested dog, quality 0.02"),
        "leakage": ({"same": "bytes", "files": [{**file, "file": "val/cat/a.jpg"}]}, "val/cat/a.jpg (cat), same bytes"),
        "unreadable": ({"file": "b.jpg", "why": "empty"}, "b.jpg, why empty"),
        "imbalance": ({"class": "cat", "count": 3, "share": 0.05}, "class cat, count 3, share 0.05"),
        "modes": ({"mode": "CMYK", "count": 2, "example": file}, "val/a.jpg (cat), mode CMYK, count 2"),
        "missing_classes": ({"split": "val", "class": "dog"}, "split val, class dog"),
        "near_leakage": ({"same": "nearly", "likeness": 0.99, "files": [file, {**file, "label": None}]},
                         "val/a.jpg (cat) = val/a.jpg, same nearly, likeness 0.99"),
    }  # fmt: skip
    listed = [
        {"kind": kind, "severity": "info", "title": kind, "count": 1, "items": [item]}
        for kind, (item, _) in items.items()
    ]
    (tmp_path / "doctor.json").write_text(json.dumps({"findings": listed, "skipped": [], "pictures": {}}))
    found = findings(tmp_path)
    assert found is not None
    assert [each["items"] for each in found["findings"]] == [[words] for _, words in items.values()]


def test_pixels_of_any_number_of_channels_are_shown():
    grey = torch.full((1, 2, 2), 7, dtype=torch.uint8)
    assert as_rgb(grey).tolist() == [[[7, 7], [7, 7]]] * 3
    clear = torch.zeros(4, 2, 2, dtype=torch.uint8)
    assert (as_rgb(clear) == 255).all()


class Corner(nn.Module):
    """A network that says 1 for what is bright, and looks at nothing else."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Conv2d(3, 2, 8, stride=8, bias=False)
        self.head = nn.Linear(2, 2, bias=False)
        nn.init.constant_(self.body.weight, 0.01)
        nn.init.eye_(self.head.weight)

    def forward(self, images):
        return self.head(torch.relu(self.body(images)).mean((2, 3)))


def test_grad_cam_points_at_what_a_frozen_model_looks_at():
    pytest.importorskip("pytorch_grad_cam", reason="the extra report is not installed")
    from ft.results.gradcam import find_layer, heat_maps

    model = Corner().eval().requires_grad_(False)
    images = torch.full((2, 3, 64, 64), 0.1)
    images[0, :, 40:56, 8:16] = 3
    images[1, :, :16, 48:] = 3
    layer = find_layer(model, images)
    assert layer is not None
    assert layer.name == "body"
    heat = heat_maps(model, layer, images, [1, 0])
    assert heat.shape == (2, 64, 64)
    peaks = [np.unravel_index(each.argmax(), each.shape) for each in heat]
    assert 36 <= peaks[0][0] < 60
    assert 4 <= peaks[0][1] < 20
    assert peaks[1][0] < 20
    assert peaks[1][1] >= 44
    assert not model.body._forward_hooks


@pytest.mark.parametrize(
    ("name", "size", "expected"),
    [
        ("test_resnet", 64, "layer4"),
        ("test_efficientnet", 64, "bn2"),
        ("test_convnext", 64, "norm_pre"),
        ("test_vit", 64, "blocks.5.norm1"),  # class token
        ("test_vit2", 64, "norm"),  # average of all tokens
        pytest.param("swin_tiny_patch4_window7_224", 224, "norm", marks=pytest.mark.full),  # channels last
        pytest.param("vit_small_patch14_reg4_dinov2", 98, "blocks.11.norm1", marks=pytest.mark.full),  # registers
    ],
)
def test_the_layer_is_found_in_networks_of_every_kind(name, size, expected):
    pytest.importorskip("pytorch_grad_cam", reason="the extra report is not installed")
    from ft.results.gradcam import find_layer, heat_maps

    torch.manual_seed(0)
    resized = {"img_size": size} if "vit" in name else {}
    model = timm.create_model(name, num_classes=3, **resized).eval().requires_grad_(False)
    images = torch.randn(2, 3, size, size)
    layer = find_layer(model, images)
    assert layer is not None
    assert layer.name == expected
    heat = heat_maps(model, layer, images, [0, 2])
    assert heat.shape == (2, size, size)
    assert heat.min() >= 0
    assert heat.max() <= 1


def test_a_network_without_a_map_of_features_has_no_layer():
    from ft.results.gradcam import find_layer

    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 64, 2))
    assert find_layer(model, torch.randn(2, 3, 8, 8)) is None
