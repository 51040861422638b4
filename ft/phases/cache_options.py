"""What of the frozen stages' results may be stored, and what they depend on."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ft.cache.codec import DTYPES
from ft.errors import one_of, require
from ft.machine.choice import Choice

KEY = "cache"


@dataclass(frozen=True)
class CacheOptions:
    """What may be stored.

    Attributes:
        activations: Whether anything is.
        dtype: ``auto`` (bf16 where the frozen stages run in bf16, else fp32), ``fp32``, ``bf16`` or ``int8``.
        memory: GiB of activations in memory; beyond it their files are mapped.
        disk: GiB of activations in the cache folder, of all runs together; the oldest go first.
        identity: What the model is, besides its weights.
        images: Fingerprint of each split's images; ``None`` where they cannot be told apart: kept in memory alone.
        drawn_with: What decides how views other than the first are drawn.
        choice: How this machine computes best; ``None`` where nobody has measured: fp32, threads as they are.
    """

    activations: bool
    dtype: str
    memory: float
    disk: float
    identity: Mapping[str, Any]
    images: Mapping[str, str | None]
    drawn_with: Mapping[str, Any]
    choice: Choice | None

    def __post_init__(self) -> None:
        one_of(self.dtype, ("auto", *DTYPES), f"{KEY}.dtype")
        require(self.memory >= 0, f"{KEY}.memory", "must be at least 0 GiB", self.memory)
        require(self.disk >= 0, f"{KEY}.disk", "must be at least 0 GiB", self.disk)

    @property
    def bf16(self) -> bool:
        """Whether the frozen stages run in bf16."""
        return self.choice is not None and self.choice.frozen_precision == "bf16"

    @property
    def stored_dtype(self) -> str:
        return self.dtype if self.dtype != "auto" else "bf16" if self.bf16 else "fp32"
