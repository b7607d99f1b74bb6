"""Handlers of the training loop on a small engine: schedules, prototypes, clipping, seeds."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from monai.engines import SupervisedTrainer
from monai.engines.utils import IterationEvents
from monai.transforms import RandFlipd
from PIL import Image

from monai_tpseg.data import CachedCases
from monai_tpseg.engines import PrepareTaskBatch, TaskAdamW, parameter_groups
from monai_tpseg.handlers import (
    EpochSeed,
    GatePicture,
    GateSchedule,
    GradientClipping,
    KeepLoss,
    PrototypeUpdate,
    ReinforcementRamp,
    StopOnDivergence,
)
from monai_tpseg.inferers import DeepSupervisionInferer
from monai_tpseg.losses import TPSegLoss
from monai_tpseg.networks import TaskAgnostic, TPSeg, tpseg_hiera_demo

TASKS = ("wet_amd", "skin_lesion")


def batch(*tasks: int) -> dict[str, torch.Tensor]:
    return {
        "image": torch.randn(len(tasks), 3, 32, 32),
        "label": (torch.rand(len(tasks), 1, 32, 32) > 0.6).float(),
        "task": torch.tensor(tasks),
    }


def trainer(net: Any, handlers: list[Any], epochs: int = 2, data: list[Any] | None = None) -> SupervisedTrainer:
    return SupervisedTrainer(
        device="cpu",
        max_epochs=epochs,
        train_data_loader=data or [batch(0, 1), batch(1, 0)],
        network=net,
        optimizer=TaskAdamW(parameter_groups(net, 1e-3), lr=1e-3),
        loss_function=TPSegLoss(contrastive_weight=0.1),
        inferer=DeepSupervisionInferer(),
        prepare_batch=PrepareTaskBatch(),
        train_handlers=handlers,
        decollate=False,
    )


def test_gate_cools_linearly_and_ends_hard() -> None:
    net = tpseg_hiera_demo(num_tasks=2)
    seen: list[tuple[float, bool]] = []
    split: list[torch.Tensor] = []

    class Watch:
        def attach(self, engine: Any) -> None:
            from monai.engines.utils import IterationEvents

            engine.add_event_handler(IterationEvents.MODEL_COMPLETED, self)

        def __call__(self, engine: Any) -> None:
            seen.append((float(net.encoder.gate.temperature), net.encoder.gate.is_hard))
            split.append(net.encoder.gate.task_split.detach().clone())

    trainer(net, [GateSchedule(net), Watch()], epochs=5).run()
    temperatures = [t for t, _ in seen]
    np.testing.assert_allclose(temperatures, np.linspace(1.0, 0.3, 10), atol=1e-6)
    assert [h for _, h in seen] == [False] * 8 + [True] * 2
    assert not torch.equal(split[6], split[7])  # the split learns while the gate is soft
    assert torch.equal(split[7], split[9])  # and stays while it is hard, in spite of its momentum


def test_prototypes_move_in_training_and_never_in_evaluation() -> None:
    net = tpseg_hiera_demo(num_tasks=2)
    before = [p.bank.prototypes.clone() for p in net.pgtds]
    trainer(net, [PrototypeUpdate(), KeepLoss()], epochs=1).run()
    after = [p.bank.prototypes.clone() for p in net.pgtds]
    assert all((a != b).any() for a, b in zip(after, before, strict=True))
    net.eval()
    state = {k: v.clone() for k, v in net.state_dict().items()}
    net(torch.randn(2, 3, 32, 32), 1)
    assert all(torch.equal(v, state[k]) for k, v in net.state_dict().items())


def test_without_the_handler_prototypes_stay() -> None:
    net = tpseg_hiera_demo(num_tasks=2)
    before = net.pgtds[0].bank.prototypes.clone()
    trainer(net, [], epochs=1).run()
    assert torch.equal(net.pgtds[0].bank.prototypes, before)


def test_reinforcement_rises_to_its_value() -> None:
    net = tpseg_hiera_demo(num_tasks=2, reinforcement=4.0)
    ramp = ReinforcementRamp(net, fraction=0.5)
    values = []
    for iteration in range(1, 11):
        ramp(SimpleNamespace(state=SimpleNamespace(max_epochs=1, epoch_length=10, iteration=iteration)))
        values.append(float(net.pgtds[0].reinforcement))
    np.testing.assert_allclose(values, [0.8, 1.6, 2.4, 3.2, 4.0, 4.0, 4.0, 4.0, 4.0, 4.0], atol=1e-6)


def test_gradients_are_clipped() -> None:
    net = tpseg_hiera_demo(num_tasks=2)
    engine = trainer(net, [GradientClipping(1e-3)], epochs=1, data=[batch(0, 1)])
    engine.run()
    norm = torch.stack([p.grad.norm() for p in net.parameters() if p.grad is not None]).norm()
    assert float(norm) == pytest.approx(1e-3, rel=1e-2)


def test_only_the_loss_is_kept() -> None:
    engine = trainer(tpseg_hiera_demo(num_tasks=2), [KeepLoss()], epochs=1)
    engine.run()
    assert list(engine.state.output[0]) == ["loss"]
    assert not engine.state.output[0]["loss"].requires_grad


def test_a_loss_that_was_read_is_not_read_again(tmp_path: Path) -> None:
    kept: list[torch.Tensor] = []
    engine = trainer(tpseg_hiera_demo(num_tasks=2), [StopOnDivergence(str(tmp_path), TASKS)], epochs=1)
    engine.add_event_handler(IterationEvents.MODEL_COMPLETED, lambda e: kept.append(e.state.output["loss"].detach()))
    KeepLoss().attach(engine)
    engine.run()
    last = engine.state.output[0]["loss"]
    assert last is not kept[-1]
    assert torch.equal(last, kept[-1])
    assert engine.state.loss_read == (engine.state.iteration, float(last))


def test_an_epoch_draws_the_same_again() -> None:
    dataset = CachedCases([{"x": torch.arange(4.0).view(1, 2, 2)}] * 20, RandFlipd("x", prob=0.5, spatial_axis=0))

    def epoch(number: int) -> list[float]:
        EpochSeed(3, dataset)(SimpleNamespace(state=SimpleNamespace(epoch=number)))
        return [float(dataset[i]["x"][0, 0, 0]) for i in range(20)] + [float(torch.rand(()))]

    first, second = epoch(1), epoch(2)
    assert epoch(1) == first
    assert first != second


def test_cases_are_read_when_asked_to() -> None:
    read: list[int] = []

    def transform(x: int) -> int:
        read.append(x)
        return x

    from monai.transforms import Compose, Lambda

    dataset = CachedCases([1, 2], Compose([Lambda(transform)]), cache_rate=1.0, progress=False)
    assert read == []
    dataset.fill()
    dataset.fill()
    assert sorted(read) == [1, 2]
    with pytest.raises(ValueError, match=r"\[0, 1\], got 2"):
        CachedCases([], Compose([]), cache_rate=2)


def test_gate_picture(tmp_path: Path) -> None:
    net: TPSeg = tpseg_hiera_demo(num_tasks=2)
    engine = trainer(net, [GatePicture(net, TASKS, str(tmp_path))], epochs=1)
    engine.run()
    assert Image.open(tmp_path / "gates.png").size[0] > 300
    assert engine.state.metrics["split/wet_amd"] == int(net.encoder.gate.split_positions()[0])


def test_another_network_trains_under_the_same_handlers(tmp_path: Path) -> None:
    net = TaskAgnostic(torch.nn.Conv2d(3, 1, 3, padding=1))
    before = [p.clone() for p in net.parameters()]
    handlers = [
        GateSchedule(net),
        ReinforcementRamp(net),
        PrototypeUpdate(),
        KeepLoss(),
        GatePicture(net, TASKS, str(tmp_path)),
    ]
    trainer(net, handlers, epochs=1).run()
    assert any((a != b).any() for a, b in zip(net.parameters(), before, strict=True))
    assert list(tmp_path.iterdir()) == []


def test_a_batch_without_task_rows_is_refused() -> None:
    for bad in ({}, {"task": ["wet_amd"]}):
        with pytest.raises(ValueError, match="must be row numbers, which TaskToIndexd makes from names"):
            PrepareTaskBatch()({"image": torch.zeros(1, 3, 32, 32), **bad})
