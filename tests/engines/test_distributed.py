"""Training on two ranks equals training in one process on the joined batch, prototypes included."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from monai_tpseg.engines import TaskAdamW, parameter_groups
from monai_tpseg.losses import TPSegLoss
from monai_tpseg.networks import TPSeg, tpseg_hiera_demo


def batches() -> list[tuple[Tensor, Tensor, Tensor]]:
    """Two batches of four; task 2 is absent from the first, and the ranks see different tasks."""
    generator = torch.Generator().manual_seed(5)
    tasks = ([0, 1, 1, 0], [2, 0, 1, 1])
    return [
        (
            torch.randn(4, 3, 32, 32, generator=generator),
            (torch.rand(4, 1, 32, 32, generator=generator) > 0.7).float(),
            torch.tensor(task),
        )
        for task in tasks
    ]


def train(net: torch.nn.Module, inner: TPSeg, part: slice) -> None:
    # a large epsilon: Adam divides by the gradient's size, which blows up rounding where a gradient is nearly zero
    optimizer = TaskAdamW(parameter_groups(net, lr=1e-3, weight_decay=0.01), lr=1e-3, eps=1e-2)
    loss = TPSegLoss()
    for image, label, task in batches():
        output = net(image[part], task[part], True)
        optimizer.zero_grad()
        loss(output, label[part]).backward()
        optimizer.step()
        inner.update_prototypes(output.features, label[part], task[part])


def make() -> TPSeg:
    torch.manual_seed(0)
    return tpseg_hiera_demo(num_tasks=3).train()


def _rank(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/sync", rank=rank, world_size=2)
    inner = make()
    train(DistributedDataParallel(inner), inner, slice(2 * rank, 2 * rank + 2))
    torch.save(inner.state_dict(), f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.slow
def test_two_ranks_equal_one_process(tmp_path: Path) -> None:
    mp.spawn(_rank, args=(str(tmp_path),), nprocs=2)
    first, second = (torch.load(tmp_path / f"{r}.pt", weights_only=True) for r in range(2))
    alone = make()
    train(alone, alone, slice(None))
    banks = [k for k in first if k.endswith("prototypes")]
    assert len(banks) == 3
    for name, value in alone.state_dict().items():
        assert torch.equal(first[name], second[name]), name
        torch.testing.assert_close(first[name], value, atol=1e-5, rtol=1e-3, msg=lambda m, n=name: f"{n}: {m}")
