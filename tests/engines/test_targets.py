"""What a batch is asked for: one lesion of several, the opposite, clicks that are obeyed."""

from __future__ import annotations

import pytest
import torch

from monai_tpseg.engines.rounds import click_cross_entropy
from monai_tpseg.engines.targets import drop_exemplars, keep_one_lesion, swap_foreground, use_foreign_exemplars


def two() -> torch.Tensor:
    label = torch.zeros(40, 1, 32, 32)
    label[:, :, 2:8, 2:8] = 1
    label[:, :, 20:30, 20:30] = 1
    label[:, :, 15, 15] = 1  # too small to be asked for alone
    return label


def test_one_of_several_lesions_is_kept_each_as_likely() -> None:
    torch.manual_seed(0)
    label = two()
    kept = keep_one_lesion(label, 1.0)
    areas = kept.flatten(1).sum(1)
    assert set(areas.tolist()) == {36.0, 100.0}
    assert 10 <= int((areas == 36).sum()) <= 30
    assert bool((kept <= label).all())
    assert torch.equal(keep_one_lesion(label, 0.0), label)
    assert torch.equal(label, two())  # as it was
    single = torch.zeros(2, 1, 32, 32)
    single[:, :, 2:8, 2:8] = 1
    assert torch.equal(keep_one_lesion(single, 1.0), single)


def test_opposite_turns_exemplar_and_target_together() -> None:
    torch.manual_seed(0)
    label, shown = two(), two().unsqueeze(1).repeat(1, 2, 1, 1, 1)
    turned, exemplar = swap_foreground(label, shown, 0.5)
    swapped = turned[:, 0, 0, 0] == 1
    assert 8 <= int(swapped.sum()) <= 32
    assert torch.equal(turned[swapped], 1 - label[swapped])
    assert torch.equal(exemplar[swapped], 1 - shown[swapped])
    assert torch.equal(turned[~swapped], label[~swapped])
    assert torch.equal(exemplar[~swapped], shown[~swapped])


def test_exemplars_of_another_task_ask_for_nothing() -> None:
    torch.manual_seed(0)
    task = torch.tensor([0, 1, 2, 3] * 10)
    label = two()
    image = task.float().view(-1, 1, 1, 1, 1).expand(40, 2, 3, 8, 8).clone()
    shown = image[:, :, :1] + 10
    empty, exemplar, mask = use_foreign_exemplars(label, image, shown, task, 0.5)
    moved = empty.flatten(1).sum(1) == 0
    assert 10 <= int(moved.sum()) <= 30
    assert bool((exemplar[moved, 0, 0, 0, 0] != task[moved]).all())
    assert torch.equal(mask, exemplar[:, :, :1] + 10)  # a mask stays with its picture
    assert torch.equal(empty[~moved], label[~moved])
    assert torch.equal(exemplar[~moved], image[~moved])


def test_where_a_batch_has_one_task_alone_its_exemplars_stay() -> None:
    label, image = two(), torch.randn(40, 1, 3, 8, 8)
    kept = use_foreign_exemplars(label, image, image[:, :, :1], torch.zeros(40, dtype=torch.int64), 1.0)
    assert torch.equal(kept[0], label)
    assert torch.equal(kept[1], image)


def test_one_to_all_exemplars_of_a_batch_are_shown() -> None:
    torch.manual_seed(0)
    image = torch.arange(3.0).view(1, 3, 1, 1, 1).expand(2, 3, 3, 8, 8)
    numbers = set()
    for _ in range(40):
        some, masks = drop_exemplars(image, image[:, :, :1])
        assert some.shape[1] == masks.shape[1]
        assert some[0, :, 0, 0, 0].tolist() == list(range(some.shape[1]))
        numbers.add(some.shape[1])
    assert numbers == {1, 2, 3}


def test_click_cross_entropy_counts_the_clicked_disks_alone() -> None:
    label = torch.zeros(1, 1, 32, 32)
    label[:, :, 8:16, 8:16] = 1
    logits = torch.full_like(label, -5.0)
    clicks = torch.tensor([[[12.0, 12.0, 1.0], [25.0, 25.0, -1.0], [0.0, 0.0, 0.0]]])
    rows, columns = torch.meshgrid(torch.arange(32), torch.arange(32), indexing="ij")
    total, number = 0.0, 0
    for r, c, sign in ((12, 12, 1), (25, 25, -1)):
        near = ((rows - r) ** 2 + (columns - c) ** 2) <= 9
        right = (label[0, 0] > 0.5) == (sign > 0)
        number += int((near & right).sum())
        wrong = float(torch.nn.functional.softplus(torch.tensor(5.0 * sign)))
        total += wrong * int((near & right).sum())
    assert float(click_cross_entropy(logits, label, clicks)) == pytest.approx(total / number, rel=1e-5)
    nothing = torch.zeros(1, 2, 3)
    assert float(click_cross_entropy(logits, label, nothing)) == 0.0
