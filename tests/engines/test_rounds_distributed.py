"""Rounds on two ranks give the gradients of one process on the joined batch, whatever each rank would have drawn."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from monai.losses import DiceCELoss
from torch.nn.parallel import DistributedDataParallel

from monai_tpseg.engines import ModeMix, train_rounds
from monai_tpseg.engines.rounds import average_over_ranks
from monai_tpseg.losses import DeepSupervisionLoss
from monai_tpseg.networks import KPrism, Prompt, kprism_demo, unwrap


def gradients(net: torch.nn.Module, part: slice) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(5)
    image = torch.randn(4, 3, 32, 32, generator=generator)
    label = torch.zeros(4, 1, 32, 32)
    for b in range(4):
        label[b, :, 4 + b : 20, 6 : 18 + 2 * b] = 1
    loss = DeepSupervisionLoss(DiceCELoss(sigmoid=True), outputs=2)
    inner = unwrap(net)
    assert isinstance(inner, KPrism)
    task = torch.tensor([0, 1, 1, 0])[part]
    train_rounds(inner, image[part], label[part], Prompt(task=task), loss, rounds=1)
    average_over_ranks(inner)
    return {name: p.grad for name, p in inner.named_parameters() if p.grad is not None}


def make() -> KPrism:
    torch.manual_seed(0)
    return kprism_demo(num_tasks=2).eval()  # statistics and dropout would differ from rank to rank


def _rank(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/sync", rank=rank, world_size=2)
    found = gradients(DistributedDataParallel(make()), slice(2 * rank, 2 * rank + 2))
    torch.manual_seed(100 + rank)
    modes = [ModeMix().draw(torch.device("cpu")) for _ in range(20)]
    torch.save({"gradients": found, "modes": modes}, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.slow
def test_two_ranks_equal_one_process(tmp_path: Path) -> None:
    mp.spawn(_rank, (str(tmp_path),), nprocs=2)
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1))
    assert first["modes"] == second["modes"]
    assert len(set(first["modes"])) == 3
    expected = gradients(make(), slice(0, 4))
    assert set(expected) == set(first["gradients"])
    for name, gradient in expected.items():
        torch.testing.assert_close(first["gradients"][name], gradient, atol=1e-5, rtol=1e-3)
        assert torch.equal(first["gradients"][name], second["gradients"][name])
