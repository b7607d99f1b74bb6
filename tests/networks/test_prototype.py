"""Prototype bank: equation (13) against loops, rows of absent tasks, several processes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
import torch.nn.functional as F

from monai_tpseg.networks.prototype import PrototypeBank


def batch(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return features (4, 8, 6, 6), label (4, 1, 24, 24), task (4,): tasks 0 and 2 of four."""
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(4, 8, 6, 6, generator=generator)
    label = (torch.rand(4, 1, 24, 24, generator=generator) > 0.7).float()
    return features, label, torch.tensor([0, 2, 2, 0])


def test_update_equals_the_equation() -> None:
    bank = PrototypeBank(4, 8, momentum=0.9)
    before = bank.prototypes.clone()
    features, label, task = batch()
    bank.update(features, label, task)
    masks = F.avg_pool2d(label, 4)
    for t in (0, 2):
        rows = task == t
        for x, mask in ((0, 1 - masks[rows]), (1, masks[rows])):
            mean = F.normalize((features[rows] * mask).sum((0, 2, 3)) / mask.sum(), dim=0)
            expected = F.normalize(0.9 * before[t, x] + 0.1 * mean, dim=0)
            torch.testing.assert_close(bank.prototypes[t, x], expected)


def test_absent_tasks_and_empty_classes_keep_their_rows() -> None:
    bank = PrototypeBank(4, 8)
    before = bank.prototypes.clone()
    features, label, task = batch()
    bank.update(features, torch.zeros_like(label), task)
    assert torch.equal(bank.prototypes[[1, 3]], before[[1, 3]])
    assert torch.equal(bank.prototypes[:, 1], before[:, 1])  # no foreground pixel anywhere
    assert not torch.equal(bank.prototypes[0, 0], before[0, 0])


def test_unit_norm_stays() -> None:
    bank = PrototypeBank(4, 8, momentum=0.5)
    for seed in range(5):
        bank.update(*batch(seed))
    torch.testing.assert_close(bank.prototypes.norm(dim=-1), torch.ones(4, 2))


def test_momentum_is_checked() -> None:
    with pytest.raises(ValueError, match=r"got 1\.0"):
        PrototypeBank(1, 4, momentum=1.0)


def _rank(rank: int, folder: str) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folder}/sync", rank=rank, world_size=2)
    torch.manual_seed(0)
    bank = PrototypeBank(4, 8)
    for seed in range(3):
        half = slice(2 * rank, 2 * rank + 2)
        bank.update(*(x[half] for x in batch(seed)))
    torch.save(bank.prototypes, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


def test_two_processes_equal_one_on_the_joined_batch(tmp_path: Path) -> None:
    mp.spawn(_rank, args=(str(tmp_path),), nprocs=2)
    torch.manual_seed(0)
    bank = PrototypeBank(4, 8)
    for seed in range(3):
        bank.update(*batch(seed))
    first, second = (torch.load(tmp_path / f"{r}.pt", weights_only=True) for r in range(2))
    assert torch.equal(first, second)
    torch.testing.assert_close(first, bank.prototypes)
