from __future__ import annotations

import csv
import json
import logging
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from monai.data import DataLoader, Dataset, MetaTensor
from monai.engines import SupervisedEvaluator
from monai.metrics import DiceMetric, MeanIoU
from torch import Tensor
from torchmetrics.classification import BinaryF1Score, BinaryJaccardIndex

from monai_tpseg.files import write_atomically
from monai_tpseg.handlers.lesion_metrics import LesionMetricsHandler, evaluated_cases
from monai_tpseg.metrics import (
    LesionMetrics,
    confusion,
    dice,
    dice_per_image,
    foreground_iou,
    foreground_iou_per_image,
    mean_iou,
    mean_iou_per_image,
)

NAMES = ("wet_amd", "brain_tumor", "skin_lesion")


def masks(batch: int, *size: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    label = (torch.rand(batch, 1, *size, generator=generator) > 0.6).float()
    flip = torch.rand(batch, 1, *size, generator=generator) > 0.8
    return (label - flip.float()).abs(), label


def test_confusion_counts_every_pixel_once() -> None:
    pred, label = torch.tensor([[1, 1, 0, 0, 1]]), torch.tensor([[1, 0, 1, 0, 1]])
    assert confusion(pred, label).tolist() == [[2, 1, 1, 1]]


def test_measures_agree_with_monai_and_torchmetrics() -> None:
    pred, label = masks(4, 9, 11)
    both = [torch.cat([1 - mask, mask], 1) for mask in (pred, label)]
    torch.testing.assert_close(dice_per_image(pred, label), DiceMetric()(pred, label)[:, 0].double())
    torch.testing.assert_close(foreground_iou_per_image(pred, label), MeanIoU()(pred, label)[:, 0].double())
    torch.testing.assert_close(mean_iou_per_image(pred, label), MeanIoU()(*both).mean(1).double())
    for i in range(4):
        f1, jaccard = BinaryF1Score()(pred[i], label[i].int()), BinaryJaccardIndex()(pred[i], label[i].int())
        assert float(dice_per_image(pred, label)[i]) == pytest.approx(float(f1))
        assert float(foreground_iou_per_image(pred, label)[i]) == pytest.approx(float(jaccard))


def test_data_set_measure_agrees_with_torchmetrics_over_all_pixels() -> None:
    pred, label = masks(4, 9, 11)
    foreground = BinaryJaccardIndex()(pred, label.int())
    background = BinaryJaccardIndex()(1 - pred, 1 - label.int())
    assert float(mean_iou(confusion(pred, label).sum(0))) == pytest.approx(float((foreground + background) / 2))


def test_empty_cases_are_defined() -> None:
    none, full = torch.zeros(1, 1, 4, 4), torch.ones(1, 1, 4, 4)
    measures = (dice_per_image, foreground_iou_per_image, mean_iou_per_image)
    assert [float(measure(none, none)) for measure in measures] == [1, 1, 1]
    assert [float(measure(full, full)) for measure in measures] == [1, 1, 1]
    assert [float(measure(full, none)) for measure in measures] == [0, 0, 0]
    assert [float(measure(none, full)) for measure in measures] == [0, 0, 0]


def test_masks_must_be_binary_and_of_one_shape() -> None:
    with pytest.raises(ValueError, match=r"Prediction must be a mask of 0 and 1, got values from 0 to 0\.7"):
        dice_per_image(torch.tensor([[0, 0.7]]), torch.tensor([[0, 1]]))
    with pytest.raises(ValueError, match="Label must be a mask"):
        dice_per_image(torch.tensor([[0, 1]]), torch.tensor([[0, 255]]))
    with pytest.raises(ValueError, match="same shape"):
        dice_per_image(torch.zeros(1, 4), torch.zeros(1, 5))
    for shape in ((4,), (1, 0), (2, 1, 0, 4)):
        with pytest.raises(ValueError, match="at least one pixel"):
            dice_per_image(torch.zeros(shape), torch.zeros(shape))


@pytest.mark.parametrize("measure", [dice, foreground_iou, mean_iou])
def test_measures_of_counts_take_counts_alone(measure: Callable[[Tensor], Tensor]) -> None:
    wrong = [torch.zeros(2, 1, 4, 4), torch.zeros(2, 3, dtype=torch.int64), torch.ones(4, dtype=torch.bool)]
    for counts in (*wrong, torch.tensor([-1, 2, 3, 4]), torch.tensor([float("nan"), 2, 3, 4])):
        with pytest.raises(ValueError, match=f"call {measure.__name__}_per_image"):
            measure(counts)
    small = torch.tensor([200, 200, 200, 200], dtype=torch.uint8)  # 2 * 200 is beyond a byte
    assert float(measure(small)) == float(measure(small.long()))
    assert float(dice(small)) == 0.5


def test_aggregate_averages_per_task_and_then_over_tasks() -> None:
    metrics = LesionMetrics(NAMES)
    (pred_a, label_a), (pred_b, label_b) = masks(3, 8, 8), masks(1, 5, 7, 3, seed=1)
    metrics.update(pred_a, label_a, torch.tensor([0, 2, 0]), ["a", "b", "c"])
    metrics.update([pred_b[0]], [label_b[0]], ["skin_lesion"])
    result, dice, volume = metrics.aggregate(), dice_per_image(pred_a, label_a), dice_per_image(pred_b, label_b)
    assert list(result) == ["wet_amd", "skin_lesion", "mean"]  # the absent task is absent
    assert [result[task]["n"] for task in result] == [2, 2, 4]
    assert result["wet_amd"]["dice"] == pytest.approx(float(dice[[0, 2]].mean()))
    assert result["skin_lesion"]["dice"] == pytest.approx(float((dice[1] + volume[0]) / 2))
    pooled = confusion(pred_a[1:2], label_a[1:2]) + confusion(pred_b, label_b)
    assert result["skin_lesion"]["iou_dataset"] == pytest.approx(float(mean_iou(pooled)[0]))
    for key in ("dice", "iou_foreground", "iou_mean", "iou_dataset"):
        expected = (result["wet_amd"][key] + result["skin_lesion"][key]) / 2
        assert result["mean"][key] == pytest.approx(expected)
    assert result["skin_lesion"]["iou_dataset"] != pytest.approx(result["skin_lesion"]["iou_mean"], abs=1e-4)


def test_rows_tell_each_case_and_reset_forgets() -> None:
    metrics = LesionMetrics(NAMES)
    pred, label = masks(2, 8, 8)
    metrics.update(pred, label, [torch.tensor(1), "wet_amd"], ["a.png", "b.png"])
    rows = metrics.rows()
    assert [(row["case"], row["task"]) for row in rows] == [("a.png", "brain_tumor"), ("b.png", "wet_amd")]
    assert rows[1]["iou_mean"] == pytest.approx(float(mean_iou_per_image(pred, label)[1]))
    assert sum(rows[0][key] for key in ("tp", "fp", "fn", "tn")) == 64
    metrics.reset()
    assert metrics.rows() == []
    with pytest.raises(ValueError, match="No case was measured"):
        metrics.aggregate()


def test_a_refused_batch_adds_nothing() -> None:
    metrics, (pred, label) = LesionMetrics(NAMES), masks(2, 8, 8)
    with pytest.raises(ValueError, match="Unknown task 'lung'"):
        metrics.update(pred, label, ["wet_amd", "lung"])
    with pytest.raises(ValueError, match="Unknown task 3"):
        metrics.update(pred, label, [0, 3])
    for row in (1.0, True, torch.tensor(0.7), torch.tensor(True)):
        with pytest.raises(ValueError, match="Unknown task"):
            metrics.update(pred, label, [0, row])  # type: ignore[list-item]
    with pytest.raises(ValueError, match="must be a mask"):
        metrics.update([pred[0], pred[1] * 2], label, [0, 1])
    with pytest.raises(ValueError, match="2, 2, 1 and 2"):
        metrics.update(pred, label, [0])
    assert len(metrics) == 0
    with pytest.raises(ValueError, match="cannot be called 'mean'"):
        LesionMetrics(["mean"])
    with pytest.raises(ValueError, match=r"Task names must be a list, got 'mole'; write \['mole'\]"):
        LesionMetrics("mole")


class Lookup(torch.nn.Module):
    """Gives the first channel of the image back: the mask that the test put there."""

    def forward(self, image: Tensor) -> Tensor:
        return image[:, :1]


def evaluator(handler: LesionMetricsHandler, cases: list[dict[str, Any]]) -> SupervisedEvaluator:
    loader = DataLoader(Dataset(cases), batch_size=2)
    return SupervisedEvaluator("cpu", loader, Lookup(), key_val_metric={"val_dice": handler})


def cases(count: int = 3) -> list[dict[str, Any]]:
    pred, label = masks(count, 8, 8)
    return [
        {"image": MetaTensor(pred[i], meta={"filename_or_obj": f"case_{i}.png"}), "label": label[i], "task": i % 2}
        for i in range(count)
    ]


def test_handler_is_the_key_metric_of_a_monai_evaluator(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    handler = LesionMetricsHandler(NAMES, output_dir=tmp_path / "metrics")
    engine, data = evaluator(handler, cases()), cases()
    with caplog.at_level(logging.INFO, "monai_tpseg.handlers.lesion_metrics"):
        engine.run(global_epoch=2)
    dice = [float(dice_per_image(case["image"][None], case["label"][None])) for case in data]
    expected = ((dice[0] + dice[2]) / 2 + dice[1]) / 2
    state = engine.state
    assert state.metrics["val_dice"] == pytest.approx(expected)
    assert (state.best_metric, state.best_metric_epoch) == (state.metrics["val_dice"], 2)
    assert state.metrics["dice/mean"] == state.metrics["val_dice"]
    assert state.metrics["dice/brain_tumor"] == pytest.approx(dice[1])
    assert {"iou_foreground/wet_amd", "iou_mean/wet_amd", "iou_dataset/wet_amd"} <= set(state.metrics)
    assert not any("skin_lesion" in key for key in state.metrics)
    torch.testing.assert_close(state.metric_details["val_dice"], torch.tensor(dice)[:, None])
    assert f"{dice[1]:.4f}" in caplog.text

    summary = json.loads((tmp_path / "metrics/metrics.json").read_text())
    assert summary["mean"]["dice"] == state.metrics["val_dice"]
    with (tmp_path / "metrics/metrics_per_image.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["case"], row["task"]) for row in rows][1] == ("case_1.png", "brain_tumor")
    with (tmp_path / "metrics/metrics.csv").open(newline="") as file:
        assert [row["task"] for row in csv.DictReader(file)] == ["wet_amd", "brain_tumor", "mean"]
    assert len(list((tmp_path / "metrics").iterdir())) == 3  # no half-written file stays behind


def test_each_run_starts_anew() -> None:
    engine = evaluator(LesionMetricsHandler(NAMES), cases())
    engine.run()
    first = dict(engine.state.metrics)
    engine.data_loader = DataLoader(Dataset(cases(1)), batch_size=1)
    engine.state.epoch_length = 1
    engine.run()
    assert engine.state.metrics["dice/wet_amd"] != first["dice/wet_amd"]
    assert "dice/brain_tumor" in first
    assert "dice/brain_tumor" not in engine.state.metrics


def test_output_transform_chooses_the_masks() -> None:
    def invert(items: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [{**item, "pred": 1 - item["label"]} for item in items]

    engine = evaluator(LesionMetricsHandler(NAMES, output_transform=invert), cases())
    engine.run()
    assert engine.state.metrics["val_dice"] == 0


def test_an_output_that_is_not_decollated_is_refused() -> None:
    loader = DataLoader(Dataset(cases()), batch_size=2)
    metric = {"val_dice": LesionMetricsHandler(NAMES)}
    engine = SupervisedEvaluator("cpu", loader, Lookup(), key_val_metric=metric, decollate=False)
    with pytest.raises(ValueError, match="set decollate=True"):
        engine.run()


def test_the_output_is_laid_over_the_batch() -> None:
    state = SimpleNamespace(batch=[{"task": 3, "label": "source"}], output=[{"label": "inverted"}])
    assert evaluated_cases(SimpleNamespace(state=state)) == [{"task": 3, "label": "inverted"}]


def test_a_failed_write_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "metrics.json"
    write_atomically(path, b"old")

    def full(self: Path, data: bytes) -> int:
        self.touch()
        raise OSError("No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def _one_rank(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    engine = evaluator(LesionMetricsHandler(NAMES, output_dir=Path(folder) / "out"), cases()[rank::2])
    engine.run()
    empty = LesionMetrics(NAMES)
    if rank == 1:
        empty.update(*masks(1, 8, 8), [2])
    measured = {"metrics": dict(engine.state.metrics), "uneven": empty.aggregate()}
    Path(f"{folder}/rank_{rank}.json").write_text(json.dumps(measured))
    dist.destroy_process_group()


@pytest.mark.slow
def test_two_processes_measure_what_one_does(tmp_path: Path) -> None:
    mp.spawn(_one_rank, args=(str(tmp_path),), nprocs=2)
    ranks = [json.loads((tmp_path / f"rank_{rank}.json").read_text()) for rank in range(2)]
    assert ranks[0] == ranks[1]
    engine = evaluator(LesionMetricsHandler(NAMES), cases())
    engine.run()
    assert ranks[0]["metrics"] == pytest.approx(engine.state.metrics)
    alone = LesionMetrics(NAMES)
    alone.update(*masks(1, 8, 8), [2])
    assert ranks[0]["uneven"] == alone.aggregate()  # a rank without cases does not hang the others
    rows = (tmp_path / "out/metrics_per_image.csv").read_text().splitlines()[1:]
    assert sorted(row.split(",")[0] for row in rows) == ["case_0.png", "case_1.png", "case_2.png"]
