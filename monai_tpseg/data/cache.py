"""Decoded cases kept in memory or on disk."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from monai.data import CacheDataset, PersistentDataset
from monai.data.utils import pickle_hashing

from monai_tpseg.transforms import pipelines_hash

__all__ = ["CachedCases", "case_hash"]


class CachedCases(CacheDataset):
    """MONAI's `CacheDataset`, filled when asked to instead of when built.

    A config can then be parsed, checked and passed around without a file being read.

    Args:
        data: cases.
        transform: up to its first random part it runs once a case, and its result is kept.
        cache_rate: part of the cases to keep, in [0, 1]; 0 keeps none.
        cache_dir: folder in which all cases are kept too, for later epochs and runs; None keeps none there. A case is
            read again when one of its files, the transform or a pipeline has changed. Its files are pickles: use a
            folder that nobody else may write to.
        **kwargs: as in `CacheDataset`.
    """

    def __init__(
        self,
        data: Sequence[Any],
        transform: Callable[..., Any],
        cache_rate: float = 0.0,
        cache_dir: str | Path | None = None,
        **kwargs: Any,
    ) -> None:
        if not 0.0 <= cache_rate <= 1.0:
            raise ValueError(f"cache_rate must be in [0, 1], got {cache_rate}.")
        super().__init__(data, transform, cache_rate=0.0, **kwargs)
        self.cache_rate = cache_rate
        self.filled = False
        self._stored: PersistentDataset | None = None
        if cache_dir is not None:
            hashes = {"hash_func": case_hash, "hash_transform": pickle_hashing}
            self._stored = PersistentDataset(
                self.data, self.transform, cache_dir, **hashes, track_meta=True, weights_only=False
            )

    def fill(self) -> None:
        """Read the cases to keep; does nothing the second time."""
        if not self.filled:
            self.set_rate, self.filled = self.cache_rate, True
            self.set_data(self.data)

    def _load_cache_item(self, index: int) -> Any:
        if self._stored is None:
            return super()._load_cache_item(index)
        return self._stored._cachecheck(self.data[index])

    def _transform(self, index: int) -> Any:
        if self._stored is None or index < self.cache_num:
            return super()._transform(index)
        return self._stored._transform(index)


def case_hash(case: Mapping[str, Any]) -> bytes:
    """Return a hash of a case, of the size and time of change of its files, and of the pipelines."""
    files = [Path(value) for value in case.values() if isinstance(value, str | Path)]
    stamps = [(path.stat().st_size, path.stat().st_mtime_ns) for path in files if path.is_file()]
    hashed: bytes = pickle_hashing({"case": dict(case), "stamps": stamps, "pipelines": pipelines_hash()})
    return hashed
