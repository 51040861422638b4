"""Measured once, remembered, decided anew for each run; what the user has said is kept."""

import json
import stat
from dataclasses import replace

import pytest
import timm
import torch
from timm.layers import DropPath
from torch import nn

from ft.cache.folder import cache_dir
from ft.input_spec import InputSpec
from ft.machine import memory, system
from ft.machine.decide import Variant
from ft.machine.timings import Measured, Timings
from ft.machine.tune import Job, Wishes, autotune, decide

SPEC = InputSpec(32, 32, (0.5,) * 3, (0.5,) * 3, "bicubic", 1.0)
FP32, BF16 = Variant("fp32", True), Variant("bf16", True)
TIMINGS = Timings(
    frozen={FP32: Measured(0.020, 8), BF16: Measured(0.005, 8)},
    train={FP32: Measured(0.060, 4), BF16: Measured(0.058, 4)},
    frozen_threads={1: 0.005, 2: 0.003},
    train_threads={1: 0.060, 2: 0.035},
    bytes_an_image=100.0,
)
NOTHING_SAID = Wishes()
JOB = Job(batch_size=32, accumulate=1, decode=0.004, num_images=5000, whole_model_steps=0)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("FT_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)


@pytest.fixture
def model():
    return timm.create_model("test_resnet", num_classes=3)


class Counted:
    """Measures nothing, and counts."""

    def __init__(self):
        self.times = 0

    def __call__(self, model, spec, **settings):
        self.times += 1
        return TIMINGS


def tune(model, measuring, **changes):
    settings = {"device": torch.device("cpu"), "job": JOB, "measuring": measuring, **changes}
    return autotune(model, SPEC, **settings)


def chosen(timings=TIMINGS, job=JOB, wishes=NOTHING_SAID, **changes):
    settings = {
        "device": "cpu",
        "threads": 2,
        "cores": 2,
        "source": "",
        "parameter_bytes": 1000,
        "free": 10**9,
        "can_compile": False,
        **changes,
    }
    return decide(timings, job, wishes, **settings)


def test_each_kind_of_pass_has_its_own_precision_threads_and_workers():
    choice = chosen()
    assert (choice.frozen_precision, choice.train_precision) == ("bf16", "32-true")
    assert (choice.frozen_threads, choice.frozen_workers) == (1, 1)
    assert (choice.train_threads, choice.train_workers) == (2, 0)
    assert choice.cached_threads == 2
    assert (choice.micro_batch, choice.accumulate, choice.whole) == (32, 1, True)
    assert not choice.compile
    assert "fp32 channels_last 50, bf16 channels_last 200" in choice.why["frozen"]
    assert "decoding 4.0; frozen forward 5.0 on 1, 3.0 on 2; training 60.0 on 1, 35.0 on 2" in choice.why["threads"]


def test_what_the_user_has_said_is_kept_and_told():
    choice = chosen(wishes=Wishes(precision="32-true", workers=3, threads=1))
    assert (choice.frozen_precision, choice.train_precision) == ("fp32", "32-true")
    assert {choice.frozen_workers, choice.train_workers} == {3}
    assert {choice.frozen_threads, choice.train_threads, choice.cached_threads} == {1}
    assert "trainer.precision=32-true" in choice.why["frozen"]
    assert "data.num_workers=3; OMP_NUM_THREADS=1" in choice.why["threads"]
    assert chosen(wishes=Wishes(precision="16-mixed")).train_precision == "16-mixed"
    assert chosen(wishes=Wishes(precision="16-mixed")).frozen_precision == "bf16"
    assert chosen(wishes=Wishes(precision="bf16-true")).frozen_precision == "bf16"


def test_a_full_batch_optimizer_trains_in_32_bits():
    much_faster = replace(TIMINGS, train={FP32: Measured(0.060, 4), BF16: Measured(0.010, 4)})
    assert chosen(much_faster).train_precision == "bf16-mixed"
    choice = chosen(much_faster, replace(JOB, only_fp32="a full-batch optimizer"))
    assert choice.train_precision == "32-true"
    assert "a full-batch optimizer" in choice.why["train"]


def test_a_batch_that_does_not_fit_is_cut_and_accumulated():
    refused = replace(TIMINGS, train={FP32: Measured(0.060, 4, 4)})
    choice = chosen(refused, replace(JOB, accumulate=2))
    assert (choice.micro_batch, choice.accumulate, choice.whole) == (4, 16, False)
    assert "32 do not fit: 8 times 4" in choice.why["batch"]
    assert chosen(free=1000 + 5_000).micro_batch == 8


def test_nothing_measured_is_what_is_usual():
    choice = chosen(Timings({}, {}, {}, {}, 0.0))
    assert (choice.frozen_precision, choice.train_precision) == ("fp32", "32-true")
    assert choice.frozen_channels_last
    assert choice.micro_batch == 32
    assert "not measured" in choice.why["train"]


def test_a_gpu_run_that_is_long_enough_is_compiled():
    job = replace(JOB, whole_model_steps=10_000)
    assert chosen(job=job, device="cuda", can_compile=True).compile
    assert not chosen(job=job, device="cuda").compile


def test_it_is_measured_once_for_a_model_and_decided_for_each_run(model):
    measuring = Counted()
    assert "measured in" in tune(model, measuring).why["train"]
    again = tune(model, measuring, wishes=Wishes(precision="bf16-mixed"))
    assert measuring.times == 1
    assert again.train_precision == "bf16-mixed"
    assert "remembered" in again.why["train"]


def test_other_weights_are_the_same_model_and_another_shape_is_not(model):
    measuring = Counted()
    tune(model, measuring)
    torch.nn.init.normal_(model.fc.weight)
    tune(model, measuring)
    assert measuring.times == 1
    model.reset_classifier(7)
    tune(model, measuring)
    assert measuring.times == 2
    autotune(model, replace(SPEC, height=64), device=torch.device("cpu"), job=JOB, measuring=measuring)
    assert measuring.times == 3


def test_the_runs_of_a_sweep_over_dropout_are_one_model(model):
    measuring = Counted()
    for rate in (0.0, 0.3):
        tune(nn.Sequential(model, nn.Dropout(rate), DropPath(rate)), measuring)
    assert measuring.times == 1


def test_a_run_before_in_the_same_process_leaves_all_threads_to_the_next(model, monkeypatch):
    monkeypatch.setattr(system, "processors", lambda: 2)
    system.compute_threads.cache_clear()
    measuring, threads = Counted(), torch.get_num_threads()
    try:
        for count in (2, 1):  # what the first run has chosen is fewer
            torch.set_num_threads(count)
            tune(model, measuring)
    finally:
        torch.set_num_threads(threads)
        system.compute_threads.cache_clear()
    assert measuring.times == 1


@pytest.mark.parametrize("damage", ["{", "[]", "half", "number", "other", "kind"])
def test_a_damaged_or_foreign_memory_is_measured_anew_and_replaced(model, damage):
    measuring = Counted()
    tune(model, measuring)
    (file,) = cache_dir().glob("machine/*/about.json")
    text = file.read_text()
    about = json.loads(text)
    if damage == "half":
        damaged = text[: len(text) // 2]
    elif damage == "number":
        damaged = text.replace("0.005", "0.500", 1)
    elif damage == "other":
        damaged = json.dumps({**about, "facts": {**about["facts"], "processor": "another"}})
    elif damage == "kind":
        damaged = json.dumps({**about, "timings": {**about["timings"], "train": 3}})
    else:
        damaged = damage
    assert damaged != text
    file.write_text(damaged)
    tune(model, measuring)
    assert measuring.times == 2
    tune(model, measuring)
    assert measuring.times == 2


def test_where_nothing_can_be_written_it_is_measured_each_time(model):
    cache_dir().parent.mkdir(exist_ok=True)
    cache_dir().write_text("a file in the place of the folder")
    measuring = Counted()
    tune(model, measuring)
    tune(model, measuring)
    assert measuring.times == 2


def test_what_was_measured_on_a_busy_machine_is_doubted_later(model, monkeypatch):
    facts = {"model": memory.fingerprint(model)}
    memory.remember(facts, TIMINGS, busy=True)
    assert memory.recall(facts) == TIMINGS
    now = memory.time.time()
    monkeypatch.setattr(memory.time, "time", lambda: now + memory.BUSY_SECONDS + 1)
    assert memory.recall(facts) is None
    memory.remember(facts, TIMINGS, busy=False)
    monkeypatch.setattr(memory.time, "time", lambda: now + 10**7)
    assert memory.recall(facts) == TIMINGS


def test_what_is_remembered_is_text_that_others_cannot_read(model):
    tune(model, Counted())
    (file,) = cache_dir().glob("machine/*/about.json")
    assert json.loads(file.read_text())["facts"]["input"] == [3, 32, 32]
    assert stat.S_IMODE(cache_dir().stat().st_mode) == 0o700


def test_a_real_model_is_measured_in_seconds(model):
    choice = autotune(model, SPEC, device=torch.device("cpu"), job=JOB)
    assert choice.frozen_precision in ("bf16", "fp32")
    assert choice.why["frozen"]
