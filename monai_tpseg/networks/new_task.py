"""One more task for a trained TP-Seg, without training: from pictures with masks to the rows of its parameters.

What knows tasks in TP-Seg has one row for each. A new task gets one more: an adapter that starts as the identity,
prototypes from the features under the exemplars' masks, and gate, heads and fusion of the task with the most similar
prototypes.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from monai_tpseg.networks.prototype import BACKGROUND, FOREGROUND
from monai_tpseg.networks.tpseg import TPSeg

__all__ = ["Nearest", "add_task", "borrow_rows", "copy_rows", "nearest_task", "set_prototypes"]

BORROWED = ("task_split", "task_weight", "task_bias")
"""Last parts of the names of what is borrowed: the gate, the heads and the fusion."""


class Nearest(NamedTuple):
    """The task that a new one borrows from.

    Attributes:
        row: of that task.
        similarities: of the new task with every old one, (T,), in [-1, 1].
    """

    row: int
    similarities: Tensor


@torch.no_grad()
def add_task(net: TPSeg, wider: TPSeg, image: Tensor, label: Tensor) -> Nearest:
    """Fill `wider` with the tasks of `net` and one more, known from exemplars alone.

    The old tasks give the same logits as before, bit for bit.

    Args:
        net: trained.
        wider: built as `net` was, for one task more, with fresh weights: a fresh adapter is the identity.
        image: (K, 3, H, W), exemplars as network input.
        label: (K, 1, H, W) in {0, 1}; a lesion and a background must occur.

    Returns:
        the task whose rows the new one got.
    """
    row = net.num_tasks
    copy_rows(net, wider)
    wider.eval()
    set_prototypes(wider, image, label, row)
    nearest = nearest_task(wider, row)
    borrow_rows(wider, nearest.row, row)
    set_prototypes(wider, image, label, row)  # the gate has moved, and the features with it
    return nearest


def copy_rows(net: TPSeg, wider: TPSeg) -> None:
    """Fill `wider`, of the same parts for more tasks, with the weights of `net`; its further rows stay as drawn."""
    fresh = wider.state_dict()
    wider.load_state_dict({name: _grown(value, fresh[name]) for name, value in net.state_dict().items()})


def _grown(value: Tensor, fresh: Tensor) -> Tensor:
    return value if value.shape == fresh.shape else torch.cat([value, fresh[len(value) :]])


@torch.no_grad()
def set_prototypes(net: TPSeg, image: Tensor, label: Tensor, row: int) -> None:
    """Set the prototypes of a task to the mean features under the masks of exemplars, equation (13), coarse to fine.

    The features of a PGTD depend on the prototypes of those before it, so each is set from features that saw theirs.
    Every exemplar counts once, whatever the size of its lesion: unit means are averaged, the average is normalised.

    Args:
        net: TP-Seg; its other rows stay as they are.
        image: (K, 3, H, W), as in `TPSeg.forward`; the exemplars run one after the other.
        label: (K, 1, H, W) in {0, 1}; a lesion and a background must occur.
        row: of the task.
    """
    for number in reversed(range(len(net.pgtds))):
        bank = net.pgtds[number].bank
        means = [
            bank.class_means(net(one, row, deep_supervision=True).features[number], mask)
            for one, mask in zip(torch.split(image, 1), torch.split(label, 1), strict=True)
        ]
        bank.prototypes[row] = F.normalize(torch.cat(means).sum(0), dim=-1)


@torch.no_grad()
def nearest_task(net: TPSeg, row: int) -> Nearest:
    """Return the task before `row` whose prototypes are most like those of `row`.

    What a decoder votes by is the direction from the background prototype to that of the lesion, equation (8). The
    similarity of two tasks is the cosine of these directions, averaged over the PGTDs.
    """
    directions = [pgtd.bank.prototypes[:, FOREGROUND] - pgtd.bank.prototypes[:, BACKGROUND] for pgtd in net.pgtds]
    cosines = [F.cosine_similarity(d[:row], d[row : row + 1], dim=-1) for d in directions]
    similarities = torch.stack(cosines).mean(0)
    return Nearest(int(similarities.argmax()), similarities)


@torch.no_grad()
def borrow_rows(net: TPSeg, source: int, target: int) -> None:
    """Give task `target` the gate, heads and fusion of task `source`."""
    for name, parameter in net.named_parameters():
        if name.rpartition(".")[2] in BORROWED:
            parameter[target] = parameter[source]
