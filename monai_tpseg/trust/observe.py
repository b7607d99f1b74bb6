"""Pooled features that a forward pass computes anyway: patches, the coarsest stage and the decoder; no extra pass."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from monai_tpseg.networks.decoder import PGTD, PrototypeGuidedDecoder
from monai_tpseg.networks.fast.inference_network import InferenceNetwork
from monai_tpseg.networks.tpseg import TPSeg

__all__ = ["Observed", "observe", "observed_parts"]


@dataclass
class Observed:
    """Pooled features of every picture that passed through an observed network, in order.

    Attributes:
        rows: row of the task, one for each pooled vector.
        pooled: (F,) float32 each, on the CPU: mean and standard deviation over the picture of the patches, of stage 4,
            and of f~ of PGTD3, PGTD2 and PGTD1.
    """

    rows: list[int] = field(default_factory=list)
    pooled: list[Tensor] = field(default_factory=list)
    _patches: Tensor | None = None
    _open: list[Tensor] = field(default_factory=list)
    _tasks: list[int] = field(default_factory=list)

    def of(self, row: int) -> Tensor:
        """Return the vectors of one task, (N, F); N may be 0."""
        self.close()
        found = [vector for at, vector in zip(self.rows, self.pooled, strict=True) if at == row]
        return torch.stack(found) if found else torch.empty(0, 0)

    def take(self, row: int) -> Tensor:
        """Return the result of `of` and discard all vectors, since a slide has many windows."""
        found = self.of(row)
        self.rows, self.pooled = [], []
        return found

    def start(self, patches: Tensor) -> None:
        """Start a batch with (B, h, w, C) of the first layer, which all tasks share."""
        self.close()
        self._patches = _pooled(patches.permute(0, 3, 1, 2))

    def begin(self, stage: Tensor, task: int | Tensor) -> None:
        """Start a decoder with (B, C, h, w) of the coarsest stage, for one row or B rows of tasks."""
        self.close()
        rows = [task] * len(stage) if isinstance(task, int) else task.expand(len(stage)).tolist()
        self._tasks, self._open = rows, [] if self._patches is None else [self._patches]
        self.add(stage)

    def add(self, features: Tensor) -> None:
        """Add (B, C, h, w), or a part of the batch if the decoder runs in parts."""
        self._open.append(_pooled(features))

    def close(self) -> None:
        """Concatenate the parts of the last pass."""
        if not self._open:
            return
        self.pooled += list(_joined(self._open, len(self._tasks)))
        self.rows += self._tasks
        self._open, self._tasks = [], []


def _pooled(features: Tensor) -> Tensor:
    """(B, C, h, w) -> (B, 2 C): mean and standard deviation of each channel."""
    flat = features.detach().float().flatten(2)
    return torch.cat([flat.mean(2), flat.std(2, correction=0)], dim=1).cpu()


def _joined(parts: list[Tensor], batch: int) -> Tensor:
    """Concatenate the parts of a batch along rows and the stages along columns: (B, F)."""
    columns: list[Tensor] = []
    rows: list[Tensor] = []
    for part in parts:
        rows.append(part)
        if sum(map(len, rows)) == batch:
            columns.append(torch.cat(rows))
            rows = []
    return torch.cat(columns, dim=1)


def observed_parts(network: nn.Module) -> tuple[Any, Any] | None:
    """Return trunk and decoder of a TP-Seg in either form; None for other networks, which cannot be observed."""
    inner = getattr(network, "network", network)  # under autocast
    if isinstance(inner, InferenceNetwork):
        return inner.stem, inner
    if isinstance(inner, TPSeg) and isinstance(inner.decoder, PrototypeGuidedDecoder):
        whole = all(isinstance(block, PGTD) for block in inner.decoder.pgtds)
        return (inner.encoder.trunk, inner.decoder) if whole else None
    return None


@contextmanager
def observe(network: nn.Module) -> Iterator[Observed | None]:
    """Collect the pooled features of a network within the block; None if it is not a TP-Seg with all of its decoders.

    Args:
        network: trainable or fast form, see `monai_tpseg.networks.fast.inference_form`.
    """
    parts = observed_parts(network)
    if parts is None:
        yield None
        return
    (trunk, part), seen = parts, Observed()
    hooks = [trunk.patch_embed.register_forward_hook(lambda _, args, out: seen.start(out))]
    hooks += [part.side_head.register_forward_pre_hook(lambda _, args: seen.begin(*args))]
    hooks += [block.encode.register_forward_hook(lambda _, args, out: seen.add(out)) for block in part.pgtds]
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()
        seen.close()
