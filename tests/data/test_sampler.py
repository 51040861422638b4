"""The order of images depends on the seed and the epoch, and on nothing else."""

from itertools import chain

import pytest
import torch

from ft.data.sampler import EpochBatchSampler, EvaluationBatchSampler, Progress


def sampler(size=10, batch_size=3, *, at=(0, 0), **options):
    return EpochBatchSampler(size, batch_size, seed=7, progress=lambda: Progress(*at), **options)


def positions(batches):
    return [[position for _, position in batch] for batch in batches]


def test_an_epoch_shows_every_image_once():
    batches = positions(sampler(drop_last=False))
    assert sorted(chain(*batches)) == list(range(10))
    assert [len(batch) for batch in batches] == [3, 3, 3, 1]


def test_the_last_batch_that_is_not_full_is_left_out_unless_it_is_the_only_one():
    assert len(sampler()) == len(list(sampler())) == 3
    assert positions(sampler(size=2)) == [positions(sampler(size=2))[0]]
    assert len(list(sampler(size=2))) == 1


def test_the_order_is_the_same_for_the_same_epoch_and_another_for_the_next():
    assert positions(sampler(at=(1, 0))) == positions(sampler(at=(1, 0)))
    assert positions(sampler(at=(1, 0))) != positions(sampler(at=(2, 0)))


def test_the_epoch_travels_with_every_image():
    assert {epoch for batch in sampler(at=(4, 0)) for epoch, _ in batch} == {4}


def test_resuming_inside_an_epoch_goes_on_with_the_rest_of_it():
    whole = positions(sampler(at=(3, 0)))
    assert positions(sampler(at=(3, 2))) == whole[2:]
    assert len(sampler(at=(3, 2))) == len(whole)


@pytest.mark.parametrize("size", [16, 17, 19])
def test_ranks_share_the_batches_of_one_process(size):
    """Two ranks of batch 2 see together what one process of batch 4 sees."""
    one = positions(sampler(size, 4))
    ranks = [positions(sampler(size, 2, rank=rank, world_size=2)) for rank in (0, 1)]
    assert [first + second for first, second in zip(*ranks, strict=True)] == one


def test_every_rank_has_as_many_batches_when_the_last_is_not_full():
    ranks = [positions(sampler(9, 2, rank=rank, world_size=2, drop_last=False)) for rank in (0, 1)]
    assert len(ranks[0]) == len(ranks[1]) == 3
    assert {len(batch) for rank in ranks for batch in rank[-1:]} == {1}
    assert set(chain(*ranks[0], *ranks[1])) == set(range(9))


def test_weights_decide_how_often_an_image_is_drawn():
    weights = torch.tensor([1.0] * 5 + [0.0] * 5)
    drawn = [
        position
        for epoch in range(20)
        for batch in positions(sampler(at=(epoch, 0), weights=weights))
        for position in batch
    ]
    assert set(drawn) == set(range(5))


def test_evaluation_shows_every_image_once_over_all_ranks():
    ranks = [positions(EvaluationBatchSampler(7, 2, rank=rank, world_size=3)) for rank in range(3)]
    assert sorted(chain(*(batch for rank in ranks for batch in rank))) == list(range(7))
    assert len(EvaluationBatchSampler(7, 2, rank=0, world_size=3)) == len(ranks[0])


@pytest.mark.parametrize(("size", "batch_size", "world_size"), [(9, 4, 2), (5, 2, 2), (17, 4, 4), (3, 8, 3), (8, 4, 2)])
def test_all_ranks_evaluate_equally_many_batches(size, batch_size, world_size):
    ranks = [
        positions(EvaluationBatchSampler(size, batch_size, rank=rank, world_size=world_size))
        for rank in range(world_size)
    ]
    assert len({len(rank) for rank in ranks}) == 1
    assert all(1 <= len(batch) <= batch_size for rank in ranks for batch in rank)
    assert sorted(chain(*(batch for rank in ranks for batch in rank))) == list(range(size))
    assert [len(chain_of) for chain_of in (list(chain(*rank)) for rank in ranks)] == [
        len(range(rank, size, world_size)) for rank in range(world_size)
    ]
