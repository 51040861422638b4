"""Splits are stratified, seeded, complete, and the test split does not depend on the size of the validation split."""

import numpy as np
import pytest

from ft.data.digits import digits
from ft.data.source import ArrayImages, Source, Split
from ft.data.splits import complete, limit, only_listed
from ft.errors import UserError


def source(counts: dict[str, int]) -> Source:
    labels = np.array([name for name, count in counts.items() for _ in range(count)])
    images = ArrayImages(np.zeros((len(labels), 4, 4), dtype=np.uint8))
    return Source({"train": Split(images, labels, [f"{at}" for at in range(len(labels))])})


def names(split: Split) -> set[str]:
    return set(split.names)


def test_the_missing_splits_are_stratified_and_disjoint():
    whole = source({"a": 80, "b": 20})
    splits = complete(whole, val_fraction=0.2, test_fraction=0.1, seed=0).splits
    assert {name: len(split) for name, split in splits.items()} == {"train": 70, "test": 10, "val": 20}
    assert (splits["val"].labels == "b").sum() == 4
    assert names(splits["train"]) | names(splits["val"]) | names(splits["test"]) == names(whole.splits["train"])
    assert not names(splits["val"]) & names(splits["test"])


def test_the_test_split_is_the_same_for_every_validation_split():
    one, other = (
        complete(source({"a": 80, "b": 20}), val_fraction=share, test_fraction=0.1, seed=0) for share in (0.1, 0.4)
    )
    assert names(one.splits["test"]) == names(other.splits["test"])


def test_the_seed_decides_and_a_split_that_is_there_is_kept():
    first = complete(source({"a": 50}), val_fraction=0.2, test_fraction=0, seed=0)
    assert "test" not in first.splits
    again, other = (complete(source({"a": 50}), val_fraction=0.2, test_fraction=0, seed=seed) for seed in (0, 1))
    assert names(first.splits["val"]) == names(again.splits["val"]) != names(other.splits["val"])
    assert complete(first, val_fraction=0.5, test_fraction=0, seed=9).splits["val"] is first.splits["val"]


def test_every_class_is_in_every_split_and_a_class_of_one_is_refused():
    splits = complete(source({"a": 90, "b": 3}), val_fraction=0.1, test_fraction=0.1, seed=0).splits
    assert all("b" in split.labels for split in splits.values())
    with pytest.raises(UserError, match="class 'b' has only one image"):
        complete(source({"a": 5, "b": 1}), val_fraction=0.2, test_fraction=0, seed=0)


@pytest.mark.parametrize(("val", "test"), [(0, 0.1), (1, 0), (0.1, 1), (0.6, 0.5)])
def test_fractions_out_of_range_are_refused(val, test):
    with pytest.raises(UserError, match=r"data\.(val|test)_fraction"):
        complete(source({"a": 50}), val_fraction=val, test_fraction=test, seed=0)


def test_a_limit_is_a_stratified_subset():
    part = limit(source({"a": 80, "b": 20}).splits["train"], 10, seed=0)
    assert len(part) == 10
    assert (part.labels == "b").sum() == 2


def test_only_listed_images_are_taken(tmp_path):
    split = source({"a": 5}).splits["train"]
    (tmp_path / "list.txt").write_text("3\n1\n")
    assert list(only_listed(split, str(tmp_path / "list.txt"), "data.subset_file").names) == ["3", "1"]
    (tmp_path / "list.txt").write_text("3\n99\n")
    with pytest.raises(UserError, match=r"data.subset_file=.* names 1 of 2 images that the split lacks"):
        only_listed(split, str(tmp_path / "list.txt"), "data.subset_file")


def test_digits_are_real_and_whole():
    data = digits().splits["train"]
    assert len(data) == 1797
    assert data.images[0].size == (8, 8)
    assert np.asarray(data.images[0]).max() > 200
    assert set(data.labels) == set("0123456789")
