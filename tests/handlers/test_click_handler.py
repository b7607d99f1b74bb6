"""The handler of clicks: numbers per task and their mean, tables, the curve."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from ignite.engine import Engine
from monai.data import MetaTensor

from monai_tpseg.handlers import ClickMetricsHandler
from monai_tpseg.handlers.click_evaluation import summarise


def case(task: int, found: list[int]) -> dict[str, Any]:
    """A lesion of 10 pixels, of which more and more are found."""
    label = torch.zeros(1, 4, 5)
    label[:, :2] = 1
    rounds = torch.stack([(torch.arange(20) < n).float().view(4, 5) for n in found])
    return {"task": torch.tensor(task), "label": label, "rounds": rounds}


def test_numbers_of_an_evaluation(tmp_path: Path) -> None:
    handler = ClickMetricsHandler(("a", "b", "c"), tmp_path)
    cases = [[case(0, [0, 5, 9, 10])], [case(0, [0, 0, 5, 8]), case(2, [10, 10, 10, 10])]]

    def step(engine: Engine, batch: Any) -> Any:
        return batch

    engine = Engine(step)
    handler.attach(engine)
    for _ in range(2):  # a second epoch forgets the first
        engine.run(cases)
    metrics = engine.state.metrics
    assert metrics["noc90/a"] == 2.5
    assert metrics["noc90/c"] == 0
    assert metrics["noc90/mean"] == 1.25
    assert metrics["dice_after_0/c"] == 1
    assert metrics["dice_after_1/a"] == pytest.approx((2 * 5 / 15) / 2)
    assert metrics["dice_after_3/mean"] == pytest.approx(((1 + 16 / 18) / 2 + 1) / 2)
    assert "dice_after_5/a" not in metrics
    assert "noc90/b" not in metrics
    written = json.loads((tmp_path / "clicks.json").read_text())
    assert list(written) == ["a", "c", "mean"]
    assert [written[k]["n"] for k in written] == [2, 1, 3]
    assert len(written["mean"]["curve"]) == 4
    assert (tmp_path / "clicks.png").read_bytes().startswith(b"\x89PNG")
    with (tmp_path / "clicks_per_image.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [(row["case"], row["task"]) for row in rows] == [("0", "a"), ("1", "a"), ("2", "c")]
    assert [float(rows[0][f"iou_{n}"]) for n in range(4)] == pytest.approx([0, 0.5, 0.9, 1])
    assert [float(rows[1][f"dice_{n}"]) for n in range(4)] == pytest.approx([0, 0, 10 / 15, 16 / 18], abs=1e-6)


def test_scores_that_never_suffice_count_all_clicks() -> None:
    scores = torch.full((3, 6), 0.5, dtype=torch.float64)
    summary = summarise([1, 1, 0], scores, scores, ("a", "b"))
    assert summary["mean"]["noc85"] == summary["a"]["noc90"] == 5
    assert summary["b"]["dice_after_5"] == 0.5


def test_output_must_be_decollated() -> None:
    engine = SimpleNamespace(state=SimpleNamespace(batch={}, output={}))
    with pytest.raises(ValueError, match="decollate"):
        ClickMetricsHandler(("a",))._iteration(engine)


def _rank(rank: int, folder: str) -> None:
    """Two cases on the first rank, one on the second, each found as far as its name says."""
    dist.init_process_group("gloo", init_method=f"file://{folder}/sync", rank=rank, world_size=2)
    batches = []
    for found in ((2, 4), (6,))[rank]:
        one = case(rank, [0, found])
        one["label"] = MetaTensor(one["label"], meta={"filename_or_obj": f"found_{found}"})
        batches.append([one])
    engine = Engine(lambda engine, batch: batch)
    ClickMetricsHandler(("a", "b"), Path(folder) / "out").attach(engine)
    engine.run(batches)
    dist.destroy_process_group()


@pytest.mark.slow
def test_names_stay_with_their_scores_on_two_ranks(tmp_path: Path) -> None:
    mp.spawn(_rank, (str(tmp_path),), nprocs=2)
    with (tmp_path / "out" / "clicks_per_image.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [(row["case"], row["task"]) for row in rows] == [("found_2", "a"), ("found_4", "a"), ("found_6", "b")]
    assert [float(row["iou_1"]) for row in rows] == pytest.approx([0.2, 0.4, 0.6])
