"""`torch.compile` for the repeated parts of a network, one by one."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

__all__ = ["compile_parts", "is_compiled"]

_VARIANTS = 64  # of one class: shapes, windows, gates, precision; PyTorch stops at 8 and runs the rest uncompiled


def compile_parts(parts: Iterable[nn.Module], **options: Any) -> None:
    """Compile the `forward` of each part at its first call; names of parameters and classes are unchanged.

    Parts of the same class and shape share their code, so a trunk of 48 blocks needs only a handful of compilations; a
    whole network as one program takes many times as long. PyTorch's limit of variants is raised for the process, since
    the blocks of a single trunk reach the default.

    Args:
        parts: modules.
        **options: of `torch.compile`.
    """
    config = torch._dynamo.config
    name = "recompile_limit" if hasattr(config, "recompile_limit") else "cache_size_limit"  # before PyTorch 2.6
    setattr(config, name, max(getattr(config, name), _VARIANTS))
    for part in parts:
        part.compile(**options)


def is_compiled(part: nn.Module) -> bool:
    """Whether `compile_parts` covers this part."""
    return part._compiled_call_impl is not None
