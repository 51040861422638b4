"""Out of memory while training: smaller pieces, the same step."""

import pytest
import torch
from omegaconf import OmegaConf

from ft.errors import OutOfMemory, UserError
from ft.faults.memory import is_out_of_memory
from ft.fit import fit
from ft.jobs.dispatch import why
from ft.module import FineTuner
from tests.conftest import assert_equal_weights, weights_of

# No statistics of the batch and no dropout: pieces then give the same gradients but for the last digits.
VIT = ("model.name=test_vit", "model.img_size=32", "data.suggested.img_size=null", "optimizer=sgd", "test=false")
SAYS = {
    "gpu": torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB."),
    "cpu": RuntimeError("[enforce fail at alloc_cpu.cpp:118] err == 0. DefaultCPUAllocator: can't allocate memory"),
    "python": MemoryError(),
}


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch):
    """Memory for so many images at once: forward passes of more fail, or backward passes."""

    def of(images: int, *, backward: bool = False, error: BaseException = SAYS["cpu"]) -> list[int]:
        logits, seen = FineTuner.logits, []

        def limited(self, batch):
            if self.training:
                seen.append(len(batch.index))
                if len(batch.index) > images and not backward:
                    raise error
            found = logits(self, batch)
            if self.training and len(batch.index) > images:
                found.register_hook(fails)
            return found

        def fails(gradient):
            raise error

        monkeypatch.setattr(FineTuner, "logits", limited)
        return seen

    return of


@pytest.mark.parametrize("said", SAYS.values(), ids=SAYS.keys())
def test_every_allocators_words_are_known(said):
    assert is_out_of_memory(said)
    assert why(said) == "out of memory"
    assert not is_out_of_memory(RuntimeError("shapes do not match"))


@pytest.mark.parametrize(
    ("options", "backward"),
    [
        pytest.param((), False, marks=pytest.mark.full),
        ((), True),
        pytest.param(("trainer.accumulate_grad_batches=2",), True, marks=pytest.mark.full),
    ],
)
def test_the_step_is_repeated_in_pieces_and_is_the_same_step(
    build_run, train_run, memory, monkeypatch, capsys, options, backward
):
    whole = train_run(*VIT, *options, "trainer.max_epochs=1")
    run = build_run(*VIT, *options, "trainer.max_epochs=1")
    seen = memory(3, backward=backward)
    fit(run, started=0.0)
    assert run.trainer.global_step == whole.trainer.global_step
    assert set(seen[-4:]) == {2}
    for name, value in weights_of(run).items():
        assert torch.allclose(value, weights_of(whole)[name], rtol=1e-4, atol=1e-6), name
    logged = [each.checkpoints.best_values["train/loss"] for each in (run, whole)]
    assert logged[0] == pytest.approx(logged[1], rel=1e-5)
    told = [line for line in capsys.readouterr().out.splitlines() if "out of memory" in line]
    assert len(told) == 2
    assert "trainer.micro_batch=4 from here on, in steps of 8 as before" in told[0]
    assert "trainer.micro_batch=2" in told[1]
    assert "BatchNorm" not in told[1]


@pytest.mark.full
def test_a_resumed_run_begins_with_what_fits(build_run, memory, resume_run):
    memory(3)
    run = build_run(*VIT, "trainer.max_epochs=1")
    fit(run, started=0.0)
    assert OmegaConf.load(run.folder.config).trainer.micro_batch == 2
    seen = memory(3)
    resume_run(run, "trainer.max_epochs=2")
    assert set(seen) == {2}


def test_statistics_are_those_of_a_run_that_was_told_before(train_run, build_run, memory, capsys):
    """The pass that has failed leaves nothing behind: not in running statistics either."""
    told = train_run("trainer.micro_batch=4", "test=false")
    memory(4, backward=True)
    run = build_run("test=false")
    fit(run, started=0.0)
    assert_equal_weights(weights_of(told), weights_of(run))
    assert "BatchNorm now sees 4 images at a time" in capsys.readouterr().out


@pytest.mark.full
def test_stored_activations_go_through_in_pieces_too(build_run, memory, pretrained):
    seen = memory(4)
    run = build_run(pretrained, "model.open=[stage4,head]", "trainer.max_epochs=1", "test=false")
    fit(run, started=0.0)
    assert run.module.cache.suffix is not None
    assert seen[0] == 8
    assert set(seen[1:]) == {4}


def test_one_image_that_does_not_fit_is_a_mistake_that_names_what_to_change(build_run, memory):
    memory(0)
    run = build_run(*VIT)
    with pytest.raises(OutOfMemory, match=r"one image at a time, in epoch 1.\n.*model.img_size.*trainer.precision"):
        fit(run, started=0.0)
    assert issubclass(OutOfMemory, UserError)


@pytest.mark.full
def test_another_error_is_not_taken_for_it(build_run, memory):
    memory(3, error=RuntimeError("shapes do not match"))
    with pytest.raises(RuntimeError, match="shapes do not match"):
        fit(build_run(*VIT), started=0.0)


def test_a_size_below_one_is_refused(build_run):
    with pytest.raises(UserError, match=r"trainer.micro_batch must be null or 1 or more, got 0"):
        build_run("trainer.micro_batch=0")
