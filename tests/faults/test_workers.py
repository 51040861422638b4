"""A decoding process is killed, or hangs: the run goes on exactly, or ends with a reason."""

import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Sequence
from multiprocessing import reduction, resource_sharer
from multiprocessing.connection import Client, Connection

import pytest
import torch
from PIL import Image

from ft.data.dataset import ImageDataset
from ft.data.loader import Loader
from ft.data.sampler import Key
from ft.data.workers import begin_worker
from ft.errors import WorkersLost

SIZE = 24


class Photos:
    """Images of one colour; where ``fault`` says so, decoding one does something else first."""

    def __init__(self, fault=None) -> None:
        self.fault = fault

    def __len__(self) -> int:
        return SIZE

    def __getitem__(self, position: int) -> Image.Image:
        if self.fault is not None:
            self.fault(position)
        return Image.new("RGB", (4, 4), (position, 0, 0))


def noisy(image: Image.Image) -> torch.Tensor:
    """Draws, so that a batch that is made twice shows whether it is the same."""
    return torch.randint(0, 255, (3, 2, 2), dtype=torch.uint8) + image.getpixel((0, 0))[0]  # pyright: ignore[reportOptionalSubscript] -- of RGB images


def loader(fault=None, *, workers: int = 2, timeout: float = 0) -> Loader:
    dataset = ImageDataset(Photos(fault), torch.arange(SIZE), noisy, seed=0)
    batches: Sequence[list[Key]] = [[(0, at + each) for each in range(4)] for at in range(0, SIZE, 4)]
    return Loader(
        dataset,
        batches,  # pyright: ignore[reportArgumentType]
        num_workers=workers,
        persistent=True,
        device=lambda: torch.device("cpu"),
        instead=lambda: None,
        timeout=timeout,
        names=[f"photo_{at}.jpg" for at in range(SIZE)],
    )


class DiesOnce:
    """The process that decodes an image is killed, the first time."""

    def __init__(self, position: int, times: int = 1, number: int = signal.SIGKILL) -> None:
        self.position = position
        self.number = number
        self.left = torch.tensor(times).share_memory_()

    def __call__(self, position: int) -> None:
        if position == self.position and self.left > 0:
            self.left -= 1
            os.kill(os.getpid(), self.number)


def test_a_killed_worker_is_started_again_once_and_every_batch_is_the_same(capfd: pytest.CaptureFixture[str]):
    whole = list(loader(workers=0))
    watched = loader(DiesOnce(9))
    found = list(watched)
    told = capfd.readouterr().err
    assert [batch.index.tolist() for batch in found] == [batch.index.tolist() for batch in whole]
    for one, other in zip(found, whole, strict=True):
        assert torch.equal(one.images, other.images)
    assert len(told.strip().splitlines()) == 1
    assert "was killed by SIGKILL, likely because memory ran out. They are started again, once." in told
    # And so is the next pass of the same workers.
    assert [batch.index.tolist() for batch in watched] == [batch.index.tolist() for batch in whole]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGABRT])
def test_a_second_death_ends_the_run_with_what_to_change(number: int):
    with pytest.raises(WorkersLost) as error:
        list(loader(DiesOnce(9, times=2, number=number)))
    told = str(error.value)
    assert f"was killed by {signal.Signals(number).name}" in told
    # Memory is what all processes have used up; a decoder that crashes does so at an image.
    assert ("photo_9.jpg" in told) == (number == signal.SIGABRT)
    assert "data.num_workers below 2" in told
    assert len(told.splitlines()) <= 3


def test_a_hanging_worker_ends_the_run_and_the_files_it_hangs_on_are_named():
    began = time.monotonic()
    with pytest.raises(WorkersLost) as error:
        list(loader(lambda position: time.sleep(60) if position == 13 else None, timeout=1))
    assert time.monotonic() - began < 15
    told = str(error.value)
    assert "no decoded batch for 1 s, data.timeout" in told
    assert "photo_12.jpg, photo_13.jpg" in told
    assert len(told.splitlines()) <= 3


def test_what_a_decoder_raises_is_raised():
    def broken(position: int) -> None:
        if position == 5:
            raise ZeroDivisionError("a plugin's mistake")

    with pytest.raises(ZeroDivisionError, match="a plugin's mistake"):
        list(loader(broken))


def ask_and_hang_up(hands_over: Callable[[Connection, int], None]) -> None:
    """What Ctrl-C does to a process that was about to receive a batch's memory from a worker.

    Args:
        hands_over: In the worker, once the other side has gone.
    """
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()
    hung_up, done = context.Event(), context.Event()

    def work() -> None:
        begin_worker(0)

        def send(connection: Connection, pid: int) -> None:
            hung_up.wait(10)
            hands_over(connection, pid)

        theirs.send(resource_sharer._resource_sharer.register(send, done.set))
        done.wait(10)
        time.sleep(0.2)  # until its thread has told what it has to tell

    worker = context.Process(target=work, daemon=True)
    worker.start()
    address, key = ours.recv()
    with Client(address, authkey=multiprocessing.current_process().authkey) as connection:
        connection.send((key, os.getpid()))
    hung_up.set()
    worker.join(30)
    assert done.is_set()


def test_a_worker_keeps_quiet_when_whoever_asked_it_for_a_batch_has_been_interrupted(
    capfd: pytest.CaptureFixture[str],
):
    ask_and_hang_up(lambda connection, pid: reduction.send_handle(connection, 0, pid))
    assert capfd.readouterr().err == ""


def test_a_worker_tells_of_whatever_else_fails_there(capfd: pytest.CaptureFixture[str]):
    ask_and_hang_up(lambda connection, pid: print(1 / 0))
    assert "ZeroDivisionError" in capfd.readouterr().err


@pytest.mark.full
def test_no_batch_is_waited_for_less_than_its_time():
    slow = loader(lambda position: time.sleep(0.5), workers=1, timeout=30)
    assert next(iter(slow)).index.tolist() == [0, 1, 2, 3]


@pytest.mark.full
def test_a_run_whose_worker_is_killed_equals_one_whose_is_not(build_run, train_run, monkeypatch):
    from ft.data.source import ArrayImages
    from ft.fit import fit
    from tests.conftest import assert_equal_weights, weights_of

    whole = train_run("data.num_workers=2", "test=false")
    run = build_run("data.num_workers=2", "test=false")
    dies, read = DiesOnce(7), ArrayImages.__getitem__
    main = os.getpid()

    def fatal(self, position):
        if os.getpid() != main:
            dies(position)
        return read(self, position)

    monkeypatch.setattr(ArrayImages, "__getitem__", fatal)
    fit(run, started=0.0)
    assert int(dies.left) == 0
    assert_equal_weights(weights_of(whole), weights_of(run))
