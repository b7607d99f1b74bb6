"""TP-Seg: one network for many lesion tasks; `tpseg_hiera` builds its variants."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from typing import Any, Literal, NamedTuple, overload

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from monai_tpseg.networks.ablation_parts import UDecoder
from monai_tpseg.networks.compiled import compile_parts
from monai_tpseg.networks.decoder import PGTD, PrototypeGuidedDecoder, TaskFusion
from monai_tpseg.networks.fast.inference_network import InferenceNetwork
from monai_tpseg.networks.fast.multi_task import PlainSteps, check_rows, segment_tasks
from monai_tpseg.networks.hiera import (
    HIERA_VARIANTS,
    TaskConditionedHiera,
)
from monai_tpseg.networks.layers import check_image, check_precision, is_recorded, plain_tensor, resize, with_meta_of
from monai_tpseg.networks.script import TracedForScript
from monai_tpseg.networks.task import TaskNetwork, expand_task

__all__ = ["TPSeg", "TPSegOutput", "unwrap"]

_PATIENCE = 100  # training steps without an update of the prototypes, after which one is warned


class TPSegOutput(NamedTuple):
    """All outputs of the network in training.

    logits: fused prediction (B, 1, H, W).
    side_logits: PGTD1, PGTD2, PGTD3 and the head of the last stage, each (B, 1, H, W); before them the detail block's,
        where there is one. (a plain U-shaped decoder gives those of its three blocks)
    features: f~ of the PGTD1, PGTD2, PGTD3 that exist, each (B, C, h, w), for the prototype update.
    prototypes: the prototypes of each sample's task in PGTD1, PGTD2, PGTD3, each (B, 2, C), 0 background.
    """

    logits: Tensor
    side_logits: tuple[Tensor, ...]
    features: tuple[Tensor, ...]
    prototypes: tuple[Tensor, ...]


class TPSeg(TracedForScript, TaskNetwork):
    """Task-Prototype network for unified lesion segmentation (arXiv 2604.00684).

    Adapters condition the encoder features on the task, the task's foreground and background prototypes guide the
    decoder, and a per-task weighted sum of the decoder outputs is the prediction.

    Args:
        encoder: called with (image, task), returns four maps at strides 4, 8, 16, 32.
        decoder: called with (features, task); the paper's, or a plain one of its ablations.
        num_tasks: T, rows of every task parameter.
        align_corners: of the last upsampling; True in the released layout.
        extras: unused parameters of the released files, kept so that counts and files agree.
        fusion: called with (outputs, task), gives the prediction; by default a `TaskFusion`.

    >>> from monai_tpseg.networks import tpseg_hiera_demo
    >>> net = tpseg_hiera_demo(num_tasks=2)
    >>> net(torch.zeros(2, 3, 64, 96), task=torch.tensor([0, 1])).shape
    torch.Size([2, 1, 64, 96])
    """

    def __init__(
        self,
        encoder: TaskConditionedHiera,
        decoder: PrototypeGuidedDecoder | UDecoder,
        num_tasks: int,
        align_corners: bool = False,
        extras: nn.Module | None = None,
        fusion: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.num_tasks = num_tasks
        self.align_corners = align_corners
        self.encoder = encoder
        self.decoder = decoder
        self.fusion = TaskFusion(num_tasks) if fusion is None else fusion
        self.steps_without_update = 0
        if extras is not None:
            self.extras = extras

    @overload
    def forward(
        self, image: Tensor, task: int | Tensor | None = ..., deep_supervision: Literal[False] = ...
    ) -> Tensor: ...

    @overload
    def forward(self, image: Tensor, task: int | Tensor | None, deep_supervision: Literal[True]) -> TPSegOutput: ...

    def forward(
        self, image: Tensor, task: int | Tensor | None = None, deep_supervision: bool = False
    ) -> Tensor | TPSegOutput:
        """Segment `image` for `task`.

        Args:
            image: (B, 3, H, W), ImageNet-normalised, H and W divisible by 32.
            task: row of the task, an int, a 0-d or a (B,) tensor; see `TaskNetwork` for a call without.
            deep_supervision: return a `TPSegOutput` instead of the fused logits alone.

        Returns:
            logits (B, 1, H, W), with the metadata of `image`; or the `TPSegOutput` they are part of, plain tensors.

        Raises:
            ValueError: a size not divisible by 32, an empty batch, a type other than float32, no task, or one that does
                not exist.
            TypeError: `image` is no tensor.
        """
        pixels = plain_tensor(image)
        check_image(pixels)
        check_precision(pixels, self)
        rows = expand_task(self.named_task(task), pixels.shape[0], self.num_tasks, pixels.device)
        self._count_step()
        logits, features = self.decoder(self.encoder(pixels, rows), rows, pixels)
        side = tuple(resize(x, pixels.shape[-2:], self.align_corners) for x in logits)
        fused: Tensor = self.fusion(side, rows)
        if not deep_supervision:
            return with_meta_of(image, fused)
        return TPSegOutput(fused, side, features, tuple(pgtd.bank(rows) for pgtd in self.pgtds))

    def checkpoint_activations(self, enabled: bool = True) -> TPSeg:
        """Choose whether training stores the intermediate results of blocks, RFBs and PGTDs or recomputes them.

        Recomputation saves memory and costs time, since every block runs forward twice; gradients are the same.

        Returns:
            this network.
        """
        self.encoder.checkpointing = enabled
        if isinstance(self.decoder, PrototypeGuidedDecoder):
            self.decoder.checkpointing = enabled
        return self

    def compile_parts(self, **options: Any) -> TPSeg:
        """Compile blocks, adapters and decoders with `torch.compile` at their first call, also in training.

        Each is compiled separately, see `monai_tpseg.networks.compiled`. Needs a C++ compiler; worthwhile only on a
        GPU.

        Args:
            **options: of `torch.compile`.

        Returns:
            this network.
        """
        decoders = [part for module in self.decoder.children() for part in _single(module)]
        compile_parts((*self.encoder.trunk.blocks, *(self.encoder.adapters or ()), *decoders), **options)
        return self

    @torch.no_grad()
    def segment_tasks(self, image: Tensor, tasks: Iterable[int]) -> Tensor:
        """Segment one batch for several tasks, with a single pass for their shared blocks.

        The blocks before a task's split position, and the receptive-field blocks of stages that end before it, are the
        same for all tasks. They run once; each task leaves them at its split. Soft gates share only the first block.

        Args:
            image: (B, 3, H, W), as in `forward`.
            tasks: rows of the tasks, each at most once.

        Returns:
            logits (B, tasks, H, W), in the order of `tasks`; equal to those of one call per task.

        Raises:
            ValueError: no task, an unknown or repeated one, or an invalid image.
        """
        pixels, rows = plain_tensor(image), check_rows(tasks, range(self.num_tasks))
        check_image(pixels)
        check_precision(pixels, self)
        steps = PlainSteps(self.encoder, self.decoder, self.fusion, self.align_corners)
        return with_meta_of(image, segment_tasks(steps, pixels, rows))

    def optimize_for_inference(
        self,
        tasks: int | Iterable[int] | None = None,
        dtype: torch.dtype = torch.float32,
        compile: bool = False,
    ) -> InferenceNetwork:
        """Return a faster, equivalent copy for the named tasks; this network is unchanged.

        The gates of the copy are hard. Each block runs one route, with its normalisation folded into the projection;
        everything is channels last; terms that depend only on the prototypes, and the mixing of the experts, are
        precomputed or computed on the smaller side; weights are cast once. Compared with this network with hard gates,
        float32 logits differ by rounding, up to 1e-4 of the largest logit, and bf16 logits by about 1e-2 of it.

        Args:
            tasks: row or rows of the tasks to segment; default: all. Fewer tasks need less memory.
            dtype: of weights and features: float32, bfloat16 or float16 (which needs a GPU). The prototype-guided
                decoders stay in float32.
            compile: run each block and decoder with `torch.compile`; the first calls are slow.

        Raises:
            ValueError: an unknown task or an unsupported dtype.
        """
        rows = check_rows(range(self.num_tasks) if tasks is None else tasks, range(self.num_tasks))
        fast = InferenceNetwork(self.encoder, self.decoder, self.fusion, rows, dtype, self.align_corners)
        fast.task_names = self.task_names
        if compile:
            fast.compile_parts()
        return fast

    def update_prototypes(
        self, features: Sequence[Tensor], label: Tensor, task: int | Tensor, taken: Tensor | None = None
    ) -> None:
        """Move the prototypes of every PGTD; called by the training loop, see `PrototypeBank.update`.

        Args:
            features: `TPSegOutput.features` of this batch.
            label: (B, 1, H, W) in {0, 1}.
            task: as in `forward`.
            taken: 0-d bool tensor; False, for a skipped training step, moves nothing.
        """
        rows = expand_task(task, label.shape[0], self.num_tasks, label.device)
        self.steps_without_update = 0
        for pgtd, encoded in zip(self.pgtds, features, strict=True):
            pgtd.bank.update(encoded, plain_tensor(label), rows, taken)

    def _count_step(self) -> None:
        """Count a training step, and say once that nobody moves the prototypes."""
        if not self.training or not torch.is_grad_enabled() or is_recorded() or not self.pgtds:
            return
        self.steps_without_update += 1
        if self.steps_without_update == _PATIENCE:
            warnings.warn(
                f"The prototypes have not moved for {_PATIENCE} training steps: call net.update_prototypes("
                "output.features, label, task) after each, or attach monai_tpseg.handlers.PrototypeUpdate.",
                stacklevel=3,
            )

    @property
    def pgtds(self) -> list[PGTD]:
        """The PGTD1, PGTD2, PGTD3 that exist."""
        blocks = self.decoder.pgtds if isinstance(self.decoder, PrototypeGuidedDecoder) else ()
        return [block for block in blocks if isinstance(block, PGTD)]

    @property
    def backbone(self) -> str:
        """Name of the trunk's variant, or "custom"."""
        trunk = self.encoder.trunk
        depth, width = len(trunk.blocks), trunk.pos_embed.shape[1]
        names = [n for n, v in HIERA_VARIANTS.items() if (sum(v.stages), v.embed_dim) == (depth, width)]
        return names[0] if names else "custom"


def _single(module: nn.Module) -> Iterable[nn.Module]:
    """The modules of a list, or the module itself."""
    return module if isinstance(module, nn.ModuleList) else (module,)


def unwrap(network: nn.Module) -> nn.Module:
    """Return the network inside wrappers of PyTorch: parallel, averaged (`AveragedModel`) or compiled; else itself."""
    inner: Any = network
    wrappers = (nn.parallel.DistributedDataParallel, nn.DataParallel, AveragedModel)
    while isinstance(inner, wrappers) or hasattr(inner, "_orig_mod"):
        inner = inner.module if isinstance(inner, wrappers) else inner._orig_mod
    return inner  # type: ignore[no-any-return]
