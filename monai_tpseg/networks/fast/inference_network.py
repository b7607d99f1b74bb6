"""TP-Seg for inference: fixed tasks, hard gates, one precision."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from monai_tpseg.networks.adapter import TaskAdapter
from monai_tpseg.networks.compiled import compile_parts
from monai_tpseg.networks.decoder import PGTD, PrototypeGuidedDecoder, TaskFusion
from monai_tpseg.networks.fast import multi_task
from monai_tpseg.networks.fast.decoder import FastDetail, FastHead, FastLow, FastPGTD, upsampled_sum
from monai_tpseg.networks.fast.encoder import FastBlock, FoldedAdapter
from monai_tpseg.networks.hiera import TaskConditionedHiera
from monai_tpseg.networks.layers import (
    cast,
    cast_norms,
    check_image,
    full_precision,
    is_recorded,
    plain_tensor,
    to_device,
    with_meta_of,
)
from monai_tpseg.networks.task import TaskNetwork, expand_task, row_numbers

__all__ = ["InferenceNetwork"]


class InferenceNetwork(TaskNetwork):
    """Fast equivalent of a `TPSeg` with hard gates; see `TPSeg.optimize_for_inference`.

    It takes the arguments of `TPSeg.forward` and returns its fused logits in float32. Weights are copied and cast once.

    Args:
        encoder: of the network.
        decoder: of the network.
        fusion: of the network.
        rows: the tasks that it can segment.
        dtype: of weights and features; those of the prototype-guided decoders and the detail block stay in float32.
        align_corners: as in `TPSeg`.

    Raises:
        ValueError: an unsupported dtype, or parts of an ablation, which have no fast form.
    """

    fusion: Tensor

    def __init__(
        self,
        encoder: TaskConditionedHiera,
        decoder: nn.Module,
        fusion: nn.Module,
        rows: Sequence[int],
        dtype: torch.dtype,
        align_corners: bool = False,
    ) -> None:
        super().__init__()
        if dtype not in (torch.float32, torch.bfloat16, torch.float16):
            raise ValueError(f"dtype must be torch.float32, bfloat16 or float16, got {dtype}.")
        adapters = [a for a in encoder.adapters or () if isinstance(a, TaskAdapter)]
        if not isinstance(decoder, PrototypeGuidedDecoder) or not isinstance(fusion, TaskFusion):
            raise ValueError(f"{type(decoder).__name__} has no fast form; run this network as it is.")
        pgtds = [block for block in decoder.pgtds if isinstance(block, PGTD)]
        if len(adapters) < len(encoder.trunk.blocks) or len(pgtds) < len(decoder.pgtds):
            raise ValueError("A network without some of its adapters or PGTD has no fast form; run it as it is.")
        self.rows, self.num_tasks = tuple(rows), fusion.task_weight.shape[0]
        self.dtype, self.align_corners = dtype, align_corners
        self.stage_ends = list(encoder.trunk.stage_ends)
        self._shared = dict(zip(self.rows, encoder.shared_blocks_of(self.rows, hard=True), strict=True))
        trunk = copy.deepcopy(encoder.trunk)
        self.blocks = nn.ModuleList(FastBlock(block) for block in trunk.blocks)
        trunk.blocks = nn.ModuleList()
        self.stem = trunk
        self.adapters = nn.ModuleList(FoldedAdapter(a, self._routes(i), dtype) for i, a in enumerate(adapters))
        self.rfbs = copy.deepcopy(decoder.rfbs)
        self.lows = nn.ModuleList(FastLow(pgtd) for pgtd in pgtds)
        fast = [FastPGTD(pgtd) for pgtd in pgtds]
        self.side_head = FastHead(decoder.side_head)
        self.detail = None if decoder.detail is None else FastDetail(decoder.detail)
        heads = [self.side_head, *(pgtd.head for pgtd in fast)]
        self._cast = (
            self.stem.patch_embed,
            self.blocks,
            self.rfbs,
            *heads,
        )  # in `dtype`; what is not named here stays in float32
        for part in self._cast:
            cast(part, dtype)
        self.pgtds = nn.ModuleList(fast)
        self.register_buffer("fusion", fusion.task_weight.detach().softmax(dim=-1))
        self._position: tuple[object, Tensor] | None = None
        self.eval().requires_grad_(False)

    def forward(self, image: Tensor, task: int | Tensor | None = None) -> Tensor:
        """Segment `image` (B, 3, H, W) for `task`, an int, a 0-d or a (B,) tensor -> float32 logits (B, 1, H, W).

        A batch with several tasks runs task by task. A `task` on a GPU costs a synchronisation; an int or a tensor on
        the CPU does not. A network built for one task needs no `task`. The logits keep the metadata of `image`.

        Raises:
            ValueError: a size that is not divisible by 32, integers, no task, one that this network was not built
                for, or weights that were cast after it was built.
        """
        if task is None and len(self.rows) == 1:
            task = self.rows[0]
        with _without_autocast(image.device):
            return with_meta_of(image, self._segment(plain_tensor(image), self.named_task(task)))

    def _segment(self, image: Tensor, task: int | Tensor) -> Tensor:
        self._check(image)
        if isinstance(task, int):
            return self._one_task(image, task)
        numbers = row_numbers(task, self.num_tasks)
        rows = expand_task(numbers, image.shape[0], self.num_tasks, numbers.device).tolist()
        if len(set(rows)) == 1:
            return self._one_task(image, rows[0])
        result = image.new_empty((image.shape[0], 1, *image.shape[2:]), dtype=torch.float32)
        for row in sorted(set(rows)):
            samples = to_device(torch.tensor([b for b, r in enumerate(rows) if r == row], device="cpu"), image.device)
            result[samples] = self._one_task(image[samples], row)
        return result

    def segment_tasks(self, image: Tensor, tasks: Iterable[int]) -> Tensor:
        """Segment `image` (B, 3, H, W) for several tasks -> logits (B, tasks, H, W); see `TPSeg.segment_tasks`."""
        pixels, rows = plain_tensor(image), multi_task.check_rows(tasks, self.rows)
        self._check(pixels)
        with _without_autocast(image.device):
            return with_meta_of(image, multi_task.segment_tasks(self, pixels, rows))

    def _check(self, image: Tensor) -> None:
        check_image(image)
        weights = next(self.stem.patch_embed.parameters()).dtype
        if weights != self.dtype:
            raise ValueError(
                f"This network was built in {self.dtype}, and its weights were cast to {weights}: call "
                f"optimize_for_inference(dtype={weights}) of the network that it was made from."
            )
        if not image.is_floating_point():
            raise ValueError(f"image must be floating point, ImageNet-normalised, got {image.dtype}.")

    def compile_parts(self, **options: Any) -> None:
        """Compile blocks, adapters, receptive-field blocks and decoders separately; options of `torch.compile`."""
        compile_parts((*self.blocks, *self.adapters, *self.rfbs, *self.lows, *self.pgtds), **options)

    def _apply(self, fn: Any, recurse: bool = True) -> InferenceNetwork:
        """Norms are of another type on another device."""
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        for part in self._cast:
            cast_norms(part, self.dtype)
        return self

    def _one_task(self, image: Tensor, row: int) -> Tensor:
        multi_task.check_rows(row, self.rows)
        return multi_task.finish(self, 0, self.start(image), (), row, image)

    def _routes(self, i: int) -> list[int | None]:
        """The routes that block `i` may run: None for the shared one."""
        own = [row for row in self.rows if i >= self._shared[row]]
        return [*([None] if len(own) < len(self.rows) else []), *own]

    def shared_blocks(self, rows: Sequence[int]) -> list[int]:
        """Return for each row the number of leading blocks on the shared route."""
        return [self._shared[row] for row in rows]

    def start(self, image: Tensor) -> Tensor:
        """Patches with their position, (B, 3, H, W) -> (B, H / 4, W / 4, C)."""
        image = image.to(dtype=self.dtype, memory_format=torch.channels_last)
        h: Tensor = self.stem.patch_embed(image)
        return h + self._position_of(h)

    def _position_of(self, h: Tensor) -> Tensor:
        """The embedding of the last size is kept."""
        key = (tuple(h.shape[1:3]), h.device)
        if is_recorded():
            return self.stem._get_pos_embed(h.shape[1:3]).to(self.dtype)  # type: ignore[no-any-return]
        if self._position is None or self._position[0] != key:
            self._position = (key, self.stem._get_pos_embed(h.shape[1:3]).to(self.dtype))
        return self._position[1]

    def block(self, i: int, h: Tensor, row: int) -> Tensor:
        """Run the adapter and block `i`."""
        adapter = self.adapters[i]
        assert isinstance(adapter, FoldedAdapter)
        result: Tensor = self.blocks[i](adapter(h, *adapter.route(row if i >= self._shared[row] else None)))
        return result

    def reduce(self, stage: int, h: Tensor) -> Tensor:
        """Run the receptive-field block of a stage, and the task-independent part of its decoder."""
        reduced: Tensor = self.rfbs[stage](h.permute(0, 3, 1, 2))  # (B, h, w, C) -> (B, C, h, w), channels last
        return self.lows[stage](reduced) if stage < len(self.lows) else reduced

    def decode(self, stages: Sequence[Tensor], row: int, image: Tensor) -> Tensor:
        """Run the decoders from coarse to fine and fuse their logits."""
        logits, high = [self.side_head(stages[3], row)], stages[3]
        for i in (2, 1, 0):
            output, high = self.pgtds[i](stages[i], high, row)
            logits.insert(0, output)
        if self.detail is not None:
            logits.insert(0, self.detail(image, high, row))
        return upsampled_sum(logits, self.fusion[row], image.shape[-2:], self.align_corners)


def _without_autocast(device: torch.device) -> AbstractContextManager[Any]:
    """The precision is that of `dtype`, also where an engine of MONAI runs with `amp`: weights are cast and packed."""
    return nullcontext() if is_recorded() else full_precision(device)
