"""The task reaches the network whatever the shape of the case, and results come back at its size."""

from __future__ import annotations

import threading
from typing import Any

import pytest
import torch
from torch import Tensor

from monai_tpseg.inferers import DeepSupervisionInferer, TaskInferer
from monai_tpseg.inferers.prefetch import prefetch
from monai_tpseg.networks import TPSegOutput, tpseg_hiera_demo


class Probe(torch.nn.Module):
    """Logits that are the task's number plus the red channel, and a record of the calls."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[tuple[int, ...], list[int]]] = []

    def forward(self, image: Tensor, task: Tensor) -> Tensor:
        self.calls.append((tuple(image.shape), task.tolist()))
        return image[:, :1] + task.view(-1, 1, 1, 1)


def test_volume_slices_all_carry_the_task() -> None:
    probe = Probe()
    volume = torch.zeros(2, 3, 32, 32, 5)
    result = TaskInferer(32, slice_batch=2)(volume, probe, task=torch.tensor([1, 3]))
    assert result.shape == (2, 1, 32, 32, 5)
    expected = torch.tensor([1.0, 3.0]).sigmoid().view(2, 1, 1, 1, 1).expand_as(result)
    torch.testing.assert_close(result, expected)
    assert max(shape[0] for shape, _ in probe.calls) == 2


def test_volume_equals_its_slices() -> None:
    net = tpseg_hiera_demo(num_tasks=2).eval()
    with torch.no_grad():
        for p in net.parameters():
            p.add_(0.05 * torch.randn_like(p))
        volume = torch.randn(1, 3, 48, 80, 3)
        inferer = TaskInferer((32, 64), slice_batch=2)
        for task in (0, 1):
            whole = inferer(volume, net, task=task)
            slices = [inferer(volume[..., d], net, task=task) for d in range(3)]
            torch.testing.assert_close(whole, torch.stack(slices, dim=-1), atol=1e-5, rtol=1e-4)
        assert not torch.allclose(inferer(volume, net, task=0), inferer(volume, net, task=1), atol=1e-3)


def test_at_network_size_the_result_is_the_network_itself() -> None:
    net = tpseg_hiera_demo(num_tasks=2).eval()
    image = torch.randn(2, 3, 64, 32)
    with torch.no_grad():
        expected = net(image, torch.tensor([1, 0])).sigmoid()
        torch.testing.assert_close(TaskInferer((64, 32))(image, net, task=torch.tensor([1, 0])), expected)


@pytest.mark.parametrize("window", ["none", "sliding"])
@pytest.mark.parametrize("size", [(40, 70), (100, 33), (32, 32), (20, 25), (5, 7)])
def test_any_size_comes_back(window: str, size: tuple[int, int]) -> None:
    inferer = TaskInferer(32, window=window, sw_batch_size=3)  # type: ignore[arg-type]
    result = inferer(torch.zeros(2, 3, *size), Probe(), task=torch.tensor([2, 0]))
    assert result.shape == (2, 1, *size)
    torch.testing.assert_close(result[0], torch.full_like(result[0], float(torch.tensor(2.0).sigmoid())))
    torch.testing.assert_close(result[1], torch.full_like(result[1], 0.5))


def test_sliding_runs_at_the_pictures_own_scale() -> None:
    probe = Probe()
    TaskInferer(64, window="sliding", roi_size=32, overlap=0.5)(torch.zeros(1, 3, 64, 64), probe, task=1)
    assert {shape[2:] for shape, _ in probe.calls} == {(32, 32)}
    assert sum(shape[0] for shape, _ in probe.calls) == 9


def test_flips_average_the_four_orientations() -> None:
    class Corner(torch.nn.Module):
        def forward(self, image: Tensor, task: Tensor) -> Tensor:
            logits = torch.full_like(image[:, :1], -20.0)
            logits[..., 0, 0] = 20.0
            return logits

    result = TaskInferer(32, tta_flips=True)(torch.zeros(1, 3, 32, 32), Corner(), task=0)[0, 0]
    corners = torch.stack([result[0, 0], result[0, -1], result[-1, 0], result[-1, -1]])
    torch.testing.assert_close(corners, torch.full((4,), 0.25))


def test_bf16_is_close_to_float32() -> None:
    net = tpseg_hiera_demo(num_tasks=1).eval()
    image = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        full, half = (TaskInferer(64, amp=amp)(image, net, task=0) for amp in ("none", "bf16"))  # type: ignore[arg-type]
    assert half.dtype == torch.float32
    assert not torch.equal(full, half)
    assert (full - half).abs().mean() < 0.02


def test_training_inferer_asks_for_every_output() -> None:
    net = tpseg_hiera_demo(num_tasks=2)
    output = DeepSupervisionInferer()(torch.randn(1, 3, 32, 32), net, task=torch.tensor([1]))
    assert isinstance(output, TPSegOutput)
    assert len(output.side_logits) == 4


@pytest.mark.parametrize("inferer", [TaskInferer(32), DeepSupervisionInferer()])
def test_no_task_is_an_error(inferer: TaskInferer | DeepSupervisionInferer) -> None:
    with pytest.raises(ValueError, match="no default task"):
        inferer(torch.zeros(1, 3, 32, 32), Probe())


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"image_size": 100}, "multiples of 32, got 100"),
        ({"window": "tiles"}, "Unknown window 'tiles'; choose one of none, sliding"),
        ({"slice_batch": 0}, "at least 1, or 'auto', got 0"),
        ({"overlap": 2}, r"overlap must lie in \[0, 1\), got 2"),
        ({"sw_batch_size": 0}, "sw_batch_size must be a whole number of at least 1, got 0"),
        ({"image_size": 64.0}, "image_size must be one or two multiples of 32, got 64"),
        ({"window": "sliding", "roi_size": 0}, "roi_size must be one or two multiples of 32, got 0"),
        ({"window": "sliding", "roi_size": []}, "roi_size must be one or two multiples of 32"),
        ({"amp": "int8"}, "Unknown amp 'int8'; choose one of none, bf16, fp16"),
        ({"half": "false"}, "half must be True or False, got 'false'"),
    ],
)
def test_bad_arguments_are_named(kwargs: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TaskInferer(**kwargs)  # type: ignore[arg-type]


def test_unknown_amp() -> None:
    with pytest.raises(ValueError, match="Unknown amp 'int8'; choose one of none, bf16, fp16"):
        DeepSupervisionInferer(amp="int8")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ({"task": torch.tensor([0, 1, 0])}, r"\(B, T\) for B = 2, got shape \(3, 1\)"),
        ({"task": torch.zeros(2, 0, dtype=torch.int64)}, r"got shape \(2, 0\)"),
        ({"task": 0, "slice_batch": 0}, "slice_batch must be at least 1, or 'auto', got 0"),
        ({"task": 0, "inputs": torch.zeros(2, 3, 32, 0)}, r"got shape \(2, 3, 32, 0\)"),
    ],
)
def test_bad_arguments_of_a_call_are_named(call: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TaskInferer(32)(**{"inputs": torch.zeros(2, 3, 32, 32), "network": Probe(), **call})


@torch.no_grad()
@pytest.mark.parametrize("options", [{}, {"window": "sliding", "roi_size": 32, "overlap": 0.5}, {"tta_flips": True}])
def test_several_tasks_are_the_same_bits_as_each_alone(options: dict[str, Any]) -> None:
    net = tpseg_hiera_demo(num_tasks=3).eval()
    for p in net.parameters():
        p.add_(0.05 * torch.randn_like(p))
    net.encoder.gate.set_hard(True)
    fast = net.optimize_for_inference()
    inferer = TaskInferer(64, slice_batch=2, **options)
    for inputs in (torch.randn(1, 3, 40, 72), torch.randn(1, 3, 40, 72, 3), torch.randn(2, 3, 64, 64)):
        together = inferer(inputs, fast, task=torch.tensor([[2, 0]]))
        assert together.shape == (len(inputs), 2, *inputs.shape[2:])
        for channel, row in enumerate((2, 0)):
            assert torch.equal(together[:, channel : channel + 1], inferer(inputs, fast, task=row))


def test_inputs_may_ask_for_different_tasks() -> None:
    probe, rows = Probe(), torch.tensor([[1, 2], [3, 0]])
    for inputs in (torch.zeros(2, 3, 32, 32), torch.zeros(2, 3, 32, 32, 3)):
        found = TaskInferer(32, slice_batch=2)(inputs, probe, task=rows)
        expected = rows.float().sigmoid().view(2, 2, *(1,) * (inputs.ndim - 2)).expand_as(found)
        torch.testing.assert_close(found, expected)


def test_the_next_batch_is_made_ready_while_the_network_runs() -> None:
    began: list[int] = []
    running = threading.Event()

    def prepare(n: int) -> int:
        began.append(n)
        assert not torch.is_grad_enabled()
        if n == 1:
            running.set()
        return 10 * n

    pieces = prefetch([0, 1, 2], prepare)
    assert next(pieces) == (0, 0)
    assert running.wait(30)  # the second one is made while the first one is with us
    assert began == [0, 1]  # and no more than that
    assert list(pieces) == [(1, 10), (2, 20)]
    with pytest.raises(ZeroDivisionError):
        list(prefetch([1, 0], lambda n: 1 // n))
