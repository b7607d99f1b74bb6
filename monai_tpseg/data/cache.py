"""Decoded cases kept in memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from monai.data import CacheDataset

__all__ = ["CachedCases"]


class CachedCases(CacheDataset):
    """MONAI's `CacheDataset`, filled when asked to instead of when built.

    A config can then be parsed, checked and passed around without a file being read.

    Args:
        data: cases.
        transform: up to its first random part it runs once a case, and its result is kept.
        cache_rate: part of the cases to keep, in [0, 1]; 0 keeps none.
        **kwargs: as in `CacheDataset`.
    """

    def __init__(
        self, data: Sequence[Any], transform: Callable[..., Any], cache_rate: float = 0.0, **kwargs: Any
    ) -> None:
        if not 0.0 <= cache_rate <= 1.0:
            raise ValueError(f"cache_rate must be in [0, 1], got {cache_rate}.")
        super().__init__(data, transform, cache_rate=0.0, **kwargs)
        self.cache_rate = cache_rate
        self.filled = False

    def fill(self) -> None:
        """Read the cases to keep; does nothing the second time."""
        if not self.filled:
            self.set_rate, self.filled = self.cache_rate, True
            self.set_data(self.data)
