"""Peak memory of the speed benchmarks: on a GPU the GPU's own, counted from `started()`; else that of the process."""

from __future__ import annotations

import pytest
import torch

from benchmarks import timing

MIB = 2**20


class Allocator:
    """What PyTorch says of the memory of a GPU; its process has had a peak of 900 MiB before."""

    def __init__(self) -> None:
        self.used, self.peak = 300 * MIB, 900 * MIB

    def use(self, mib: int) -> None:
        self.used += mib * MIB
        self.peak = max(self.peak, self.used)

    def reset(self) -> None:
        self.peak = self.used


class Received:
    """The end of a pipe."""

    def __init__(self) -> None:
        self.values: list[float] = []
        self.closed = False

    def send(self, value: float) -> None:
        self.values.append(value)

    def close(self) -> None:
        self.closed = True


@pytest.mark.parametrize("used", [[50, 70, -70], [-100, 20]])
def test_on_a_gpu_its_own_peak_counts_from_the_start(used: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    gpu, received = Allocator(), Received()
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda: gpu.used)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda: gpu.peak)
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", gpu.reset)
    monkeypatch.setattr(timing, "_before", 0.0)

    def run() -> None:
        gpu.use(40)  # inputs and network, before the start
        timing.started()
        for mib in used:
            gpu.use(mib)

    timing._measured(received, run, ())

    assert received.values == [{50: 120.0, -100: 0.0}[used[0]]]
    assert received.closed


def test_without_a_gpu_the_memory_of_the_process_counts() -> None:
    assert timing.peak_memory(fill, 100) > 90


def fill(mib: int) -> None:
    """Use memory, in the process that is measured."""
    timing.started()
    assert sum(bytearray(b"\1") * (mib * MIB)) == mib * MIB
