"""The query side of a prompt: a set of tokens of any origin."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["Queries", "join"]


class Queries(NamedTuple):
    """Tokens of the decoder.

    start: (B, Q, C) what a token is before the first layer.
    refresh: per level, coarsest first, (B, Q, C) added to the tokens whenever a layer works at that level.
    position: per level, coarsest first, (B, Q, C) the token's position embedding.
    foreground: (B, Q) bool, whether the token looks at the object; the others look at the background.
    present: (B, Q) bool, False for padding, which nothing attends to.
    """

    start: Tensor
    refresh: tuple[Tensor, ...]
    position: tuple[Tensor, ...]
    foreground: Tensor
    present: Tensor


def join(parts: Sequence[Queries]) -> Queries:
    """Return all tokens of several sets as one, in the given order."""
    start, refresh, position, foreground, present = zip(*parts, strict=True)
    return Queries(
        torch.cat(start, dim=1),
        tuple(torch.cat(level, dim=1) for level in zip(*refresh, strict=True)),
        tuple(torch.cat(level, dim=1) for level in zip(*position, strict=True)),
        torch.cat(foreground, dim=1),
        torch.cat(present, dim=1),
    )
