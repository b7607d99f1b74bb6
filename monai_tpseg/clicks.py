"""A simulated user: where somebody who sees the label would click next. Rows first, then columns, in pixels."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

__all__ = ["next_clicks", "scale_clicks"]

_IN_PLANE = np.stack([np.zeros((3, 3)), np.ones((3, 3)), np.zeros((3, 3))])  # neighbours, at corners too, of one map
Array = NDArray[np.generic]


def next_clicks(pred: Tensor, label: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Click once in the largest error region of every sample.

    The larger of the largest connected regions of missed and of wrongly marked pixels decides the polarity; of two
    equal ones it is the missed one. The click lies where the distance to the region's edge is above a third of its
    largest: at the rounded centre of these pixels if that is one of them, else at one of them by chance. The image's
    border counts as an edge. All maps of a batch are labelled and measured together, without a loop.

    Args:
        pred: (B, 1, H, W) mask in {0, 1}.
        label: of the same shape, in {0, 1}.
        generator: of the draws, on the CPU; torch's default one if None.

    Returns:
        (B, 1, 3) float32 on `label`'s device: row, column, polarity; polarity 0 where there is no error.

    Raises:
        ValueError: the shapes differ or are not (B, 1, H, W).
    """
    if pred.shape != label.shape or pred.ndim != 4 or pred.shape[1] != 1:
        raise ValueError(f"pred and label must be (B, 1, H, W), got {tuple(pred.shape)} and {tuple(label.shape)}.")
    marked, truth = pred.bool(), label.bool()
    errors = torch.cat([truth & ~marked, marked & ~truth], dim=1).cpu().numpy()  # (B, 2, H, W): missed, wrong
    region, polarity = _largest(errors)
    row, column = _inner_points(region, generator)
    clicks = np.stack([row, column, polarity], axis=-1).astype(np.float32)
    clicks[polarity == 0] = 0
    return torch.from_numpy(clicks).unsqueeze(1).to(label.device)


def _largest(errors: Array) -> tuple[Array, Array]:
    """Return the largest region (B, H, W) of two error maps (B, 2, H, W), and its polarity (B,): 1, -1, 0 for none."""
    batch, _, height, width = errors.shape
    maps = errors.reshape(2 * batch, height, width)
    regions, number = ndimage.label(maps, structure=_IN_PLANE)
    sizes = np.bincount(regions.ravel(), minlength=number + 1)
    sizes[0] = 0
    owner = np.zeros(number + 1, dtype=np.int64)  # the map of each region
    owner[regions.reshape(2 * batch, -1)] = np.arange(2 * batch)[:, None]
    order = np.lexsort((sizes[1:], owner[1:])) + 1  # by map, then by size: the last of a map is its largest
    largest = np.zeros(2 * batch, dtype=np.int64)
    largest[owner[order]] = order
    pair = largest.reshape(batch, 2)
    missed = sizes[pair[:, 0]] >= sizes[pair[:, 1]]
    chosen = np.where(missed, pair[:, 0], pair[:, 1])
    plane = regions.reshape(batch, 2, height, width)[np.arange(batch), np.where(missed, 0, 1)]
    region = (plane == chosen[:, None, None]) & (chosen > 0)[:, None, None]
    return region, np.where(chosen > 0, np.where(missed, 1, -1), 0)


def _inner_points(region: Array, generator: torch.Generator | None) -> tuple[Array, Array]:
    """Return rows and columns (B,) of one inner pixel of each region (B, H, W); anything where a region is empty."""
    batch, height, width = region.shape
    framed = np.pad(region, ((0, 0), (1, 1), (1, 1)))
    # a distance across maps larger than any inside one keeps the maps apart
    distance = ndimage.distance_transform_edt(framed, sampling=(height + width + 2, 1, 1))[:, 1:-1, 1:-1]
    inner = region & (distance > distance.max(axis=(1, 2), keepdims=True) / 3)
    count = np.maximum(inner.sum(axis=(1, 2)), 1)
    row = np.rint((inner * np.arange(height)[:, None]).sum(axis=(1, 2)) / count).astype(np.int64)
    column = np.rint((inner * np.arange(width)).sum(axis=(1, 2)) / count).astype(np.int64)
    chance = torch.rand(batch, height * width, generator=generator).numpy()
    drawn = np.where(inner.reshape(batch, -1), chance, -1).argmax(axis=1)
    inside = inner[np.arange(batch), row, column]
    return np.where(inside, row, drawn // width), np.where(inside, column, drawn % width)


def scale_clicks(clicks: Tensor, size: tuple[int, int], new_size: tuple[int, int]) -> Tensor:
    """Move clicks (B, N, 3) from an image of `size` to the same image of `new_size`, pixel centres to their places."""
    factor = torch.tensor([n / s for n, s in zip(new_size, size, strict=True)], device=clicks.device)
    place = (clicks[..., :2].float() + 0.5) * factor - 0.5
    return torch.cat([place, clicks[..., 2:].float()], dim=-1)
