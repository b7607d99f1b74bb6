"""Small parts shared by the boxes of TP-Seg: images, normalisation, receptive-field blocks, per-task heads."""

from __future__ import annotations

import copy
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from itertools import pairwise
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from monai.data import MetaTensor
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

__all__ = [
    "RFB",
    "ConvNormReLU",
    "TaskHead",
    "cast",
    "cast_norms",
    "check_image",
    "check_mask",
    "check_precision",
    "full_precision",
    "is_exported",
    "is_recorded",
    "is_tracing",
    "mlp",
    "plain_tensor",
    "resize",
    "run_checkpointed",
    "to_device",
    "with_meta_of",
]

T = TypeVar("T")


def plain_tensor(image: Tensor) -> Tensor:
    """Return `image` without MONAI's metadata, to spare every operation of a network the cost of carrying it."""
    return image.as_tensor() if isinstance(image, MetaTensor) else image


def to_device(x: Tensor, device: torch.device) -> Tensor:
    """Return `x` on `device`; the host does not wait for pending GPU work."""
    return x.to(device, non_blocking=device.type == "cuda" and x.device.type == "cpu")


def with_meta_of(image: Tensor, result: Tensor) -> Tensor:
    """Return `result` with the metadata of `image` if it is a MetaTensor, as MONAI's own networks do."""
    return MetaTensor(result).copy_meta_from(image) if isinstance(image, MetaTensor) else result


def is_tracing() -> bool:
    """Whether `torch.jit.trace` or the ONNX exporter is recording."""
    return torch._C._get_tracing_state() is not None


def is_exported() -> bool:
    """Whether the network is being exported: traced, or by `torch.export`."""
    exporting = getattr(torch.compiler, "is_exporting", torch.compiler.is_compiling)  # PyTorch 2.7 can tell them apart
    return is_tracing() or bool(exporting())


def is_recorded() -> bool:
    """Whether operations are being recorded or compiled, possibly for other sizes or another device."""
    return is_tracing() or torch.compiler.is_compiling()


def full_precision(device: torch.device) -> AbstractContextManager[Any]:
    """Return a context without autocast, where float32 stays float32."""
    if device.type == "meta":  # has none, and PyTorch 2.8 cannot compile the question whether a device has one
        return nullcontext()
    return torch.autocast(device.type, enabled=False)


def cast(part: nn.Module, dtype: torch.dtype) -> None:
    """Cast a part to `dtype`, channels last; for its norms see `cast_norms`."""
    norms = [(norm, copy.deepcopy(norm.state_dict())) for norm in norms_of(part)]
    part.to(dtype).to(memory_format=torch.channels_last)
    for norm, state in norms:
        norm.float().load_state_dict(state)  # not rounded
    cast_norms(part, dtype)


def cast_norms(part: nn.Module, dtype: torch.dtype) -> None:
    """Cast the norms of a part that runs in `dtype`; on a CPU to float32, as accepted by their kernels.

    A rounded scale or shift affects all pixels alike, so outlines shift more than its size suggests.
    """
    for norm in norms_of(part):
        norm.to(torch.float32 if norm.weight.device.type == "cpu" else dtype)


def norms_of(part: nn.Module) -> list[nn.GroupNorm | nn.LayerNorm]:
    """The norms of a part."""
    return [module for module in part.modules() if isinstance(module, nn.GroupNorm | nn.LayerNorm)]


def check_image(image: Tensor) -> None:
    """Check that `image` is (B, 3, H, W) with H and W divisible by 32, and not empty.

    Raises:
        ValueError: it is not.
        TypeError: it is no tensor.
    """
    if not isinstance(image, Tensor):
        raise TypeError(f"image must be a tensor (B, 3, H, W), got {type(image).__name__}.")
    if image.ndim != 4 or image.shape[1] != 3:
        raise ValueError(f"image must be (B, 3, H, W), got shape {tuple(image.shape)}.")
    if image.shape[-2] % 32 or image.shape[-1] % 32:
        raise ValueError(f"H and W must be divisible by 32, got {tuple(image.shape[-2:])}; resize or pad the image.")
    if not is_recorded() and not image.numel():
        raise ValueError(f"image must hold at least one picture, got shape {tuple(image.shape)}.")


def check_mask(label: Tensor, name: str) -> None:
    """Check that a label on the CPU lies in [0, 1]; on a GPU, a check would wait for the device.

    Args:
        label: of any shape; an empty one passes.
        name: of the argument, for the message.

    Raises:
        ValueError: it does not.
    """
    if label.device.type != "cpu" or is_tracing() or not label.numel():
        return
    low, high = plain_tensor(label).aminmax()
    if not (low >= 0 and high <= 1):
        raise ValueError(f"{name} must lie in [0, 1], got values from {low:g} to {high:g}.")


def check_precision(image: Tensor, network: nn.Module) -> None:
    """Check that a float32 network has not been cast, and that `image` is float32.

    Prototypes and prompts stay in float32 even under autocast, so a network cast as a whole would fail internally.

    Raises:
        ValueError: `net.half()`, `net.double()` or the like has cast the weights, or the image is of another type;
            under autocast any floating type is allowed.
    """
    weights = next(network.parameters()).dtype
    if weights != torch.float32:
        raise ValueError(
            f"This network computes in float32, and its weights were cast to {weights}: call net.float(). For half "
            "precision there is torch.autocast, and for TP-Seg net.optimize_for_inference(dtype=torch.bfloat16)."
        )
    if image.dtype != torch.float32 and not _is_cast(image):
        raise ValueError(f"image must be float32, ImageNet-normalised, got {image.dtype}; call image.float().")


def _is_cast(image: Tensor) -> bool:
    """Whether autocast brings an image to the type that each operation takes."""
    kind = image.device.type
    known = image.is_floating_point() and not is_recorded() and torch.amp.is_autocast_available(kind)
    return known and torch.is_autocast_enabled(kind)


def run_checkpointed(part: Callable[..., T], *args: Any, enabled: bool) -> T:
    """Return `part(*args)`; if `enabled`, intermediate results are recomputed in the backward pass."""
    if not enabled or not torch.is_grad_enabled():
        return part(*args)
    result: T = checkpoint(part, *args, use_reentrant=False, preserve_rng_state=False)  # nothing here is random
    return result


def resize(x: Tensor, size: tuple[int, int] | torch.Size, align_corners: bool = False) -> Tensor:
    """Resize (B, C, h, w) bilinearly to `size`; a tensor already of that size is returned as is."""
    if x.shape[-2:] == torch.Size(size):
        return x
    return F.interpolate(x, size=tuple(size), mode="bilinear", align_corners=align_corners)


class ConvNormReLU(nn.Module):
    """Size-preserving convolution, GroupNorm with one group, ReLU."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: tuple[int, int], dilation: int = 1) -> None:
        super().__init__()
        padding = (dilation * (kernel_size[0] - 1) // 2, dilation * (kernel_size[1] - 1) // 2)
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size, padding=padding, dilation=dilation, bias=False)
        self.norm = nn.GroupNorm(1, out_channels)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.norm(self.conv(x)))


class RFB(nn.Module):
    """Receptive-field block: four merged branches with growing receptive fields, plus a 1x1 residual.

    The branches are 1x1; then 1xk, kx1 and a 3x3 dilated by k, for k = 3, 5, 7. GroupNorm with one group replaces the
    usual batch norm, so that a sample's result does not depend on its batch.

    Args:
        in_channels: channels of the encoder stage.
        out_channels: channels of the result.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            [nn.Sequential(ConvNormReLU(in_channels, out_channels, (1, 1)))]
            + [self._branch(in_channels, out_channels, k) for k in (3, 5, 7)]
        )
        self.merge = ConvNormReLU(4 * out_channels, out_channels, (3, 3))
        self.residual = ConvNormReLU(in_channels, out_channels, (1, 1))

    @staticmethod
    def _branch(in_channels: int, out_channels: int, k: int) -> nn.Sequential:
        return nn.Sequential(
            ConvNormReLU(in_channels, out_channels, (1, 1)),
            ConvNormReLU(out_channels, out_channels, (1, k)),
            ConvNormReLU(out_channels, out_channels, (k, 1)),
            ConvNormReLU(out_channels, out_channels, (3, 3), dilation=k),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, h, w) -> (B, out_channels, h, w)."""
        merged = self.merge(torch.cat([branch(x) for branch in self.branches], dim=1))
        return F.relu(merged + self.residual(x))


class TaskHead(nn.Module):
    """Head(y) of equation (11): depthwise 3x3, GroupNorm(1), GELU, then the 1x1 row of each sample's task.

    Args:
        channels: C of the features.
        num_tasks: T rows.
    """

    def __init__(self, channels: int, num_tasks: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(channels, channels, 3, padding=1, groups=channels)
        self.norm = nn.GroupNorm(1, channels)
        linear = nn.Linear(channels, num_tasks)
        self.task_weight = nn.Parameter(linear.weight.detach().clone())  # (T, C)
        self.task_bias = nn.Parameter(linear.bias.detach().clone())  # (T,)

    def forward(self, x: Tensor, task: Tensor) -> Tensor:
        """(B, C, h, w), (B,) -> logits (B, 1, h, w)."""
        x = F.gelu(self.norm(self.depthwise(x)))
        rows = self.task_weight[task].to(x.dtype).unsqueeze(1)  # (B, 1, C)
        logits = torch.matmul(rows, x.flatten(2)).view(x.shape[0], 1, *x.shape[-2:])
        biased: Tensor = logits + self.task_bias[task].to(logits.dtype).view(-1, 1, 1, 1)
        return biased


def mlp(*widths: int) -> nn.Sequential:
    """Linear layers of the given widths with GELU between them."""
    parts: list[nn.Module] = []
    for i, o in pairwise(widths):
        parts += [nn.Linear(i, o), nn.GELU()]
    return nn.Sequential(*parts[:-1])
