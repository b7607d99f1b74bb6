"""How many slices may run together: what one of them needs, measured, against a bound."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

__all__ = ["fitting_batch", "peak_bytes"]

_MIB = 2**20


def peak_bytes(run: Callable[[], Any]) -> int:
    """Return the most bytes of tensors that `run` holds at once, beside those that were there before.

    It counts the storages that PyTorch's operations return, on whatever device, so that the same code gives the same
    number each time. What an operation needs inside itself is not seen.
    """
    meter = _Meter()
    with meter:
        run()
    return meter.peak


class _Meter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Follows each storage that an operation makes until nobody holds it any more."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.peak = self._live = 0
        self._sizes: dict[int, int] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        given = {storage._cdata for storage in _storages((args, kwargs))}
        for storage in _storages(result):
            self._follow(storage, given)
        self.peak = max(self.peak, self._live)
        return result

    def _follow(self, storage: torch.UntypedStorage, given: set[int]) -> None:
        """A storage that an operation was given is a view of it, or was written in place."""
        key = storage._cdata
        if key in given or key in self._sizes:
            return
        self._sizes[key] = storage.nbytes()
        self._live += storage.nbytes()
        weakref.finalize(storage, self._forget, key)

    def _forget(self, key: int) -> None:
        self._live -= self._sizes.pop(key)


def _storages(values: Any) -> list[torch.UntypedStorage]:
    """Those of all tensors; weights packed for the processor have none to be seen."""
    tensors = [x for x in tree_leaves(values) if isinstance(x, Tensor) and x.layout == torch.strided]
    return [x.untyped_storage() for x in tensors]


def fitting_batch(run: Callable[[int], Any], memory_mb: float) -> int:
    """Return how many slices may run together so that their tensors stay below `memory_mb` MiB, at least 1.

    Args:
        run: runs the network on so many slices; it is called with 1, twice: the first time it may fill its caches.
        memory_mb: of the intermediate tensors; weights and the volume itself are not part of it.
    """
    run(1)
    return max(1, int(memory_mb * _MIB // max(peak_bytes(lambda: run(1)), 1)))
