"""What a batch of K-Prism's training is asked for, beyond the whole label: one lesion of several, or its opposite."""

from __future__ import annotations

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

__all__ = ["one_lesion", "opposite"]


def one_lesion(label: Tensor, probability: float, smallest: int = 16) -> Tensor:
    """Keep one of the lesions of some of the pictures that show several, each as likely as another.

    A click says which one is meant. Where every lesion is always asked for at once, a network learns to mark all of
    them at the first click.

    Args:
        label: (B, 1, H, W) in {0, 1}.
        probability: that a picture with several lesions keeps one.
        smallest: pixels of a lesion that counts.

    Returns:
        labels of the same shape; those of other pictures are as they were.
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


def opposite(label: Tensor, exemplar_label: Tensor, probability: float) -> tuple[Tensor, Tensor]:
    """Exchange lesion and background of some of the samples, in the exemplars and in what is asked for.

    A network can tell the kind of picture from an exemplar's pixels and then leave its mask unread. Here only the mask
    says which side is meant.

    Args:
        label: (B, 1, H, W) in {0, 1}.
        exemplar_label: (B, K, 1, H, W) in {0, 1}.
        probability: that a sample is exchanged.

    Returns:
        both, of the same shapes.
    """
    swap = (torch.rand(len(label)) < probability).to(label.device)
    turned = torch.where(swap.view(-1, 1, 1, 1), 1 - label, label)
    shown = torch.where(swap.view(-1, 1, 1, 1, 1), 1 - exemplar_label, exemplar_label)
    return turned, shown
