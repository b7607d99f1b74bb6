"""A training that diverges ends before it spoils its weights, and says by which batch."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from ignite.engine import Events
from monai.data import MetaTensor
from monai.engines import SupervisedTrainer
from torch.nn.parallel import DistributedDataParallel

from monai_tpseg.engines import PrepareTaskBatch, TaskAdamW, parameter_groups
from monai_tpseg.handlers import DivergenceError, GradientClipping, PrototypeUpdate, StopOnDivergence
from monai_tpseg.inferers import DeepSupervisionInferer
from monai_tpseg.losses import TPSegLoss
from monai_tpseg.networks import tpseg_hiera_demo

TASKS = ("wet_amd", "skin_lesion")


def batch(number: int, bad: bool = False) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(number)
    image = torch.randn(2, 3, 32, 32, generator=generator)
    if bad:
        image[1, 0, 4, 4] = math.nan
    source = [f"/data/{number}_{row}.png" for row in range(2)]
    label = (torch.rand(2, 1, 32, 32, generator=generator) > 0.6).float()
    return {"image": MetaTensor(image), "label": MetaTensor(label), "task": torch.tensor([0, 1]), "source": source}


def trainer(net: Any, folder: Path, batches: list[dict[str, Any]], **changes: Any) -> SupervisedTrainer:
    return SupervisedTrainer(
        device="cpu",
        max_epochs=1,
        train_data_loader=batches,
        network=net,
        optimizer=TaskAdamW(parameter_groups(net, 1e-3), lr=1e-3),
        loss_function=TPSegLoss(),
        inferer=DeepSupervisionInferer(),
        prepare_batch=PrepareTaskBatch(),
        train_handlers=[GradientClipping(1.0), StopOnDivergence(str(folder), TASKS, **changes), PrototypeUpdate()],
        decollate=False,
    )


def test_nan_in_a_picture_stops_before_the_step_and_keeps_the_batch(tmp_path: Path) -> None:
    stopped, shorter = tpseg_hiera_demo(num_tasks=2), tpseg_hiera_demo(num_tasks=2)
    shorter.load_state_dict(stopped.state_dict())
    with pytest.raises(DivergenceError, match=r"epoch 1, iteration 3: the loss is nan.*bad_batch\.pt' \(2_0\.png, 2_1"):
        trainer(stopped, tmp_path, [batch(0), batch(1), batch(2, bad=True), batch(3)]).run()
    trainer(shorter, tmp_path / "other", [batch(0), batch(1)]).run()
    for name, value in shorter.state_dict().items():
        assert torch.equal(value, stopped.state_dict()[name]), name
    kept = torch.load(tmp_path / "bad_batch.pt", weights_only=True)
    assert kept["files"] == ["/data/2_0.png", "/data/2_1.png"]
    torch.testing.assert_close(kept["image"], batch(2, bad=True)["image"].as_tensor(), equal_nan=True)
    assert torch.equal(kept["label"], batch(2)["label"].as_tensor())
    assert (kept["task"].tolist(), kept["task_names"]) == ([0, 1], list(TASKS))
    assert (kept["epoch"], kept["iteration"], len(kept["losses"])) == (1, 3, 2)
    assert math.isnan(kept["loss"])
    assert not (tmp_path / "other").exists()


class Fake:
    """An engine that runs through given losses and gradients."""

    def __init__(self, tmp_path: Path, scaler: Any = None, **changes: Any) -> None:
        self.handler = StopOnDivergence(str(tmp_path), TASKS, **changes)
        self.state = SimpleNamespace(epoch=1, iteration=0, batch=batch(0), output={})
        self.network, self.scaler, self.optimizer = torch.nn.Linear(1, 1), scaler, None

    def step(self, loss: float, norm: float = 1.0) -> None:
        self.state.iteration += 1
        self.state.output = {"loss": torch.tensor(loss)}
        self.state.gradient_norm = self.state.iteration, torch.tensor(norm)
        self.handler(self)


def test_a_loss_far_above_its_past_stops_only_when_it_stays_there(tmp_path: Path) -> None:
    engine = Fake(tmp_path, factor=10, patience=3)
    for loss in (4.0, 2.0, 1.0, 50.0, 50.0, 1.0, 50.0, 50.0):
        engine.step(loss)
    with pytest.raises(DivergenceError, match=r"iteration 9: the loss was above 23.3 for 3 iterations and is 60 now"):
        engine.step(60.0)
    assert torch.load(tmp_path / "bad_batch.pt", weights_only=True)["losses"] == [1.0, 50.0, 50.0]


def test_small_losses_may_jump(tmp_path: Path) -> None:
    engine = Fake(tmp_path, factor=10, patience=3)
    for loss in (1e-4,) * 5 + (0.9,) * 20:
        engine.step(loss)


def test_a_gradient_that_is_not_finite_stops_without_a_scaler(tmp_path: Path) -> None:
    engine = Fake(tmp_path)
    engine.step(1.0)
    with pytest.raises(DivergenceError, match="a gradient is not finite"):
        engine.step(1.0, math.inf)


def test_skips_of_the_scaler_are_no_error_until_there_are_many_in_a_row(tmp_path: Path) -> None:
    engine = Fake(tmp_path, scaler=object(), max_skips=3)
    for norm in (math.inf, math.nan, 1.0, math.inf, math.inf):
        engine.step(1.0, norm)
    with pytest.raises(DivergenceError, match="3 iterations in a row overflowed in fp16"):
        engine.step(1.0, math.inf)
    with pytest.raises(DivergenceError, match="the loss is nan"):
        Fake(tmp_path, scaler=object()).step(math.nan)


@pytest.mark.filterwarnings("ignore")  # MONAI asks for autocast and scaler of a GPU
def test_a_real_scaler_finds_its_scale_and_training_goes_on(tmp_path: Path) -> None:
    net = tpseg_hiera_demo(num_tasks=2)
    weights = [p.detach().clone() for p in net.parameters()]
    engine = trainer(net, tmp_path, [batch(n) for n in range(4)], max_skips=2)
    engine.amp = True
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**127, backoff_factor=2.0**-60)
    engine.add_event_handler(Events.STARTED, lambda: setattr(engine, "scaler", scaler))
    engine.run()
    assert scaler.get_scale() == 2.0**67  # one step was skipped
    assert any((a != b).any() for a, b in zip(net.parameters(), weights, strict=True))
    assert not list(tmp_path.iterdir())


def test_without_clipping_it_measures_the_gradients_itself(tmp_path: Path) -> None:
    engine = Fake(tmp_path)
    engine.state.output = {"loss": torch.tensor(1.0)}
    engine.network.weight.grad = torch.tensor([[math.inf]])
    with pytest.raises(DivergenceError, match="a gradient is not finite"):
        engine.handler(engine)


@pytest.mark.parametrize("change", [{"factor": 1.0}, {"patience": 0}, {"max_skips": 0}])
def test_arguments_out_of_range(change: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(change))} must be"):
        StopOnDivergence(str(tmp_path), TASKS, **change)


def _rank(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/sync", rank=rank, world_size=2)
    torch.manual_seed(0)
    net = DistributedDataParallel(tpseg_hiera_demo(num_tasks=2))
    batches = [batch(0), batch(1), batch(2, bad=rank == 1), batch(3)]
    try:
        trainer(net, Path(folder), batches).run()
    except DivergenceError as error:
        (Path(folder) / f"{rank}.txt").write_text(str(error))
    dist.destroy_process_group()


@pytest.mark.slow
def test_all_ranks_stop_together(tmp_path: Path) -> None:
    mp.spawn(_rank, args=(str(tmp_path),), nprocs=2)
    said = [(tmp_path / f"{rank}.txt").read_text() for rank in range(2)]
    assert "iteration 3: the loss of another process is not finite" in said[0]
    assert "iteration 3: the loss is nan" in said[1]
    assert math.isnan(torch.load(tmp_path / "bad_batch_rank1.pt", weights_only=True)["loss"])
    assert math.isfinite(torch.load(tmp_path / "bad_batch.pt", weights_only=True)["loss"])
