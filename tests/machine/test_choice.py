"""The choice is part of the run's config, and says why."""

from dataclasses import replace

import pytest
from omegaconf import OmegaConf

from ft.errors import UserError
from ft.machine.choice import Choice, choice_from_config, describe, for_batch

CHOICE = Choice(
    device="cpu",
    frozen_precision="bf16",
    train_precision="32-true",
    frozen_channels_last=True,
    train_channels_last=False,
    frozen_threads=1,
    frozen_workers=1,
    train_threads=2,
    train_workers=0,
    cached_threads=2,
    micro_batch=32,
    accumulate=1,
    whole=True,
    compile=False,
    why={"frozen": "177 against 74", "train": "20 against 21", "threads": "t", "batch": "it fits", "compile": "c"},
)


def config(**trainer):
    return {"trainer": {"autotune": True, **trainer}}


def test_what_was_written_into_a_config_comes_back_from_its_file():
    text = OmegaConf.to_yaml(config(tuned=CHOICE.as_dict()))
    assert choice_from_config(OmegaConf.to_container(OmegaConf.create(text))) == CHOICE


def test_there_is_no_choice_before_one_was_made_or_with_autotune_off():
    assert choice_from_config(config()) is None
    assert choice_from_config({"trainer": {}}) is None
    assert choice_from_config({"trainer": {"autotune": False, "tuned": CHOICE.as_dict()}}) is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"micro_batch": "32"}, "trainer.tuned.micro_batch must be int, got '32'"),
        ({"compile": 1}, "trainer.tuned.compile must be bool, got 1"),
        ({"precission": "bf16"}, "trainer.tuned.precission is missing or unknown"),
    ],
)
def test_a_choice_that_was_edited_wrongly_is_refused(change, message):
    with pytest.raises(UserError, match=message):
        Choice.from_dict({**CHOICE.as_dict(), **change})


def test_every_decision_is_told_with_its_reason():
    lines = describe(CHOICE)
    assert lines[0] == "frozen forward bf16, channels last (177 against 74)"
    assert lines[1] == "training 32-true, contiguous (20 against 21)"
    assert "frozen forward 1 thread + 1 decoding, training 2 threads, stored activations 2 threads" in lines[2]
    assert describe(replace(CHOICE, micro_batch=8, accumulate=4))[3] == "batch 8 x 4 (it fits)"


def test_another_batch_on_resume_still_goes_through_in_pieces_that_fit():
    assert for_batch(CHOICE, 32, 1) == CHOICE
    assert for_batch(CHOICE, 64, 1).micro_batch == 64  # nothing was ever too large
    cut = replace(CHOICE, micro_batch=8, accumulate=4, whole=False)
    assert for_batch(cut, 32, 1) == cut
    twelve = for_batch(cut, 12, 2)
    assert (twelve.micro_batch, twelve.accumulate) == (6, 4)
