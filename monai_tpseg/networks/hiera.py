"""The encoder: the Hiera trunk of SAM 2 with a task-conditioned adapter before each of its blocks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from sam2.modeling.backbones.hieradet import Hiera
from torch import Tensor, nn

from monai_tpseg.networks.ablation_parts import PlainAdapter
from monai_tpseg.networks.adapter import Routes, TaskAdapter
from monai_tpseg.networks.hiera_block import run_block
from monai_tpseg.networks.layers import run_checkpointed
from monai_tpseg.networks.lora import LowRankAttention
from monai_tpseg.networks.route import SplitGate
from monai_tpseg.networks.stem import ConvStem
from monai_tpseg.words import choose

__all__ = [
    "ADAPTERS",
    "HIERA_VARIANTS",
    "STEMS",
    "AdapterKind",
    "HieraVariant",
    "Stem",
    "TaskConditionedHiera",
    "build_hiera",
    "is_published",
]

AdapterKind = Literal["tca", "lora", "plain", "none"]
ADAPTERS: tuple[AdapterKind, ...] = ("tca", "lora", "plain", "none")
Stem = Literal["patch", "conv"]
STEMS: tuple[Stem, ...] = ("patch", "conv")


@dataclass(frozen=True)
class HieraVariant:
    """The dimensions of one trunk, named like the arguments of `sam2`'s `Hiera`."""

    embed_dim: int
    num_heads: int
    stages: tuple[int, int, int, int]
    global_att_blocks: tuple[int, ...]
    window_pos_embed_bkg_spatial_size: tuple[int, int]
    window_spec: tuple[int, int, int, int]


HIERA_VARIANTS: dict[str, HieraVariant] = {
    # the four of SAM 2 and 2.1; the package's YAML files are the authority (compared in the tests)
    "hiera_tiny": HieraVariant(96, 1, (1, 2, 7, 2), (5, 7, 9), (7, 7), (8, 4, 14, 7)),
    "hiera_small": HieraVariant(96, 1, (1, 2, 11, 2), (7, 10, 13), (7, 7), (8, 4, 14, 7)),
    "hiera_base_plus": HieraVariant(112, 2, (2, 3, 16, 3), (12, 16, 20), (14, 14), (8, 4, 14, 7)),
    "hiera_large": HieraVariant(144, 2, (2, 6, 36, 4), (23, 33, 43), (7, 7), (8, 4, 16, 8)),
    # ours, without published weights: for demonstrations and for training from scratch on a CPU
    "hiera_demo": HieraVariant(32, 1, (1, 1, 3, 1), (3, 4), (7, 7), (8, 4, 8, 4)),
    "hiera_mini": HieraVariant(40, 1, (1, 2, 4, 1), (5, 6), (7, 7), (8, 4, 8, 4)),
}
_FROM_SCRATCH = ("hiera_demo", "hiera_mini")


def is_published(backbone: str) -> bool:
    """Whether SAM 2 publishes weights of this variant, which fix its layout."""
    return backbone not in _FROM_SCRATCH


def build_hiera(backbone: str, stem: Stem = "patch") -> Hiera:
    """Return `sam2`'s trunk of the named variant with fresh weights.

    Args:
        backbone: a key of `HIERA_VARIANTS`.
        stem: "patch", one 7x7 convolution of stride 4 as in SAM 2; or "conv", a `ConvStem`, for variants without
            published weights only.

    Raises:
        ValueError: an unknown variant or stem (the message lists them), or a stem unsupported by the variant's weights.
    """
    if backbone not in HIERA_VARIANTS:
        raise ValueError(f"Unknown backbone {backbone!r}; {choose(backbone, HIERA_VARIANTS)}.")
    if stem not in STEMS:
        raise ValueError(f"Unknown stem {stem!r}; {choose(stem, STEMS)}.")
    if stem == "conv" and is_published(backbone):
        raise ValueError(
            f"stem 'conv' is for {', '.join(_FROM_SCRATCH)}: SAM 2's weights of {backbone!r} have no such part."
        )
    trunk = Hiera(**vars(HIERA_VARIANTS[backbone]))
    if stem == "conv":
        trunk.patch_embed = ConvStem(HIERA_VARIANTS[backbone].embed_dim)
    # sam2 leaves the positional embeddings at zero for its checkpoints to fill; from scratch they need a start
    nn.init.trunc_normal_(trunk.pos_embed, std=0.02)
    nn.init.trunc_normal_(trunk.pos_embed_window, std=0.02)
    return trunk


class TaskConditionedHiera(nn.Module):
    """SAM 2's Hiera with adapters, section 3 of the paper; returns all four stages.

    Args:
        trunk: the Hiera of the `sam2` package.
        num_tasks: T.
        bottleneck: r of the adapters.
        routes: see `TaskAdapter`.
        task_scale: see `TaskAdapter`.
        freeze: the trunk gets no gradients and stays in evaluation mode after `.train()`.
        adapter: "tca", the paper's `TaskAdapter`; or what its ablations put in its place: "lora" (`LowRankAttention`),
            "plain" (`PlainAdapter`), "none" (the bare trunk). `routes` and `task_scale` are those of "tca".

    Raises:
        ValueError: an unknown adapter.
    """

    def __init__(
        self,
        trunk: Hiera,
        num_tasks: int,
        bottleneck: int = 64,
        routes: Routes = "both",
        task_scale: bool = False,
        freeze: bool = True,
        adapter: AdapterKind = "tca",
    ) -> None:
        super().__init__()
        if adapter not in ADAPTERS:
            raise ValueError(f"Unknown adapter {adapter!r}; {choose(adapter, ADAPTERS)}.")
        self.trunk = trunk
        self.channels = tuple(reversed(trunk.channel_list))  # finest stage first
        self.adapters: nn.ModuleList | None = None
        if adapter == "tca":
            self.adapters = nn.ModuleList(
                TaskAdapter(block.dim, num_tasks, bottleneck, routes, task_scale) for block in trunk.blocks
            )
        elif adapter == "plain":
            self.adapters = nn.ModuleList(PlainAdapter(block.dim, bottleneck) for block in trunk.blocks)
        elif adapter == "lora":
            self.low_rank = nn.ModuleList(LowRankAttention(block.attn, bottleneck) for block in trunk.blocks)
        gated = adapter == "tca" and routes == "both"
        self.gate = SplitGate(num_tasks, len(trunk.blocks)) if gated else None
        self.frozen = freeze
        self.checkpointing = False
        self._drawn = _first_kernel(trunk).detach().clone()
        trunk.requires_grad_(not freeze)
        self.train(self.training)

    @property
    def trunk_is_random(self) -> bool:
        """Whether the trunk still has its initial random weights."""
        return torch.equal(_first_kernel(self.trunk).detach().cpu(), self._drawn.cpu())

    def train(self, mode: bool = True) -> TaskConditionedHiera:
        """Switch mode; a frozen trunk stays in evaluation mode."""
        super().train(mode)
        if self.frozen:
            self.trunk.eval()
        return self

    def forward(self, image: Tensor, task: Tensor) -> tuple[Tensor, ...]:
        """Encode `image` (B, 3, H, W) for `task` (B,).

        Returns:
            four maps (B, C_i, H / 2^(i+2), W / 2^(i+2)), finest first.
        """
        gates = None if self.gate is None else self.gate(task)
        h = self.start(image, gates)
        features: list[Tensor] = []
        for i in range(len(self.trunk.blocks)):
            h = run_checkpointed(self.block, i, h, task, gates, enabled=self.checkpointing)
            if i in self.trunk.stage_ends:
                features.append(h.permute(0, 3, 1, 2))  # (B, h, w, C) -> (B, C, h, w)
        return tuple(features)

    def block(self, i: int, h: Tensor, task: Tensor, gates: Tensor | None) -> Tensor:
        """Run block `i` and the adapter before it on (B, h, w, C); `gates` are those of `task`, (B, blocks)."""
        return run_block(self.trunk.blocks[i], self.adapt(i, h, task, gates))

    def shared_blocks(self, row: int, hard: bool | None = None) -> int:
        """Return the number of leading blocks with the same result for task `row` as for every task.

        Args:
            row: of the task.
            hard: count for hard gates; default: the current gates. A soft gate shares only the first block.
        """
        return self.shared_blocks_of([row], hard)[0]

    def shared_blocks_of(self, rows: Sequence[int], hard: bool | None = None) -> list[int]:
        """As `shared_blocks`, for several rows; hard gates cost one device synchronisation."""
        if self.gate is None:
            own = any(isinstance(a, TaskAdapter) and a.routes == "task" for a in self.adapters or ())
            return [0 if own else len(self.trunk.blocks)] * len(rows)
        hard = self.gate.is_hard if hard is None else hard
        if not hard:
            return [1] * len(rows)
        positions = self.gate.split_positions().tolist()
        return [positions[row] - 1 for row in rows]

    def start(self, image: Tensor, gates: Tensor | None = None) -> Tensor:
        """Patches with their position: (B, 3, H, W) -> (B, H / 4, W / 4, C)."""
        h: Tensor = self.trunk.patch_embed(image)
        position: Tensor = self.trunk._get_pos_embed(h.shape[1:3])
        if self.training and self.gate is not None and self.gate.is_hard and gates is not None:
            position = position + 0 * gates.sum()  # a zero gradient, not none: parallel ranks reduce every parameter
        return h + position

    def adapt(self, i: int, h: Tensor, task: Tensor, gates: Tensor | None) -> Tensor:
        """Run the adapter before block `i` on (B, h, w, C); `gates` are those of `task`, (B, blocks)."""
        if self.adapters is None:
            return h
        if self.gate is None or gates is None:
            adapted: Tensor = self.adapters[i](h, task)
        else:
            adapted = self.adapters[i](h, task, gates[:, i], self.gate.is_hard)
        return adapted


def _first_kernel(trunk: Hiera) -> Tensor:
    """The weights of the trunk's first convolution."""
    kernel: Tensor = next(trunk.patch_embed.parameters())
    return kernel
