"""The moving average of the weights against a plain loop, and its way through a checkpoint."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from ignite.engine import Engine, Events
from torch import nn

from monai_tpseg.handlers import RunCheckpoint, WeightAverage
from monai_tpseg.networks.checkpoint import CheckpointError, read_checkpoint
from monai_tpseg.networks.weights_info import WeightsInfo

INFO = WeightsInfo(tasks=("a",), network={}, image_size=(32, 32))


def part() -> nn.BatchNorm1d:
    return nn.BatchNorm1d(3)


def run(
    net: nn.Module, average: WeightAverage, folder: Path | None = None, epochs: int = 1, resume: bool = False
) -> None:
    """Three iterations an epoch, each adds its number to the parameters and counts in a buffer."""
    engine = Engine(lambda e, b: None)
    engine.network, engine.scaler = net, None
    engine.optimizer = torch.optim.SGD(net.parameters(), lr=0.1)

    @engine.on(Events.ITERATION_COMPLETED)
    def move(engine: Engine) -> None:
        with torch.no_grad():
            for p in net.parameters():
                p.add_(engine.state.iteration)
            net.running_mean.add_(1.0)  # type: ignore[union-attr, operator]

    if folder is None:
        average.attach(engine)
    else:
        evaluator = SimpleNamespace(state=SimpleNamespace(metrics={}), add_event_handler=lambda *args: None)
        RunCheckpoint(str(folder), INFO, evaluator, resume=resume, average=average).attach(engine)
    engine.run([0] * 3, max_epochs=epochs)


def test_equals_a_loop_and_copies_buffers() -> None:
    net = part()
    average = WeightAverage(net, 0.5)
    with torch.no_grad():
        net.weight.fill_(7.0)  # weights that were loaded after the handler was built
    run(net, average, epochs=2)
    value, kept = 7.0, 7.0
    for n in range(1, 7):
        value += n
        decay = min(0.5, (1 + n) / (10 + n))
        kept = decay * kept + (1 - decay) * value
    assert float(average.network.weight[0]) == pytest.approx(kept, rel=1e-6)  # type: ignore[union-attr, index, arg-type]
    assert torch.equal(average.network.running_mean, net.running_mean)  # type: ignore[union-attr, arg-type]
    assert float(net.weight[0]) == 7.0 + 21
    assert not any(p.requires_grad for p in average.network.parameters())


def test_off_is_the_network_itself() -> None:
    net = part()
    average = WeightAverage(net)
    run(net, average)
    assert average.network is net
    assert average.state_dict() == {}
    for decay in (-0.1, 1.0):
        with pytest.raises(ValueError, match=r"0\.999"):
            WeightAverage(net, decay)


def test_is_kept_as_the_model_and_goes_on_after_an_interruption(tmp_path: Path) -> None:
    whole = part()
    straight = WeightAverage(whole, 0.9)
    run(whole, straight, tmp_path / "a", epochs=4)
    kept = read_checkpoint(tmp_path / "a" / "model.pt")
    assert torch.equal(kept["weight"], straight.network.weight)  # type: ignore[union-attr, arg-type]
    assert not torch.equal(kept["weight"], whole.weight)

    class Stop(Exception):
        pass

    net = part()
    first = WeightAverage(net, 0.9)
    engine_epochs = 4

    def stop(engine: Engine) -> None:
        raise Stop

    engine = Engine(lambda e, b: None)
    engine.network, engine.scaler = net, None
    engine.optimizer = torch.optim.SGD(net.parameters(), lr=0.1)

    @engine.on(Events.ITERATION_COMPLETED)
    def move(engine: Engine) -> None:
        with torch.no_grad():
            for p in net.parameters():
                p.add_(engine.state.iteration)
            net.running_mean.add_(1.0)  # type: ignore[union-attr, operator]

    evaluator = SimpleNamespace(state=SimpleNamespace(metrics={}), add_event_handler=lambda *args: None)
    RunCheckpoint(str(tmp_path / "b"), INFO, evaluator, average=first).attach(engine)
    engine.add_event_handler(Events.EPOCH_COMPLETED(once=2), stop)
    with pytest.raises(Stop):
        engine.run([0] * 3, max_epochs=engine_epochs)
    again = part()
    second = WeightAverage(again, 0.9)
    run(again, second, tmp_path / "b", epochs=4, resume=True)
    assert torch.equal(second.network.weight, straight.network.weight)  # type: ignore[union-attr, arg-type]
    with pytest.raises(CheckpointError, match="a different ema"):
        run(part(), WeightAverage(part()), tmp_path / "b", epochs=4, resume=True)
