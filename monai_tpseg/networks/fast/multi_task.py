"""Several tasks on one image, with a single pass for their shared parts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

import torch
from torch import Tensor, nn

from monai_tpseg.networks.ablation_parts import UDecoder
from monai_tpseg.networks.decoder import PrototypeGuidedDecoder
from monai_tpseg.networks.hiera import TaskConditionedHiera
from monai_tpseg.networks.layers import resize
from monai_tpseg.networks.task import refuse_names

__all__ = ["PlainSteps", "Steps", "check_rows", "finish", "segment_tasks"]


def check_rows(tasks: int | Iterable[int], known: Sequence[int]) -> list[int]:
    """Return one or several rows of tasks as a list.

    Raises:
        ValueError: no row, an unknown or repeated row, or a name.
    """
    refuse_names(tasks)
    rows = [tasks] if isinstance(tasks, int) else [int(task) for task in tasks]
    strange = [row for row in rows if row not in known]
    if not rows or strange or len(set(rows)) < len(rows):
        raise ValueError(f"tasks must be different rows from {', '.join(map(str, known))}, got {rows}.")
    return rows


class Steps(Protocol):
    """A network as the steps of one call; `row` is a row of the task parameters."""

    @property
    def stage_ends(self) -> Sequence[int]:
        """The last block of every stage, counted from 0."""

    def shared_blocks(self, rows: Sequence[int]) -> list[int]:
        """Return for each row the number of leading blocks independent of the task."""

    def start(self, image: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, H / 4, W / 4, C)."""

    def block(self, i: int, h: Tensor, row: int) -> Tensor:
        """Run block `i` with its adapter."""

    def reduce(self, stage: int, h: Tensor) -> Tensor:
        """Run the receptive-field block of a stage, and other task-independent parts: (B, C', h, w)."""

    def decode(self, stages: Sequence[Tensor], row: int, image: Tensor) -> Tensor:
        """Four reduced stages, finest first, and the image (B, 3, H, W) -> logits (B, 1, H, W)."""


def finish(steps: Steps, first: int, h: Tensor, stages: Sequence[Tensor], row: int, image: Tensor) -> Tensor:
    """Run blocks `first` and later, and the decoder, for one task.

    Args:
        steps: of the network.
        first: number of blocks already applied to `h`.
        h: (B, h, w, C).
        stages: the reduced stages before.
        row: of the task.
        image: (B, 3, H, W), for the size of the logits and for the detail block.

    Returns:
        logits (B, 1, H, W).
    """
    own = list(stages)
    for i in range(first, steps.stage_ends[-1] + 1):
        h = steps.block(i, h, row)
        if i in steps.stage_ends:
            own.append(steps.reduce(len(own), h))
    return steps.decode(own, row, image)


def segment_tasks(steps: Steps, image: Tensor, rows: Sequence[int]) -> Tensor:
    """Segment `image` (B, 3, H, W) for each of `rows`.

    The blocks before a task's split position use only shared adapters, so one pass serves all tasks, also for the
    receptive-field blocks of stages that end before it. Each task leaves that pass at its own position; the rest runs
    one task at a time, so memory holds at most one task beside the shared pass.

    Returns:
        logits (B, len(rows), H, W), in the order of `rows`.
    """
    h, stages = steps.start(image), list[Tensor]()
    leaves = dict(zip(rows, steps.shared_blocks(rows), strict=True))
    latest = max(leaves, key=lambda row: leaves[row])
    results: dict[int, Tensor] = {}
    for i in range(leaves[latest] + 1):
        for row in (row for row, leave in leaves.items() if leave == i):
            results[row] = finish(steps, i, h, stages, row, image)
        if i < leaves[latest]:
            h = steps.block(i, h, latest)
            if i in steps.stage_ends:
                stages.append(steps.reduce(len(stages), h))
    return torch.cat([results[row] for row in rows], dim=1)


class PlainSteps:
    """The steps of a `TPSeg`, with its current gates.

    Args:
        encoder, decoder, fusion: of the network.
        align_corners: as in `TPSeg`.
    """

    def __init__(
        self,
        encoder: TaskConditionedHiera,
        decoder: PrototypeGuidedDecoder | UDecoder,
        fusion: nn.Module,
        align_corners: bool,
    ) -> None:
        self.encoder, self.decoder, self.fusion, self.align_corners = encoder, decoder, fusion, align_corners
        self.stage_ends: Sequence[int] = encoder.trunk.stage_ends

    def shared_blocks(self, rows: Sequence[int]) -> list[int]:
        """As in `Steps`."""
        return self.encoder.shared_blocks_of(rows)

    def start(self, image: Tensor) -> Tensor:
        """As in `Steps`."""
        return self.encoder.start(image)

    def block(self, i: int, h: Tensor, row: int) -> Tensor:
        """As in `Steps`."""
        task = self._task(h, row)
        gates = None if self.encoder.gate is None else self.encoder.gate(task)
        return self.encoder.block(i, h, task, gates)

    def reduce(self, stage: int, h: Tensor) -> Tensor:
        """As in `Steps`."""
        reduced: Tensor = self.decoder.rfbs[stage](h.permute(0, 3, 1, 2))  # (B, h, w, C) -> (B, C, h, w)
        return reduced

    def decode(self, stages: Sequence[Tensor], row: int, image: Tensor) -> Tensor:
        """As in `Steps`."""
        task = self._task(stages[0], row)
        logits, _ = self.decoder.decode(stages, task, image)
        fused: Tensor = self.fusion([resize(x, image.shape[-2:], self.align_corners) for x in logits], task)
        return fused

    @staticmethod
    def _task(like: Tensor, row: int) -> Tensor:
        return torch.full((like.shape[0],), row, dtype=torch.long, device=like.device)
