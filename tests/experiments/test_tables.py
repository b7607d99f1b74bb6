"""Statistics against plain loops and the metrics of the package; tables and figures as they are read."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from monai_tpseg.cli import main
from monai_tpseg.evaluation import CaseDetails
from monai_tpseg.evaluation.details import summarise_details
from monai_tpseg.experiments import SuiteError
from monai_tpseg.experiments.results import merge
from monai_tpseg.experiments.statistics import Scores, compare, interval, row_scores
from monai_tpseg.experiments.tables import make_table
from monai_tpseg.metrics import LesionMetrics
from tests.experiments.synthetic import IMAGES, TASKS, results_of, run_of
from tests.full_disc import largest_file


def mask_pair(tp: int, fp: int, fn: int, tn: int) -> tuple[torch.Tensor, torch.Tensor]:
    pred = torch.tensor([1] * (tp + fp) + [0] * (fn + tn))
    label = torch.tensor([1] * tp + [0] * fp + [1] * fn + [0] * tn)
    return pred.view(1, -1, 1), label.view(1, -1, 1)


def test_scores_equal_the_metrics_of_an_evaluation() -> None:
    run = run_of("A4", 0, 0.5)
    run["images"]["counts"][0] = [0, 0, 0, 50]  # nothing there, nothing found
    scores = row_scores({**results_of(), "runs": [run]}, "A4")
    assert scores is not None
    metrics = LesionMetrics(TASKS)
    pairs = [mask_pair(*counts) for counts in run["images"]["counts"]]
    metrics.update([p for p, _ in pairs], [q for _, q in pairs], run["images"]["task"])
    expected = metrics.aggregate()
    for measure in ("dice", "iou_foreground", "iou_mean", "iou_dataset"):
        for task, values in scores.by_task(measure).items():
            assert values == pytest.approx([expected[task][measure]])
        assert scores.mean(measure) == pytest.approx([expected["mean"][measure]])


def test_runs_of_one_task_each_are_joined_and_incomplete_seeds_left_out() -> None:
    results = results_of(run_of("A5", 1, 0.7, ("wet_amd",)))
    scores = row_scores(results, "A5")
    assert scores is not None
    assert scores.seeds == (0,)  # of seed 1 only one task is done
    assert scores.counts.shape == (1, IMAGES["skin_lesion"] + IMAGES["wet_amd"], 4)
    assert row_scores(results, "B4") is None


def scores_of(dice: dict[str, list[float]]) -> Scores:
    """Scores with the given Dice: 2 tp / (tp + 100) with as many predicted as labelled pixels."""
    tasks = [task for task, values in dice.items() for _ in values]
    tp = [round(1000 * value) for values in dice.values() for value in values]
    counts = np.array([[[t, 1000 - t, 1000 - t, 500] for t in tp]])
    return Scores((0,), tuple(tasks), tuple(str(i) for i in range(len(tasks))), counts)


def test_difference_is_a_mean_over_tasks_whatever_their_sizes() -> None:
    first = scores_of({"a": [0.8] * 20, "b": [0.2, 0.4]})
    second = scores_of({"a": [0.6] * 20, "b": [0.2, 0.4]})
    comparison = compare(first, second)
    assert comparison.difference == pytest.approx(0.1)
    assert (comparison.low, comparison.high) == pytest.approx((0.1, 0.1))  # the same on every image
    assert comparison.p_value is not None
    assert comparison.p_value < 1e-3
    assert compare(first, first).p_value is None


def test_interval_is_that_of_a_plain_bootstrap() -> None:
    generator = np.random.default_rng(1)
    values = {
        "a": generator.uniform(0.2, 0.9, 30).round(3).tolist(),
        "b": generator.uniform(0.5, 0.7, 12).round(3).tolist(),
    }
    draws = []
    for _ in range(4000):
        means = [generator.choice(own, len(own)).mean() for own in values.values()]
        draws.append(np.mean(means))
    assert interval(scores_of(values), 4000) == pytest.approx(np.quantile(draws, [0.025, 0.975]), abs=0.01)


def test_noise_alone_is_not_called_a_difference() -> None:
    generator = np.random.default_rng(2)
    first, second = (scores_of({"a": generator.uniform(0.3, 0.7, 50).tolist()}) for _ in range(2))
    comparison = compare(first, second)
    assert comparison.low < 0 < comparison.high
    assert comparison.p_value is not None
    assert comparison.p_value > 0.05


def test_table_2_shows_tasks_spread_and_what_is_missing() -> None:
    table = make_table(results_of(), 2)
    cells = {row[0]: dict(zip(table.header, row, strict=True)) for row in table.rows}
    assert list(cells) == ["TP-Seg (A4)", "UNet", "per task (A5)"]
    assert " ± " in cells["TP-Seg (A4)"]["mean Dice"]
    assert "±" not in cells["UNet"]["mean Dice"]
    assert cells["UNet"]["seeds"] == "1 of 2"
    assert cells["per task (A5)"]["brain_tumor"] == cells["per task (A5)"]["mean Dice"] == ""
    text = table.markdown()
    assert "Not run yet: no shared route (B4)." in text
    assert {line.count("|") for line in text.splitlines() if line.startswith("|")} == {len(table.header) + 1}
    rows = list(csv.reader(io.StringIO(table.csv())))
    assert [len(row) for row in rows] == [len(table.header)] * 5


def test_table_3_compares_on_the_images_that_both_have() -> None:
    results = results_of()
    table = make_table(results, 3, "iou_dataset")
    cells = {row[0]: dict(zip(table.header, row, strict=True)) for row in table.rows}
    own = cells["per task (A5)"]
    assert own["tasks"] == "2"
    assert own["images"] == str(IMAGES["skin_lesion"] + IMAGES["wet_amd"])
    assert own["paper's Dice"] == "86.41"
    assert float(own["minus A4"]) < 0
    assert cells["TP-Seg (A4)"]["minus A4"] == ""


def test_table_5_counts_models_and_minutes_of_one_seed() -> None:
    cells = {row[0]: row[1:] for row in make_table(results_of(), 5).rows}
    assert cells["TP-Seg (A4)"][:5] == ("1", "1.50 M", "6", "1.0", "2.0")
    assert cells["per task (A5)"][:5] == ("2", "3.00 M", "12", "2.0", "4.0")


@pytest.mark.parametrize(
    ("number", "iou", "message"),
    [(1, "iou_mean", "choose one of 2, 3"), (2, "iou", "iou_mean"), (4, "iou_mean", "No row")],
)
def test_what_is_not_there_is_said(number: int, iou: str, message: str) -> None:
    with pytest.raises(SuiteError, match=message):
        make_table(results_of(), number, iou)


def test_later_files_replace_runs_and_other_suites_are_refused() -> None:
    before, after = results_of(), results_of()
    after["runs"] = [run_of("UNet", 0, 0.9)]
    joined = merge([before, after])
    assert [run["name"] for run in joined["runs"]] == [run["name"] for run in before["runs"]]
    assert joined["runs"][2] == after["runs"][0]
    with pytest.raises(SuiteError, match="made, other"):
        merge([before, {**after, "suite": "other"}])


def written(folder: Path, results: dict[str, Any]) -> str:
    path = folder / "results.json"
    path.write_text(json.dumps(results))
    return str(path)


def test_command_writes_tables_and_figures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["table", written(tmp_path, results_of()), "--out", str(tmp_path / "out")]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("## Table 2")
    files = {path.name for path in (tmp_path / "out").iterdir()}
    assert files == {
        *(f"table{n}.{kind}" for n in (2, 3, 5) for kind in ("md", "csv")),
        *(f"{name}.png" for name in ("curves", "similarity", "separation", "gates")),
    }
    for path in (tmp_path / "out").glob("*.png"):
        assert Image.open(path).convert("L").getextrema()[0] < 128, path  # something is drawn


def with_details(hd95: float | None, f1: float) -> dict[str, Any]:
    """The summary of a task as an evaluation leaves it."""
    pair = torch.zeros(1, 8, 8), torch.zeros(1, 8, 8)
    empty = {"dice": 1.0, **CaseDetails().measure(*pair, "wet_amd")}
    return {"dice": 0.5, "n": 7, **summarise_details([empty]), "hd95_px": hd95, "f1_0.5": f1}


def test_table_of_boundary_and_lesions_has_a_line_for_every_task(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = results_of()
    for run, hd95 in zip(results["runs"][:2], (4.0, 6.0), strict=True):  # two seeds of A4
        run["metrics"] = {task: with_details(hd95, 0.5) for task in (*TASKS, "mean")}
    results["runs"][3]["metrics"] = {"skin_lesion": with_details(None, 0.25), "mean": with_details(None, 0.25)}
    table = make_table(results, 6)
    assert [row[:2] for row in table.rows[:4]] == [("TP-Seg (A4)", name) for name in (*TASKS, "mean")]
    assert [row[:2] for row in table.rows[4:]] == [("per task (A5)", "skin_lesion")]
    line = dict(zip(table.header, table.rows[0], strict=True))
    assert (line["images"], line["both empty"], line["HD95"], line["F1 0.5"]) == (
        "7",
        "1",
        "5.0 ± 1.4 px",
        "50.0 ± 0.0",
    )
    assert dict(zip(table.header, table.rows[4], strict=True))["HD95"] == ""
    assert "Not run yet: UNet, no shared route (B4)." in table.markdown()
    assert main(["table", written(tmp_path, results)]) == 0
    assert "## Table 6" in capsys.readouterr().out


def test_results_of_older_versions_have_no_table_of_boundaries() -> None:
    with pytest.raises(SuiteError, match="has boundary and lesion metrics; run it again"):
        make_table(results_of(), 6)


def test_command_says_in_one_line_what_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["table", str(tmp_path / "none.json")]) == 1
    assert capsys.readouterr().err.startswith("Error: No results at")
    assert main(["table", written(tmp_path, {**results_of(), "runs": []}), "--out", str(tmp_path)]) == 1
    assert "no run yet" in capsys.readouterr().err


def test_a_full_disc_is_one_line_and_no_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results = written(tmp_path, results_of())
    with largest_file(2**16):
        assert main(["table", results, "--out", str(tmp_path / "out")]) == 1
    said = capsys.readouterr()
    assert said.err.startswith(f"Error: '{tmp_path / 'out'}' cannot be written (File too large)")
    assert said.out == ""
    assert not (tmp_path / "out").exists()
