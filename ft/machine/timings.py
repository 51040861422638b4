"""What was measured of a model on a machine; what is kept between runs."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

from ft.machine.decide import Variant, variant_named


class Measured(NamedTuple):
    """One variant.

    Attributes:
        seconds: An image.
        batch: Images that went through at once.
        limit: The same number where a larger batch did not fit into memory; else 0.
    """

    seconds: float
    batch: int
    limit: int = 0


@dataclass(frozen=True)
class Timings:
    """What was measured.

    Attributes:
        frozen: A forward pass in eval mode, by variant.
        train: Forward and backward in train mode, by variant.
        frozen_threads: Seconds an image of the best frozen variant, by number of threads.
        train_threads: Likewise of training.
        bytes_an_image: Of activations that autograd keeps in the best variant of training.
    """

    frozen: dict[Variant, Measured]
    train: dict[Variant, Measured]
    frozen_threads: dict[int, float]
    train_threads: dict[int, float]
    bytes_an_image: float

    def as_dict(self) -> dict[str, Any]:
        """For a JSON file."""
        return {
            "frozen": {str(variant): list(each) for variant, each in self.frozen.items()},
            "train": {str(variant): list(each) for variant, each in self.train.items()},
            "frozen_threads": {str(count): each for count, each in self.frozen_threads.items()},
            "train_threads": {str(count): each for count, each in self.train_threads.items()},
            "bytes_an_image": self.bytes_an_image,
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """What ``as_dict`` gave.

        Raises:
            ValueError, KeyError, TypeError, AttributeError: It is something else.
        """

        def variants(found: Mapping[str, Any]) -> dict[Variant, Measured]:
            return {
                variant_named(name): Measured(float(time), int(size), int(limit))
                for name, (time, size, limit) in found.items()
            }

        def threads(found: Mapping[str, Any]) -> dict[int, float]:
            return {int(count): float(time) for count, time in found.items()}

        return cls(
            variants(values["frozen"]),
            variants(values["train"]),
            threads(values["frozen_threads"]),
            threads(values["train_threads"]),
            float(values["bytes_an_image"]),
        )


def seconds(found: Mapping[Variant, Measured]) -> dict[Variant, float]:
    """An image, of each variant."""
    return {variant: each.seconds for variant, each in found.items()}
