"""Volumes: batches by memory, which does not grow with the volume; slices that show nothing; half precision."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from monai_tpseg.inferers import TaskInferer
from monai_tpseg.inferers.memory import largest_batch, peak_bytes
from monai_tpseg.inferers.tissue import tissue_slices
from monai_tpseg.networks import tpseg_hiera_demo

MIB = 2**20


class Probe(torch.nn.Module):
    """Logits that are the red channel, with `held` MiB a sample beside them, and the batches that were asked for."""

    def __init__(self, held: float = 0.25) -> None:
        super().__init__()
        self.held, self.batches = int(held * MIB / 4), list[int]()

    def forward(self, image: Tensor, task: Tensor) -> Tensor:
        self.batches.append(len(image))
        beside = torch.ones(len(image), self.held)
        return image[:, :1] + 0 * beside[:, 0].view(-1, 1, 1, 1)


def test_what_lives_at_the_same_time_is_added_up() -> None:
    before = torch.ones(1000)

    def run() -> Tensor:
        a = before.view(10, 100)  # no memory of its own
        b = a + 1
        c = torch.cat([b, b])  # 4000 + 8000 bytes
        del b
        d = c[:5] * 2  # 8000 + 2000
        d += 1
        return d

    assert peak_bytes(run) == 12000
    assert peak_bytes(lambda: before.t()) == 0

    def loop() -> Tensor:
        x = before
        for _ in range(50):
            x = x * 2
        return x

    assert peak_bytes(loop) == 8000


def test_a_batch_fits_into_the_memory_given() -> None:
    for memory, slices in ((1.0, 4), (0.6, 2), (0.01, 1)):
        assert largest_batch(lambda n: torch.ones(n, MIB // 16), memory) == slices
    kept: list[Tensor] = []

    def fills_a_cache(n: int) -> Tensor:
        kept.extend([] if kept else [torch.ones(MIB)])
        return torch.ones(n, MIB // 16)

    assert largest_batch(fills_a_cache, 1.0) == 4


@torch.no_grad()
def test_auto_measures_once_and_takes_what_fits() -> None:
    probe = Probe()
    inferer = TaskInferer(32, slice_batch="auto", memory_mb=1.2)
    volume = torch.randn(1, 3, 32, 32, 9)
    found = inferer(volume, probe, task=0)
    assert probe.batches == [1, 1, 4, 4, 1]  # one slice of zeros, twice, then what fits
    inferer(volume, probe, task=0)
    assert probe.batches[5:] == [4, 4, 1]
    inferer(volume, probe, task=0, slice_batch=3)
    assert probe.batches[8:] == [3, 3, 3]
    torch.testing.assert_close(found, TaskInferer(32)(volume, probe, task=0))
    assert TaskInferer(32, window="sliding", slice_batch="auto").slices_together(probe, (32, 32)) == 1


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_memory_grows_with_the_batch_and_not_with_the_volume(dtype: torch.dtype) -> None:
    net = tpseg_hiera_demo(num_tasks=1).eval()
    net.encoder.gate.set_hard(True)
    fast = net.optimize_for_inference(dtype=dtype)
    assert TaskInferer(64, slice_batch="auto", memory_mb=64).slices_together(fast, (64, 64)) > 1

    def beside_the_result(slices: int, batch: int) -> float:
        volume = torch.randn(1, 3, 64, 64, slices)
        inferer = TaskInferer(64, slice_batch=batch)
        result = 4 * 64 * 64 * slices
        return (peak_bytes(lambda: inferer(volume, fast, task=0)) - result) / MIB

    short, long, wide = (beside_the_result(*sizes) for sizes in ((4, 2), (24, 2), (24, 8)))
    assert long < 1.1 * short
    assert 2.5 * long < wide < 5 * long


@torch.no_grad()
def test_slices_that_show_nothing_are_skipped_only_on_request() -> None:
    torch.manual_seed(0)
    volume = -2 + 0.05 * torch.randn(1, 3, 64, 64, 6)  # air
    volume[..., 10:20, 10:20, 1] += 3
    volume[..., 2:4] += 3
    volume[..., 10, 10, 5] += 3  # one pixel
    probe = Probe()
    whole = TaskInferer(64, slice_batch=2)(volume, probe, task=0)
    assert sum(probe.batches) == 6
    skipped = TaskInferer(64, slice_batch=2, skip_empty=True)(volume, probe, task=0)
    assert sum(probe.batches) == 6 + 3
    assert torch.equal(skipped[..., 1:4], whole[..., 1:4])
    assert skipped[..., [0, 4, 5]].abs().max() == 0
    assert tissue_slices(volume[0]) == [1, 2, 3]
    assert tissue_slices(volume[0, ..., 1:4]) == [0, 1, 2]  # without a dark slice, none is empty
    assert tissue_slices(torch.zeros(3, 8, 8, 2)) == []
    assert TaskInferer(64, skip_empty=True)(torch.zeros(1, 3, 64, 64, 2), probe, task=0).abs().max() == 0


@torch.no_grad()
@pytest.mark.parametrize("options", [{}, {"window": "sliding", "roi_size": 32, "overlap": 0.5}])
def test_half_precision_of_the_result_is_rounded_once(options: dict[str, Any]) -> None:
    volume = 3 * torch.randn(1, 3, 48, 48, 4)
    exact, half = (TaskInferer(64, half=half, **options)(volume, Probe(), task=0) for half in (False, True))
    assert half.dtype == torch.float16
    assert half.nbytes * 2 == exact.nbytes
    assert (half.float() - exact).abs().max() <= 2**-12
    differ = (half >= 0.5) != (exact >= 0.5)
    assert (exact[differ] - 0.5).abs().max() <= 2**-12 if differ.any() else True


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"slice_batch": "all"}, "at least 1, or 'auto', got all"),
        ({"slice_batch": 0}, "at least 1, or 'auto', got 0"),
        ({"memory_mb": 0}, "more than 0 MiB, got 0"),
    ],
)
def test_bad_arguments_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TaskInferer(**options)
