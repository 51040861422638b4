"""When an export passes: the comparison's own arithmetic."""

import pytest
import torch

from ft.deploy.check import compare, in_batches
from ft.deploy.outputs import outputs_of
from tests.deploy.made import reading_of


def compared(logits, found, reading, temperature="fold", tolerance=1e-4):
    outputs = outputs_of(reading, temperature=temperature)
    return compare(logits, found(outputs), outputs, tolerance=tolerance, source="val", runtime="test")


LOGITS = torch.tensor([[4.0, 1.0, -2.0], [0.5, 0.4, -8.0]])
CLASSES = reading_of("classification", 3, temperature=2.0)


def test_the_same_passes_with_every_answer():
    check = compared(LOGITS, lambda outputs: outputs.of(LOGITS).float(), CLASSES)
    assert check.passed
    assert (check.agreement, check.images, check.max_difference) == (1.0, 2, 0.0)
    assert check.scale == pytest.approx(4.0)
    # 1e-4 of the largest logit, 8, halved like the logits; and a few roundings of single precision.
    assert check.allowed == pytest.approx(4e-4, rel=0.01)


@pytest.mark.parametrize(("by", "passes"), [(3.9e-4, True), (4.2e-4, False), (float("nan"), False)])
def test_one_output_beyond_the_tolerance_fails(by, passes):
    wrong = torch.zeros(2, 3)
    wrong[1, 2] = by
    check = compared(LOGITS, lambda outputs: outputs.of(LOGITS).float() + wrong, CLASSES)
    assert check.passed == passes


def test_a_temperature_that_is_left_out_fails():
    assert not compared(LOGITS, lambda outputs: LOGITS, CLASSES).passed
    assert compared(LOGITS, lambda outputs: LOGITS, CLASSES, temperature="store").passed


def test_agreement_counts_images_with_the_same_answer():
    moved = torch.tensor([[0.0, 0.0, 0.0], [0.0, 0.2, 0.0]])
    assert compared(LOGITS, lambda outputs: outputs.of(LOGITS + moved), CLASSES, tolerance=1).agreement == 0.5
    labels = reading_of("multilabel", 3, thresholds=(0.5, 0.5, 0.0001))
    moved = torch.tensor([[0.0, -2.0, 0.0], [0.0, 0.0, 0.0]])
    assert compared(LOGITS, lambda outputs: outputs.of(LOGITS + moved), labels, tolerance=1).agreement == 0.5


def test_numbers_far_from_zero_are_held_to_their_spread():
    years = reading_of("regression", 3, mean=(2000.0,) * 3, std=(0.5,) * 3)
    half_a_day = torch.tensor(0.5 / 365)
    check = compared(LOGITS, lambda outputs: outputs.of(LOGITS), years)
    assert check.passed
    assert check.agreement is None
    assert not compared(LOGITS, lambda outputs: outputs.of(LOGITS) + 3 * half_a_day, years).passed
    # Single precision holds such numbers no finer.
    assert compared(LOGITS, lambda outputs: outputs.of(LOGITS).float(), years, tolerance=1e-9).passed


def test_one_image_alone_and_batches_are_both_tried():
    seen = []

    def run(pixels):
        seen.append(len(pixels))
        return pixels

    pixels = torch.arange(40.0).view(40, 1)
    assert torch.equal(in_batches(run, pixels), pixels)
    assert seen == [1, 16, 16, 7]
    assert torch.equal(in_batches(run, pixels[:1]), pixels[:1])
