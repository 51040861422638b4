"""Settings of the wrong kind are refused by their annotation, in words."""

from collections.abc import Sequence
from typing import Any

import pytest

from ft.kinds import fits, in_words


@pytest.mark.parametrize(
    ("value", "annotation"),
    [
        (1, int), (1, float), (1.5, float), ("a", str), (True, bool), (None, int | None), ([1, 2], int | list[int]),
        ([0.5, 1], Sequence[float]), ({"a": 1}, dict[str, float]), ({"a": [1]}, dict[str, Any]), (object(), Any),
    ],
)  # fmt: skip
def test_what_fits(value, annotation):
    assert fits(value, annotation)


@pytest.mark.parametrize(
    ("value", "annotation", "words"),
    [
        (True, int, "a whole number"),
        (2.0, int, "a whole number"),
        (float("nan"), float, "a finite number"),
        (float("inf"), float | None, "a finite number or null"),
        ("1", float, "a finite number"),
        ("abc", list[str], "a list of text"),
        ([1, "b"], int | list[int], "a whole number or a list of a whole number"),
        ({"a": "b"}, dict[str, float] | None, "a group of keys and values or null"),
        (0, bool, "true or false"),
    ],
)
def test_what_does_not_fit_is_said_in_words(value, annotation, words):
    assert not fits(value, annotation)
    assert in_words(annotation) == words
