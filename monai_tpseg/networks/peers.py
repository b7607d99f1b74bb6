"""Peer networks, trained with the same engine, data, loss and schedule."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from monai.networks.nets import AttentionUnet, DynUNet, FlexibleUNet, SwinUNETR, UNet
from torch import Tensor, nn

from monai_tpseg.networks.arguments import KeepsArguments
from monai_tpseg.networks.layers import plain_tensor, with_meta_of
from monai_tpseg.words import choose

__all__ = ["PEERS", "TaskAgnostic", "build_peer", "nnunet_plan_2d"]


class TaskAgnostic(KeepsArguments, nn.Module):
    """Makes a task-agnostic network a drop-in replacement for TP-Seg: one model for all tasks, without a task input.

    Args:
        net: maps (B, 3, H, W) to logits (B, 1, H, W), e.g. MONAI's `UNet(2, 3, 1, ...)`.
    """

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, image: Tensor, task: int | Tensor | None = None, deep_supervision: bool = False) -> Tensor:
        """Return the logits (B, 1, H, W); `task` is not used, and there are no side outputs."""
        logits: Tensor = self.net(plain_tensor(image))
        return with_meta_of(image, logits)


def nnunet_plan_2d(
    image_size: Sequence[int], spacing: Sequence[float] = (1.0, 1.0), width: int = 32
) -> dict[str, list[Any]]:
    """Return the kernels, strides and filters of nnU-Net's 2D plan as arguments of MONAI's `DynUNet`.

    The published rule: an axis is halved while it keeps at least 4 pixels, together with the axes whose spacing is
    within a factor of 2 of the finest axis that can still be halved; a single axis that is left must keep more than 6.
    A kernel spans 3 pixels along an axis as soon as that axis is within a factor of 2 of the finest, else 1. Filters
    double from `width` and stop at 16 times that (32 and 512 in nnU-Net). The bottleneck's kernel is 3 x 3.

    Args:
        image_size: (H, W) in pixels.
        spacing: (H, W) pixel spacing in mm; pictures without one are isotropic.
        width: filters of the first stage.
    """
    size, pace = list(image_size), list(spacing)
    kernel, kernels, strides = [1, 1], [], [[1, 1]]
    while axes := _axes_to_halve(size, pace):
        kernel = [3 if k == 3 or s / min(pace) < 2 else 1 for k, s in zip(kernel, pace, strict=True)]
        kernels.append(kernel)
        strides.append([2 if axis in axes else 1 for axis in range(2)])
        for axis in axes:
            size[axis], pace[axis] = -(-size[axis] // 2), pace[axis] * 2
    kernels.append([3, 3])
    filters = [min(width * 2**stage, 16 * width) for stage in range(len(strides))]
    return {"kernel_size": kernels, "strides": strides, "upsample_kernel_size": strides[1:], "filters": filters}


def _axes_to_halve(size: Sequence[int], spacing: Sequence[float]) -> list[int]:
    """Return the axes that one more stage halves, none at the end."""
    large = [axis for axis in range(2) if size[axis] >= 8]
    axes = [axis for axis in large if spacing[axis] / min(spacing[i] for i in large) < 2]
    return [] if len(axes) == 1 and size[axes[0]] < 12 else axes


def _doubling(width: int) -> list[int]:
    return [width * 2**stage for stage in range(5)]


def _unet(_size: Sequence[int], width: int) -> Any:
    return UNet(2, 3, 1, _doubling(width), [2] * 4, num_res_units=2)


def _attention_unet(_size: Sequence[int], width: int) -> Any:
    return AttentionUnet(2, 3, 1, _doubling(width), [2] * 4)


def _dynunet(size: Sequence[int], width: int) -> Any:
    return DynUNet(2, 3, 1, **nnunet_plan_2d(size, width=width))


def _swin_unetr(_size: Sequence[int], width: int) -> Any:
    if width % 12:
        raise ValueError(f"width of swin_unetr must be a multiple of 12, got {width}.")
    return SwinUNETR(in_channels=3, out_channels=1, feature_size=width, spatial_dims=2)


def _flexible_unet(_size: Sequence[int], width: int) -> Any:
    return FlexibleUNet(3, 1, "efficientnet-b0", decoder_channels=tuple(reversed(_doubling(width))))


PEERS: dict[str, tuple[Callable[[Sequence[int], int], Any], int]] = {
    # name -> (how it is built for an image size and a width, its usual width)
    "unet": (_unet, 32),
    "attention_unet": (_attention_unet, 32),
    "swin_unetr": (_swin_unetr, 24),
    "flexible_unet": (_flexible_unet, 16),
    "dynunet": (_dynunet, 32),
}


def build_peer(name: str, image_size: int | Sequence[int] = 512, width: int | None = None) -> TaskAgnostic:
    """Build one of `PEERS`, MONAI's networks, with fresh weights.

    Args:
        name: "unet", "attention_unet", "swin_unetr", "flexible_unet" (on EfficientNet-B0), or "dynunet" with nnU-Net's
            2D plan for the image size (without its deep supervision).
        image_size: of the network's input, pixels.
        width: channels of the finest stage; default: the usual number.

    Raises:
        ValueError: an unknown name, or a width that does not fit.
    """
    if name not in PEERS:
        raise ValueError(f"Unknown network {name!r}; {choose(name, PEERS)}.")
    build, usual = PEERS[name]
    size = (image_size, image_size) if isinstance(image_size, int) else tuple(image_size)
    network = TaskAgnostic(build(size, usual if width is None else width))
    network.built_with = {"architecture": name, "image_size": size, "width": width}
    return network
