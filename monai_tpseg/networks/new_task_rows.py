"""A new task for a trained TP-Seg, without training: from pictures with masks to its parameter rows.

Task parameters in TP-Seg have one row per task. A new task adds one: its prototypes come from the features under the
exemplars' masks, its other rows from the task most similar to the exemplars.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from monai_tpseg.networks.prototype import BACKGROUND, FOREGROUND
from monai_tpseg.networks.tpseg import TPSeg
from monai_tpseg.words import choose

__all__ = ["Nearest", "Start", "add_task", "borrow_rows", "copy_rows", "nearest_task", "set_prototypes"]

Start = Literal["nearest", "identity"]

_HEADS = ("task_split", "task_weight", "task_bias")  # last parts of the names in gate, heads and fusion
_MOMENTUM: dict[Start, float] = {"nearest": 0.5, "identity": 0.0}  # 0.5: half of what the nearest task knows stays


class Nearest(NamedTuple):
    """The task whose rows a new task borrows.

    Attributes:
        row: of that task.
        similarities: of the exemplars to every existing task, (T,), in [-1, 1].
    """

    row: int
    similarities: Tensor


@torch.no_grad()
def add_task(net: TPSeg, wider: TPSeg, image: Tensor, label: Tensor, start: Start = "nearest") -> Nearest:
    """Fill `wider` with the tasks of `net` and a new one, defined by exemplars alone.

    The logits of the existing tasks stay bit-identical.

    Args:
        net: trained.
        wider: built like `net` for one more task, with fresh weights: a fresh adapter is the identity.
        image: (K, 3, H, W), exemplars as network input.
        label: (K, 1, H, W) in {0, 1}; a lesion and a background must occur.
        start: "nearest" copies all rows of the most similar task and moves its prototypes half way to the exemplars';
            "identity" copies its gate, heads and fusion alone, leaves the adapter as the identity and takes the
            exemplars' prototypes as they are.

    Returns:
        the task whose rows were copied.

    Raises:
        ValueError: an unknown start.
    """
    if start not in get_args(Start):
        raise ValueError(f"Unknown start {start!r}; {choose(start, get_args(Start))}.")
    nearest = nearest_task(net, image, label)
    copy_rows(net, wider)
    wider.eval()
    borrow_rows(wider, nearest.row, net.num_tasks, heads_only=start == "identity")
    set_prototypes(wider, image, label, net.num_tasks, _MOMENTUM[start])
    return nearest


@torch.no_grad()
def nearest_task(net: TPSeg, image: Tensor, label: Tensor) -> Nearest:
    """Return the task most similar to the exemplars, by prototypes.

    A decoder votes along the direction from the background to the lesion prototype, equation (8). The exemplars run as
    each task in turn, with that task's adapters, and the direction given by their features is compared with the task's
    own: the similarity is the cosine of the two, averaged over the PGTDs.

    Args:
        net: TP-Seg.
        image: (K, 3, H, W), as in `TPSeg.forward`.
        label: (K, 1, H, W) in {0, 1}.
    """
    cosines = []
    for row in range(net.num_tasks):
        means = _class_means(net, image, label, row, range(len(net.pgtds)))
        pairs = [(_direction(mean), _direction(net.pgtds[i].bank.prototypes[row])) for i, mean in enumerate(means)]
        cosines.append(torch.stack([F.cosine_similarity(a, b, dim=0) for a, b in pairs]).mean())
    similarities = torch.stack(cosines)
    return Nearest(int(similarities.argmax()), similarities)


def _direction(prototypes: Tensor) -> Tensor:
    return prototypes[FOREGROUND] - prototypes[BACKGROUND]


def copy_rows(net: TPSeg, wider: TPSeg) -> None:
    """Fill `wider`, of the same parts for more tasks, with the weights of `net`; its further rows stay as drawn."""
    fresh = wider.state_dict()
    wider.load_state_dict({name: _grown(value, fresh[name]) for name, value in net.state_dict().items()})


def _grown(value: Tensor, fresh: Tensor) -> Tensor:
    return value if value.shape == fresh.shape else torch.cat([value, fresh[len(value) :]])


@torch.no_grad()
def borrow_rows(net: TPSeg, source: int, target: int, heads_only: bool = False) -> None:
    """Give task `target` the rows of task `source`: gate, heads and fusion, and unless `heads_only` all others too."""
    for name, parameter in net.named_parameters():
        part = name.rpartition(".")[2]
        if part in _HEADS or (part.startswith("task_") and not heads_only):
            parameter[target] = parameter[source]
    if not heads_only:
        for pgtd in net.pgtds:
            pgtd.bank.prototypes[target] = pgtd.bank.prototypes[source]


@torch.no_grad()
def set_prototypes(net: TPSeg, image: Tensor, label: Tensor, row: int, momentum: float = 0.0) -> None:
    """Move the prototypes of a task to the mean features under the masks of exemplars, equation (13), coarse to fine.

    The features of a PGTD depend on the prototypes of the PGTDs before it, so the update runs coarse to fine on
    features computed with the updated prototypes.

    Args:
        net: TP-Seg; its other rows stay as they are.
        image: (K, 3, H, W), as in `TPSeg.forward`; the exemplars run one after the other.
        label: (K, 1, H, W) in {0, 1}; a lesion and a background must occur.
        row: of the task.
        momentum: m of the equation; 0 takes the exemplars' prototypes as they are.
    """
    for number in reversed(range(len(net.pgtds))):
        (mean,) = _class_means(net, image, label, row, [number])
        prototypes = net.pgtds[number].bank.prototypes
        prototypes[row] = F.normalize(momentum * prototypes[row] + (1 - momentum) * mean, dim=-1)


def _class_means(net: TPSeg, image: Tensor, label: Tensor, row: int, numbers: Sequence[int]) -> list[Tensor]:
    """Return the unit mean features of background and lesion in some PGTDs, (2, C) each.

    Every exemplar has the same weight, whatever the size of its lesion.
    """
    sums: list[Tensor | float] = [0.0] * len(numbers)
    for one, mask in zip(torch.split(image, 1), torch.split(label, 1), strict=True):
        features = net(one, row, deep_supervision=True).features
        for i, number in enumerate(numbers):
            sums[i] = sums[i] + net.pgtds[number].bank.class_means(features[number], mask)[0]
    return [F.normalize(torch.as_tensor(total), dim=-1) for total in sums]
