"""scikit-learn's handwritten digits: 1,797 real 8 x 8 scans, part of the package, so nothing is downloaded."""

from typing import Any

import numpy as np

from ft.data.source import ArrayImages, Source, Split


def digits() -> Source:
    """Ten classes, one split; the fractions make the others."""
    from sklearn.datasets import load_digits

    bunch: Any = load_digits()
    pixels = (bunch.images * (255 / 16)).round().astype(np.uint8)  # grey levels are 0..16
    names = [f"digits/{number}" for number in range(len(pixels))]
    return Source(
        {"train": Split(ArrayImages(pixels), bunch.target.astype(str), names)},
        classes=tuple("0123456789"),
        in_memory=True,
    )
