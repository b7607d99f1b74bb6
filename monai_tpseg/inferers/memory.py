"""Slice batch size from the measured memory of one slice and a limit."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

__all__ = ["largest_batch", "peak_bytes"]

_MIB = 2**20


def peak_bytes(run: Callable[[], Any]) -> int:
    """Return the peak bytes of tensors that `run` holds at once, excluding those that existed before.

    The count covers the storages returned by PyTorch's operations, on any device, and is reproducible. Temporary memory
    inside an operation is not counted.
    """
    meter = _Meter()
    with meter:
        run()
    return meter.peak


class _Meter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Tracks each storage created by an operation until it is released."""

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


def largest_batch(run: Callable[[int], Any], memory_mb: float) -> int:
    """Return the number of slices, at least 1, that can run together with tensors below `memory_mb` MiB.

    Args:
        run: runs the network on the given number of slices; called twice with 1, first to fill its caches.
        memory_mb: of the intermediate tensors, excluding weights and the volume itself.
    """
    run(1)
    return max(1, int(memory_mb * _MIB // max(peak_bytes(lambda: run(1)), 1)))
