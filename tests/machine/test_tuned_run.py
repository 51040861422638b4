"""``trainer.autotune`` in a run: chosen before anything depends on it, in the config, the same when it goes on."""

import copy
from dataclasses import replace

import pytest
import torch

from ft.build import tuning
from ft.build.trainer import in_micro_batches
from ft.build.tuning import device_of, is_one_process, seconds_to_read, tuned
from ft.machine.choice import choice_from_config
from ft.machine.decide import Variant
from ft.machine.timings import Measured
from ft.machine.tune import decide
from tests.conftest import composed, weights_of
from tests.machine.test_tune import TIMINGS

STEPS = ("optimizer=sgd", "optimizer.lr=0.01", "trainer.max_epochs=1", "+plugins=frozen_batchnorm", "recipe=full")


@pytest.fixture
def built(build_run, tmp_path, monkeypatch):
    """A run, and its config as it was before anything was chosen."""
    monkeypatch.setenv("FT_CACHE_DIR", str(tmp_path / "cache"))
    run = build_run("trainer.autotune=false")
    run.config = copy.deepcopy(run.config)
    run.config["trainer"]["autotune"] = True
    threads = torch.get_num_threads()
    yield run
    torch.set_num_threads(threads)


@pytest.fixture
def measured(monkeypatch):
    """Made-up timings in the place of measured ones; counts how often."""
    calls = []

    def autotune(model, spec, *, device, job, wishes):
        calls.append((job, wishes))
        return decide(
            TIMINGS,
            job,
            wishes,
            device=device.type,
            threads=2,
            cores=2,
            source="made up",
            parameter_bytes=0,
            free=300,
            can_compile=False,
        )

    monkeypatch.setattr(tuning, "autotune", autotune)
    return calls


def test_the_choice_is_in_the_config_and_reaches_the_loaders(built, measured):
    built.config["data"]["num_workers"] = "auto"
    choice = tuned(built.config, built.module.model, built.loaders, whole_model_steps=0)
    assert choice == choice_from_config(built.config)
    # Of 8 images, each of 130 bytes with its gradients, one fits into 80 % of 300: two do not.
    assert (choice.micro_batch, choice.accumulate) == (1, 8)
    assert built.loaders.options.batch_size == 1
    assert built.loaders.num_workers == choice.train_workers
    assert torch.get_num_threads() == choice.train_threads
    assert built.config["data"]["batch_size"] == 8  # as the user has said it


def test_a_run_that_goes_on_takes_its_config_s_choice(built, measured):
    first = tuned(built.config, built.module.model, built.loaders, whole_model_steps=0)
    again = tuned(built.config, built.module.model, built.loaders, whole_model_steps=10**9)
    assert again == first
    assert len(measured) == 1


def test_another_batch_on_resume_is_cut_as_finely(built, measured):
    tuned(built.config, built.module.model, built.loaders, whole_model_steps=0)
    built.config["data"]["batch_size"] = 4
    again = tuned(built.config, built.module.model, built.loaders, whole_model_steps=0)
    assert (again.micro_batch, again.accumulate) == (1, 4)
    assert choice_from_config(built.config) == again


def test_what_the_user_has_said_reaches_the_rules(built, measured, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    built.config["trainer"]["precision"] = "bf16-mixed"
    built.config["data"]["num_workers"] = 2
    choice = tuned(built.config, built.module.model, built.loaders, whole_model_steps=0)
    assert choice.train_precision == "bf16-mixed"
    assert (choice.train_threads, choice.train_workers) == (1, 2)
    assert built.loaders.num_workers == 0  # the loaders already have what the user said, here from TINY


def test_with_autotune_off_and_with_several_processes_nothing_is_chosen(built, measured, monkeypatch):
    def none():
        return tuned(built.config, built.module.model, built.loaders, whole_model_steps=0) is None

    built.config["trainer"]["autotune"] = False
    assert none()
    built.config["trainer"].update(autotune=True, devices=2)
    assert none()
    built.config["trainer"].update(devices=1, strategy="ddp")
    assert none()
    built.config["trainer"].update(strategy="auto")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert none()
    assert not measured
    assert "tuned" not in built.config["trainer"]


def test_a_device_without_rules_is_left_alone():
    assert device_of("tpu") is None
    assert device_of("mps") is None
    assert device_of("cpu") == torch.device("cpu")
    assert is_one_process({"devices": "1", "strategy": "auto"})


def test_lightning_counts_micro_batches(built, measured):
    choice = tuned(built.config, built.module.model, built.loaders, whole_model_steps=0)
    settings = {"limit_train_batches": 3, "limit_val_batches": 0.5, "limit_test_batches": 1.0}
    assert in_micro_batches(settings, choice, 8) == {
        "accumulate_grad_batches": 8,
        "limit_train_batches": 24,
        "limit_val_batches": 0.5,
        "limit_test_batches": 1.0,
    }


def test_reading_draws_no_random_numbers_and_changes_nothing(built):
    before = torch.get_rng_state()
    assert seconds_to_read(built.loaders) > 0
    assert torch.equal(torch.get_rng_state(), before)


def test_a_run_that_was_tuned_is_resumed_and_evaluated_as_it_was(train_run, resume_run, monkeypatch):
    from omegaconf import OmegaConf

    from ft.build.evaluation import build_evaluation

    threads = torch.get_num_threads()
    run = train_run("trainer.autotune=true", "trainer.max_epochs=1")
    kept = OmegaConf.load(run.folder.config)
    choice = choice_from_config({"trainer": OmegaConf.to_container(kept.trainer)})
    assert choice is not None
    assert run.trainer.precision == choice.train_precision

    def measured_anew(*_, **__):
        raise AssertionError("measured anew")

    monkeypatch.setattr(tuning, "autotune", measured_anew)
    again = resume_run(run, "trainer.max_epochs=2")
    assert again.trainer.current_epoch == 2
    assert choice_from_config(again.config) == choice
    with composed(f"run='{run.folder.path}'", "split=val", "accelerator=cpu", config="evaluate") as config:
        assert build_evaluation(config).trainer.precision == choice.train_precision
    torch.set_num_threads(threads)


def test_a_batch_cut_in_pieces_makes_the_same_step(train_run, pretrained, monkeypatch):
    """Without BatchNorm's statistics, which are of what goes through at once."""
    whole = train_run(*STEPS, pretrained)

    def cut(model, spec, *, device, job, wishes):
        timings = replace(TIMINGS, train={Variant("fp32", True): Measured(0.1, 2, 2)})
        return decide(
            timings, job, wishes, device="cpu", threads=1, cores=1, source="", parameter_bytes=0, free=None,
            can_compile=False,
        )  # fmt: skip

    monkeypatch.setattr(tuning, "autotune", cut)
    pieces = train_run(*STEPS, pretrained, "trainer.autotune=true")
    assert pieces.config["trainer"]["tuned"]["micro_batch"] == 2
    assert pieces.trainer.global_step == whole.trainer.global_step > 0
    one, other = weights_of(whole), weights_of(pieces)
    for name, value in one.items():
        assert torch.allclose(value.float(), other[name].float(), rtol=1e-4, atol=1e-6), name
