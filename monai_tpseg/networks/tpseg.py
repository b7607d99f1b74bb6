"""TP-Seg: one network for many lesion tasks, and its variants."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from typing import Any, Literal, NamedTuple, overload

import torch
from torch import Tensor, nn

from monai_tpseg.networks.ablation_parts import FinestOutput, UDecoder
from monai_tpseg.networks.adapter import Routes
from monai_tpseg.networks.arguments import keep_arguments
from monai_tpseg.networks.compiled import compile_parts
from monai_tpseg.networks.decoder import PGTD, PrototypeGuidedDecoder, TaskFusion
from monai_tpseg.networks.fast.multi_task import PlainSteps, check_rows, segment_tasks
from monai_tpseg.networks.fast.network import InferenceNetwork
from monai_tpseg.networks.hiera import (
    HIERA_VARIANTS,
    AdapterKind,
    Stem,
    TaskConditionedHiera,
    build_hiera,
    is_published,
)
from monai_tpseg.networks.layers import check_image, is_recorded, plain_tensor, resize, with_meta_of
from monai_tpseg.networks.script import TracedForScript
from monai_tpseg.networks.task import TaskNetwork, expand_task
from monai_tpseg.networks.unused_parameters import ReleasedExtras

__all__ = [
    "DECODERS",
    "TPSeg",
    "TPSegOutput",
    "tpseg_hiera",
    "tpseg_hiera_base_plus",
    "tpseg_hiera_demo",
    "tpseg_hiera_large",
    "tpseg_hiera_small",
    "tpseg_hiera_tiny",
    "unwrap",
]

Layout = Literal["paper", "released"]
DecoderKind = Literal["pgtd", "unet"]
DECODERS: tuple[DecoderKind, ...] = ("pgtd", "unet")
_PATIENCE = 100  # training steps without an update of the prototypes, after which one is warned


class TPSegOutput(NamedTuple):
    """Everything the network computes in training.

    logits: fused prediction (B, 1, H, W).
    side_logits: PGTD1, PGTD2, PGTD3 and the head of stage 4, each (B, 1, H, W); before them the detail block's, where
        there is one. (a plain U-shaped decoder gives those of its three blocks)
    features: f~ of PGTD1, PGTD2, PGTD3 (those that there are), each (B, C, h, w), for the prototype update.
    prototypes: the prototypes of each sample's task in PGTD1, PGTD2, PGTD3, each (B, 2, C), 0 background.
    """

    logits: Tensor
    side_logits: tuple[Tensor, ...]
    features: tuple[Tensor, ...]
    prototypes: tuple[Tensor, ...]


class TPSeg(TracedForScript, TaskNetwork):
    """Task-Prototype network for unified lesion segmentation (arXiv 2604.00684).

    Encoder features are conditioned on the task by adapters; the decoder is guided by foreground and background
    prototypes of the task; a weighted sum per task of the decoder outputs is the prediction.

    Args:
        encoder: called with (image, task), returns four maps at strides 4, 8, 16, 32.
        decoder: called with (features, task); the paper's, or a plain one of its ablations.
        num_tasks: T, rows of every task parameter.
        align_corners: of the last upsampling; the released layout aligns corners.
        extras: parameters of the released files that no computation uses, kept so that counts and files agree.
        fusion: called with (outputs, task), gives the prediction; by default a `TaskFusion`.

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
            ValueError: a size that is not divisible by 32, no task, or one that does not exist.
        """
        pixels = plain_tensor(image)
        check_image(pixels)
        rows = expand_task(self.named_task(task), pixels.shape[0], self.num_tasks, pixels.device)
        self._count_step()
        logits, features = self.decoder(self.encoder(pixels, rows), rows, pixels)
        side = tuple(resize(x, pixels.shape[-2:], self.align_corners) for x in logits)
        fused: Tensor = self.fusion(side, rows)
        if not deep_supervision:
            return with_meta_of(image, fused)
        return TPSegOutput(fused, side, features, tuple(pgtd.bank(rows) for pgtd in self.pgtds))

    def checkpoint_activations(self, enabled: bool = True) -> TPSeg:
        """Choose whether training keeps the intermediate results of blocks, RFBs and PGTD, or makes them again.

        Without them a step needs less memory and more time, as every block runs forward twice; gradients are the same.

        Returns:
            this network.
        """
        self.encoder.checkpointing = enabled
        if isinstance(self.decoder, PrototypeGuidedDecoder):
            self.decoder.checkpointing = enabled
        return self

    def compile_parts(self, **options: Any) -> TPSeg:
        """Let blocks, adapters and decoders be compiled by `torch.compile` when they first run, in training too.

        Each is compiled by itself, see `monai_tpseg.networks.compiled`. It needs a C++ compiler, and a GPU to pay.

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
        """Segment one batch for several tasks, computing what they share once.

        The blocks before a task's split position, and the receptive-field blocks of the stages that end there, are the
        same for all tasks. They run once; each task leaves them where it splits. Soft gates share the first block only.

        Args:
            image: (B, 3, H, W), as in `forward`.
            tasks: rows of the tasks, each at most once.

        Returns:
            logits (B, tasks, H, W), in the order of `tasks`; equal to those of one call per task.

        Raises:
            ValueError: no task, one that does not exist or is named twice, or a bad image.
        """
        pixels, rows = plain_tensor(image), check_rows(tasks, range(self.num_tasks))
        check_image(pixels)
        steps = PlainSteps(self.encoder, self.decoder, self.fusion, self.align_corners)
        return with_meta_of(image, segment_tasks(steps, pixels, rows))

    def optimize_for_inference(
        self,
        tasks: int | Iterable[int] | None = None,
        dtype: torch.dtype = torch.float32,
        compile: bool = False,
    ) -> InferenceNetwork:
        """Return a copy that computes the same, faster, for the named tasks; this network stays as it is.

        The gates of the copy are hard. Each block runs one route, with its normalisation folded into the projection;
        everything is channels last; what depends on the prototypes alone, and the mixing of the experts, is done ahead
        or on the small side; weights are cast once. In float32 the logits differ from those of this network with hard
        gates by rounding, up to 1e-4 of the largest; in bf16 by about 1e-2 of it.

        Args:
            tasks: a row or rows of the tasks that it must segment; by default all. Fewer need less memory.
            dtype: of weights and features: float32, bfloat16 or float16 (which needs a GPU). The prototype-guided
                decoders stay in float32.
            compile: run each block and decoder through `torch.compile`; the first calls are slow.

        Raises:
            ValueError: a task that does not exist, or another dtype.
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
            taken: a bool tensor without dimensions: False, for a training step that was skipped, moves nothing.
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
        """PGTD1, PGTD2, PGTD3, those that there are."""
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


_NARROW: dict[str, dict[str, Any]] = {
    "hiera_demo": {"rfb_channels": (16, 24, 32, 48), "channels": (24, 24, 32), "bottleneck": 16},
    "hiera_mini": {"rfb_channels": (32, 48, 64, 96), "channels": (32, 32, 64), "bottleneck": 16},
}


@keep_arguments("tpseg")
def tpseg_hiera(
    backbone: str,
    num_tasks: int = 8,
    layout: Layout = "paper",
    routes: Routes | None = None,
    freeze_encoder: bool = True,
    bottleneck: int | None = None,
    adapter: AdapterKind = "tca",
    decoder: DecoderKind = "pgtd",
    stem: Stem = "patch",
    detail: int = 0,
    **options: Any,
) -> TPSeg:
    """Build TP-Seg on a SAM 2 Hiera trunk with fresh weights; see `monai_tpseg.networks.checkpoint` for loading.

    Args:
        backbone: "hiera_tiny", "hiera_small", "hiera_base_plus", "hiera_large"; or "hiera_demo" and "hiera_mini", small
            ones without published weights.
        num_tasks: T.
        layout: "paper", or "released": task routes with a scale per task, prototype momentum 0.995, aligned corners,
            identity-blended experts, and the released files' unused parameters, frozen.
        routes: adapter routes, "both", "task" or "shared"; by default those of the layout.
        freeze_encoder: freeze the trunk, as the paper does with SAM 2 weights; False trains it too.
        bottleneck: r of the adapters, by default 64 (16 for the two small backbones).
        adapter: "tca" as in the paper; "lora", "plain" or "none" in its ablations, see `TaskConditionedHiera`.
        decoder: "pgtd" as in the paper; "unet", a plain U-shaped one without anything per task, in its ablations.
        stem: patch embedding of the trunk, "patch" as in SAM 2, or "conv" for a trunk from scratch, see `build_hiera`.
        detail: width of a skip at stride 2 for a trunk from scratch, see `DetailBlock`; 0 is none, as in the paper.
        **options: other arguments of `PrototypeGuidedDecoder`, e.g. `reinforcement=2.5` or `without_pgtd=[1]`; None is
            the default of the variant, whose decoder is as the paper's but for the small ones, which have a narrow one.

    Raises:
        ValueError: an unknown backbone, layout, adapter or decoder, no task, a released layout with other parts, or a
            stem or detail that is not for this backbone.
    """
    if layout not in ("paper", "released"):
        raise ValueError(f"Unknown layout {layout!r}; choose one of paper, released.")
    if num_tasks < 1:
        raise ValueError(f"num_tasks must be at least 1, got {num_tasks}.")
    if decoder not in DECODERS:
        raise ValueError(f"Unknown decoder {decoder!r}; choose one of {', '.join(DECODERS)}.")
    if layout == "released" and (adapter, decoder, list(options.get("without_pgtd") or ())) != ("tca", "pgtd", []):
        raise ValueError("layout 'released' has parts of its own; use layout 'paper' for another adapter or decoder.")
    if detail and (is_published(backbone) or decoder != "pgtd"):
        raise ValueError(
            f"detail is for backbones without published weights and decoder 'pgtd', not {backbone!r}, {decoder!r}."
        )
    released = layout == "released"
    routes = routes or ("task" if released else "both")
    numbers = {"bottleneck": 64, "momentum": 0.995 if released else 0.9, **_NARROW.get(backbone, {})}
    numbers |= {k: v for k, v in {"bottleneck": bottleneck, **options}.items() if v is not None}
    width = numbers.pop("bottleneck")
    encoder = TaskConditionedHiera(
        build_hiera(backbone, stem), num_tasks, width, routes, released, freeze_encoder, adapter
    )
    if decoder == "unet":
        plain = UDecoder(encoder.channels, **{k: v for k, v in numbers.items() if k in ("rfb_channels", "channels")})
        return TPSeg(encoder, plain, num_tasks, fusion=FinestOutput())
    head = PrototypeGuidedDecoder(encoder.channels, num_tasks, released=released, detail=detail, **numbers)
    extras = ReleasedExtras(num_tasks) if released else None
    fusion = TaskFusion(num_tasks, head.num_outputs)
    return TPSeg(encoder, head, num_tasks, align_corners=released, extras=extras, fusion=fusion)


def tpseg_hiera_tiny(num_tasks: int = 8, **kwargs: Any) -> TPSeg:
    """TP-Seg on Hiera-T (12 blocks, 96 channels); arguments as `tpseg_hiera`."""
    return tpseg_hiera("hiera_tiny", num_tasks, **kwargs)


def tpseg_hiera_small(num_tasks: int = 8, **kwargs: Any) -> TPSeg:
    """TP-Seg on Hiera-S (16 blocks, 96 channels); arguments as `tpseg_hiera`."""
    return tpseg_hiera("hiera_small", num_tasks, **kwargs)


def tpseg_hiera_base_plus(num_tasks: int = 8, **kwargs: Any) -> TPSeg:
    """TP-Seg on Hiera-B+ (24 blocks, 112 channels); arguments as `tpseg_hiera`."""
    return tpseg_hiera("hiera_base_plus", num_tasks, **kwargs)


def tpseg_hiera_large(num_tasks: int = 8, **kwargs: Any) -> TPSeg:
    """TP-Seg on Hiera-L (48 blocks, 144 channels), the paper's; arguments as `tpseg_hiera`."""
    return tpseg_hiera("hiera_large", num_tasks, **kwargs)


def tpseg_hiera_demo(num_tasks: int = 8, **kwargs: Any) -> TPSeg:
    """TP-Seg as small as serves for demonstrations and tests: same classes, 6 blocks, a narrow decoder."""
    return tpseg_hiera("hiera_demo", num_tasks, **{"freeze_encoder": False, **kwargs})


def unwrap(network: nn.Module) -> nn.Module:
    """Return the network inside `DistributedDataParallel` or a compiled module; another one as it is."""
    inner: Any = network
    while isinstance(inner, nn.parallel.DistributedDataParallel) or hasattr(inner, "_orig_mod"):
        inner = inner.module if isinstance(inner, nn.parallel.DistributedDataParallel) else inner._orig_mod
    return inner  # type: ignore[no-any-return]
