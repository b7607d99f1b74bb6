"""Training in fp16: steps that a scaler skips leave everything as it was, and what could overflow stays in float32."""

from __future__ import annotations

import copy
import math
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from monai_tpseg.bundle.device import is_gpu, set_up_device
from monai_tpseg.engines import TaskAdamW, parameter_groups
from monai_tpseg.handlers import PrototypeUpdate
from monai_tpseg.handlers.average import WeightAverage
from monai_tpseg.keys import LABEL, PRED, TASK
from monai_tpseg.losses import TPSegLoss
from monai_tpseg.networks import TPSeg, tpseg_hiera_demo

TASKS = torch.tensor([0, 1])


def batch() -> tuple[Tensor, Tensor]:
    return torch.randn(2, 3, 32, 32), (torch.rand(2, 1, 32, 32) > 0.6).float()


@pytest.mark.parametrize("clipped", [True, False])
def test_a_skipped_step_changes_nothing(clipped: bool) -> None:
    net: TPSeg = tpseg_hiera_demo(2).train()
    optimizer = TaskAdamW(parameter_groups(net, 1e-2, 1e-2, 0.1), lr=1e-2, fused=True)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    handler, average = PrototypeUpdate(), WeightAverage(net, 0.9)

    def train(spoiled: float | None, iteration: int) -> None:
        image, label = batch()
        optimizer.zero_grad()
        output = net(image, TASKS, deep_supervision=True)
        scaler.scale(TPSegLoss()(output, label)).backward()
        if spoiled is not None:
            net.decoder.pgtds[0].head.task_weight.grad[1, 0] = spoiled
        state = SimpleNamespace(iteration=iteration, batch={TASK: TASKS}, output={LABEL: label, PRED: output})
        if clipped:
            scaler.unscale_(optimizer)
            state.gradient_norm = iteration, torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        scaler.step(optimizer)
        scaler.update()
        engine = SimpleNamespace(network=net, state=state, scaler=scaler)
        handler(engine)
        average(engine)

    def everything() -> tuple[dict[str, Tensor], list[Tensor]]:
        moments = [x for state in optimizer.state.values() for x in state.values()]
        return copy.deepcopy((dict(net.state_dict()), moments))

    def averaged() -> list[Tensor]:
        return [x.clone() for x in average.network.parameters()]

    train(None, 1)
    (weights, moments), kept = everything(), averaged()
    for number, spoiled in enumerate((math.inf, math.nan)):
        train(spoiled, 2 + number)
        after, after_moments = everything()
        assert all(torch.equal(after[key], value) for key, value in weights.items())  # prototypes and gates too
        assert all(torch.equal(a, b) for a, b in zip(after_moments, moments, strict=True))
        assert all(torch.equal(a, b) for a, b in zip(averaged(), kept, strict=True))
    assert scaler.get_scale() == 2.0**8
    train(None, 4)
    after, _ = everything()
    share = 1 - 5 / 14  # after four iterations
    for old, new, now in zip(kept, averaged(), net.parameters(), strict=True):
        torch.testing.assert_close(new, old + share * (now - old))
    moved = [key for key, value in weights.items() if not torch.equal(after[key], value)]
    assert any("prototypes" in key for key in moved)
    assert any("task_split" in key for key in moved)


@torch.no_grad()
def test_the_vote_at_its_temperature_does_not_overflow() -> None:
    pgtd = tpseg_hiera_demo(2).eval().pgtds[0]
    low, high = 3e4 * torch.randn(2, 16, 8, 8), 3e4 * torch.randn(2, 24, 4, 4)  # fp16 ends at 65504
    pgtd.encode[-1].weight.mul_(1e5)  # f~ far beyond
    exact = pgtd(low, high, TASKS)
    assert exact.encoded.abs().max() > 1e5
    with torch.autocast("cpu", torch.float16):
        half = pgtd(low, high, TASKS)
    assert all(torch.equal(a, b) for a, b in zip(half, exact, strict=True))
    assert all(x.isfinite().all() for x in half)


@pytest.mark.parametrize("size", [40, 512])
def test_the_loss_does_not_overflow(size: int) -> None:
    label = torch.zeros(1, 1, size, size)
    label[..., : size // 2] = 1
    logits = torch.full_like(label, 6e4).half().requires_grad_()  # Dice sums up to 262144 pixels
    with torch.autocast("cpu", torch.float16):
        loss = TPSegLoss()(logits, label)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, TPSegLoss()(logits.detach().float(), label))
    loss.backward()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


def test_what_a_gpu_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    cudnn = torch.backends.cudnn
    for name in ("benchmark", "deterministic", "allow_tf32"):
        monkeypatch.setattr(cudnn, name, getattr(cudnn, name))
    asked: list[str] = []
    monkeypatch.setattr(torch, "set_float32_matmul_precision", asked.append)
    before = cudnn.benchmark, cudnn.deterministic
    set_up_device("cpu", tf32=True)
    assert ((cudnn.benchmark, cudnn.deterministic), asked) == (before, [])
    set_up_device(torch.device("cuda", 1), deterministic="true")
    assert (cudnn.benchmark, cudnn.deterministic, asked) == (False, True, [])
    set_up_device("cuda", tf32="true")
    assert (cudnn.benchmark, cudnn.deterministic, cudnn.allow_tf32, asked) == (True, False, True, ["high"])
    assert is_gpu("cuda:0")
    assert not is_gpu("cpu")
    with pytest.raises(ValueError, match="Unknown tf32 'maybe'"):
        set_up_device("cuda", tf32="maybe")
