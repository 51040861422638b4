"""The rules, from made-up timings."""

import pytest

from ft.machine.decide import (
    Variant,
    batch_that_fits,
    earns_its_compilation,
    fastest,
    half,
    processes,
    seconds_an_image,
    variant_named,
)

FP32, BF16 = Variant("fp32", True), Variant("bf16", True)
FP32_CONTIGUOUS, BF16_CONTIGUOUS = Variant("fp32", False), Variant("bf16", False)


@pytest.mark.parametrize(
    ("seconds", "chosen"),
    [
        ({FP32: 1.0, BF16: 0.95}, FP32),  # 5 % is not worth it
        ({FP32: 1.0, BF16: 0.90}, BF16),
        ({FP32: 1.0, BF16: 0.5, BF16_CONTIGUOUS: 0.48}, BF16),
        ({FP32: 1.0, BF16: 0.5, BF16_CONTIGUOUS: 0.4}, BF16_CONTIGUOUS),
        ({FP32: 1.0, BF16: 3.0, FP32_CONTIGUOUS: 0.5}, FP32_CONTIGUOUS),
        ({BF16: 1.0}, BF16),
        ({}, FP32),
    ],
)
def test_bf16_and_contiguous_have_to_be_worth_it(seconds, chosen):
    assert fastest(seconds) == chosen


def test_a_precision_that_was_said_is_kept_even_unmeasured():
    assert fastest({FP32: 1.0, BF16: 0.1}, precision="fp32") == FP32
    assert fastest({FP32: 1.0}, precision="bf16") == BF16


@pytest.mark.parametrize("variant", [FP32, BF16, FP32_CONTIGUOUS, BF16_CONTIGUOUS])
def test_a_variant_is_found_by_its_name(variant):
    assert variant_named(str(variant)) == variant


def test_one_process_decodes_and_computes_in_turn_and_workers_meanwhile():
    assert seconds_an_image(3.0, {1: 5.0}, threads=1, workers=0, processors=2) == 8.0
    assert seconds_an_image(3.0, {1: 5.0}, threads=1, workers=1, processors=2) == 5.0
    assert seconds_an_image(3.0, {1: 1.0}, threads=1, workers=1, processors=2) == 3.0
    assert seconds_an_image(3.0, {1: 1.0}, threads=1, workers=2, processors=2) == 2.0  # both processors are full


@pytest.mark.parametrize(
    ("decode", "forward", "chosen"),
    [
        (4.0, {1: 5.0, 2: 3.0}, (1, 1)),  # a processor each, rather than both for one and then the other
        (0.0, {1: 5.0, 2: 3.0}, (2, 0)),  # nothing to decode
        (0.2, {1: 50.0, 2: 30.0}, (2, 0)),  # next to nothing
        (4.0, {1: 5.0, 2: 60.0}, (1, 1)),  # two threads collapsed
        (0.0, {1: 5.0, 2: 60.0}, (1, 0)),
        (0.0, {1: 5.0, 2: 4.9}, (1, 0)),  # a second thread for 2 % is left to others
        (20.0, {1: 1.0, 2: 0.6}, (1, 2)),  # decoding sets the pace
    ],
)
def test_two_processors_are_shared_between_computing_and_decoding(decode, forward, chosen):
    milliseconds = {threads: each / 1000 for threads, each in forward.items()}
    assert processes(decode / 1000, milliseconds, processors=2, num_images=5000) == chosen


def test_compute_threads_never_share_their_processors_with_workers():
    forward = {1: 0.100, 2: 0.050, 4: 0.025}
    threads, workers = processes(0.010, forward, processors=4, num_images=5000)
    assert threads == 1 or threads + workers <= 4


def test_a_few_images_are_not_worth_starting_a_process_for():
    assert processes(0.004, {1: 0.005}, processors=2, num_images=20) == (1, 0)
    assert processes(0.004, {1: 0.005}, processors=2, num_images=2000) == (1, 1)


def test_many_processors_get_as_many_workers_as_keep_a_gpu_fed():
    assert processes(0.004, {1: 0.001}, processors=16, num_images=100_000) == (1, 4)


def test_threads_and_workers_that_were_said_are_kept():
    forward = {1: 0.005, 2: 0.003}
    assert processes(0.004, forward, processors=2, num_images=2000, workers=0)[1] == 0
    assert processes(0.004, forward, processors=2, num_images=2000, workers=5)[1] == 5
    assert processes(0.004, forward, processors=2, num_images=2000, threads=2)[0] == 2
    assert processes(0.004, forward, processors=2, num_images=2000, threads=7)[0] == 7  # never measured
    assert processes(0.004, forward, processors=2, num_images=2000, threads=2, workers=3) == (2, 3)


def test_a_batch_is_halved_without_changing_what_a_step_sees():
    assert [half(32, 32), half(32, 16), half(32, 1)] == [16, 8, None]
    assert half(50, 50) == 25
    assert half(50, 25) == 10
    assert half(31, 31) == 1


@pytest.mark.parametrize(("free", "fits"), [(None, 32), (10_000, 32), (5_000, 32), (4_000, 16), (1_000, 4), (1, 1)])
def test_the_batch_is_what_fits_into_free_memory(free, fits):
    # 0.8 of what is free, less three times the parameters, at 1.3 times 100 bytes an image.
    assert batch_that_fits(32, tried=32, bytes_an_image=90.0, parameter_bytes=10, free=free) == fits


def test_a_batch_that_was_refused_is_not_tried_again():
    assert batch_that_fits(32, tried=8, bytes_an_image=1.0, parameter_bytes=1, free=10**9) == 8
    assert batch_that_fits(50, tried=4, bytes_an_image=1.0, parameter_bytes=1, free=None) == 2


def test_compilation_is_only_for_runs_that_earn_it_back():
    def earns(device="cuda", steps=10_000, can_compile=True):
        return earns_its_compilation(device, steps=steps, seconds_a_step=0.1, can_compile=can_compile)

    assert earns()
    assert not earns(steps=5_000)  # saves 87 s for 60 s
    assert not earns(steps=0)
    assert not earns(device="cpu", steps=10**9)
    assert not earns(can_compile=False)
