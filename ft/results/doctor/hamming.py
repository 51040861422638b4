"""Pairs of 64-bit hashes that differ in few bits: all pairs, in blocks, with the processor's own bit counting.

20,000 hashes are 200 million pairs: a second. No index is kept: at radii that find copies (about 10 of 64 bits) an
index over parts of the hash has to look at nearly everything as well.
"""

from collections.abc import Iterator

import numpy as np

# Pairs that are compared at a time: a block of counts then stays in the processor's cache.
BLOCK_PAIRS = 1 << 21


def pairs_within(*hashes: np.ndarray, radii: tuple[int, ...]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Blocks of pairs ``(first, second)``, ``first < second``, that are within the radius for every kind of hash.

    Args:
        hashes: ``(N,)`` ``uint64`` each.
        radii: Bits that may differ, for each kind.
    """
    count = len(hashes[0])
    rows = max(1, BLOCK_PAIRS // max(count, 1))
    for start in range(0, count, rows):
        stop = min(start + rows, count)
        # Columns before ``start`` were rows of an earlier block.
        near = np.ones((stop - start, count - start), dtype=bool)
        for values, radius in zip(hashes, radii, strict=True):
            near &= np.bitwise_count(values[start:stop, None] ^ values[None, start:]) <= radius
        first, second = np.nonzero(near)
        ordered = first < second
        if ordered.any():
            yield first[ordered] + start, second[ordered] + start
