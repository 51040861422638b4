"""Random numbers that are derived, never stored: from (seed, what, when), the same in every process."""

import hashlib
import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


def derive_seed(*parts: int | str) -> int:
    """A 63-bit seed from any number of parts; different parts give unrelated seeds."""
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def seed_global_generators(*parts: int | str) -> None:
    """Sets Python's, NumPy's and torch's global generators from the parts."""
    seed = derive_seed(*parts)
    random.seed(seed)
    np.random.seed(seed % 2**32)
    # Not torch.manual_seed, which without a GPU writes down the whole stack for a later error message: 0.3 ms a step.
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_available():
        torch.cuda.manual_seed_all(seed)
    if torch.backends.mps.is_available():
        torch.mps.manual_seed(seed)


def draw_beta(alpha: float, generator: torch.Generator) -> float:
    """A number in ``[0, 1]`` from Beta(alpha, alpha), of which torch draws none from a generator."""
    numbers = np.random.default_rng(int(torch.randint(2**62, (), generator=generator)))
    return float(numbers.beta(alpha, alpha))


@contextmanager
def seeded(*parts: int | str) -> Iterator[None]:
    """Inside, the global CPU generators start from the parts; afterwards they are as they were before.

    torchvision's transforms draw from the global generators, in the main process too when there are no workers.
    """
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    seed = derive_seed(*parts)
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.default_generator.manual_seed(seed)
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])
