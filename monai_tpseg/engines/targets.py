"""Training targets of K-Prism beyond the whole label: one lesion, the opposite, or nothing."""

from __future__ import annotations

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

__all__ = ["drop_exemplars", "keep_one_lesion", "swap_foreground", "use_foreign_exemplars"]


def keep_one_lesion(label: Tensor, probability: float, smallest: int = 16) -> Tensor:
    """Keep one lesion, drawn uniformly, in some of the pictures with several.

    A click selects the lesion. If the target is always every lesion, a network learns to mark all of them at the first
    click.

    Args:
        label: (B, 1, H, W) in {0, 1}.
        probability: probability of keeping one lesion of a picture with several.
        smallest: minimum size of a lesion, pixels.

    Returns:
        labels of the same shape; those of other pictures are unchanged.
    """
    chosen = label.clone()
    for b in (torch.rand(len(label)) < probability).nonzero().flatten().tolist():
        parts, number = ndimage.label(label[b, 0].cpu().numpy() > 0.5, structure=np.ones((3, 3)))
        sizes = np.bincount(parts.ravel(), minlength=number + 1)[1:]
        large = np.flatnonzero(sizes >= smallest) + 1
        if len(large) > 1:
            part = int(large[torch.randint(len(large), (1,))])
            chosen[b, 0] = torch.from_numpy(parts == part).to(label)
    return chosen


def swap_foreground(label: Tensor, exemplar_label: Tensor, probability: float) -> tuple[Tensor, Tensor]:
    """Swap lesion and background of some samples, in the exemplars and in the target.

    A network could infer the kind of picture from an exemplar's pixels and ignore its mask. With the swap, only the
    mask tells which side is the target.

    Args:
        label: (B, 1, H, W) in {0, 1}.
        exemplar_label: (B, K, 1, H, W) in {0, 1}.
        probability: probability of swapping a sample.

    Returns:
        both, of the same shapes.
    """
    swap = (torch.rand(len(label)) < probability).to(label.device)
    turned = torch.where(swap.view(-1, 1, 1, 1), 1 - label, label)
    shown = torch.where(swap.view(-1, 1, 1, 1, 1), 1 - exemplar_label, exemplar_label)
    return turned, shown


def use_foreign_exemplars(
    label: Tensor, exemplar_image: Tensor, exemplar_label: Tensor, task: Tensor, probability: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Give some samples the exemplars of another task, with an empty target.

    If every exemplar matched the picture's own kind, a network need not compare the two and could mark whatever looks
    like a lesion. A foreign exemplar has no counterpart in the picture.

    Args:
        label: (B, 1, H, W) in {0, 1}.
        exemplar_image: (B, K, 3, H, W).
        exemplar_label: (B, K, 1, H, W) in {0, 1}.
        task: (B,) rows.
        probability: probability of replacing a sample's exemplars; a batch with a single task is unchanged.

    Returns:
        all three, of the same shapes.
    """
    rows, chosen = torch.arange(len(task)), torch.rand(len(task)) < probability
    tasks = task.cpu()
    for b in chosen.nonzero().flatten().tolist():
        others = (tasks != tasks[b]).nonzero().flatten()
        if len(others):
            rows[b] = others[torch.randint(len(others), (1,))]
    given = (rows != torch.arange(len(task))).to(label.device)
    rows = rows.to(label.device)
    empty = torch.where(given.view(-1, 1, 1, 1), torch.zeros_like(label), label)
    return empty, exemplar_image[rows], exemplar_label[rows]


def drop_exemplars(exemplar_image: Tensor, exemplar_label: Tensor) -> tuple[Tensor, Tensor]:
    """Keep the first 1 to K exemplars of a batch, with a uniformly drawn number, to train for any number of them.

    Args:
        exemplar_image: (B, K, 3, H, W).
        exemplar_label: (B, K, 1, H, W).
    """
    number = int(torch.randint(exemplar_image.shape[1], (1,))) + 1
    return exemplar_image[:, :number], exemplar_label[:, :number]
