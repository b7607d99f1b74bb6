"""A GPU that is not there: tensors on `cuda` without values, beside real ones on the CPU.

An operation on `cuda` tensors computes shape, type and device alone, and fails where a GPU would: on tensors of two
devices, and where the host needs a value that the device has not computed yet. Copies between the two are counted.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode, unset_fake_temporarily
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

__all__ = ["Copies", "fake_cuda"]


class Copies(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Keeps CPU tensors real, and counts what goes between the devices.

    Attributes:
        down: copies from the device: the host waits for each.
        up: copies to the device.
        waited: those of them that the host waits for, as it had not said `non_blocking`.
        readable: values may be read, each is 1; False lets a read fail.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.down = self.up = self.waited = 0
        self.readable = False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        tensors = [x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
        device = kwargs.get("device")
        fake = any(isinstance(x, FakeTensor) for x in tensors)
        if not fake and (device is None or torch.device(device).type == "cpu"):
            with unset_fake_temporarily():
                return func(*args, **kwargs)
        if func is torch.ops.aten._local_scalar_dense.default and self.readable:
            self.down += 1
            return 1.0 if tensors[0].is_floating_point() else 1
        result = func(*args, **kwargs)
        self._count(func, tensors, result, args, kwargs)
        return result

    def _count(self, func: Any, tensors: list[Tensor], result: Any, args: Any, kwargs: dict[str, Any]) -> None:
        if func is torch.ops.aten.copy_.default:
            source, target, blocks = args[1], args[0], not (args[2] if len(args) > 2 else kwargs.get("non_blocking"))
        elif func is torch.ops.aten._to_copy.default:
            source, target, blocks = args[0], result, not kwargs.get("non_blocking", False)
        else:
            return
        kinds = source.device.type, target.device.type
        self.down += kinds == ("cuda", "cpu")
        self.up += kinds == ("cpu", "cuda")
        self.waited += kinds == ("cpu", "cuda") and blocks


@contextlib.contextmanager
def fake_cuda(patch: pytest.MonkeyPatch) -> Iterator[Copies]:
    """Let `cuda` tensors be made and computed with, without values; give the counter of copies."""
    patch.setattr(torch.cuda.amp.common, "amp_definitely_not_available", lambda: False)  # for autocast
    patch.setattr(torch.cuda, "is_bf16_supported", lambda *_: True)
    patch.setattr(nn.Module, "_apply", _apply)
    with FakeTensorMode(allow_non_fake_inputs=True), Copies() as copies:
        yield copies


def _apply(self: nn.Module, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> nn.Module:
    """`nn.Module._apply`, which cannot put a tensor without values into the place of one that has them."""
    for child in self.children() if recurse else ():
        child._apply(fn)  # type: ignore[no-untyped-call]
    for name, parameter in self._parameters.items():
        if parameter is not None:
            with torch.no_grad():
                self._parameters[name] = nn.Parameter(fn(parameter), parameter.requires_grad)
    for name, buffer in self._buffers.items():
        if buffer is not None:
            self._buffers[name] = fn(buffer)
    return self
