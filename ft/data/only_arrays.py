"""CIFAR comes as pickles of dictionaries of arrays, and torchvision unpickles them: here nothing but arrays can be."""

import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import IO, Any

import numpy as np
import torchvision.datasets.cifar

# What the files name: NumPy's reconstruction, as NumPy 1 spelled it.
KNOWN = {
    ("numpy.core.multiarray", "_reconstruct"): np.empty(0).__reduce__()[0],
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
}


class ArrayUnpickler(pickle.Unpickler):
    """Knows plain values and arrays; whatever else a file names is refused before it is looked up."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in KNOWN:
            raise pickle.UnpicklingError(f"the file names {module}.{name}, and may hold plain values and arrays only.")
        return KNOWN[module, name]


def load(file: IO[bytes], **how: Any) -> Any:
    """``pickle.load`` of arrays."""
    return ArrayUnpickler(file, **how).load()


@contextmanager
def only_arrays() -> Iterator[None]:
    """Inside, torchvision's CIFAR reads its files like this."""
    module: Any = torchvision.datasets.cifar
    module.pickle = SimpleNamespace(load=load)
    try:
        yield
    finally:
        module.pickle = pickle
