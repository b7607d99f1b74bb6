"""Suites as people write them: what runs in which order, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from monai_tpseg.experiments import Suite, SuiteError, read_suite
from monai_tpseg.experiments.datalist import write_datalist

ROOT = Path(__file__).resolve().parents[2]
SUITES = sorted((ROOT / "benchmarks" / "suites").glob("*.yaml"))


def written(folder: Path, **changes: Any) -> Path:
    content = {"name": "s", "options": {"lr": 0.1}, "rows": [{"id": "a"}, {"id": "b", "options": {"lr": 0.2}}]}
    path = folder / "suite.yaml"
    path.write_text(yaml.safe_dump({**content, **changes}))
    return path


def test_rows_inherit_options_and_seeds_come_round_by_round(tmp_path: Path) -> None:
    rows = [{"id": "a", "seeds": [3, 4]}, {"id": "b", "options": {"lr": 0.2}, "seeds": [3]}]
    suite = read_suite(written(tmp_path, rows=rows))
    assert [(run.name, run.options["lr"]) for run in suite.runs()] == [("a-3", 0.1), ("b-3", 0.2), ("a-4", 0.1)]
    assert [run.name for run in suite.runs(["b"])] == ["b-3"]


def test_a_model_per_task_gets_its_share_of_the_budget(tmp_path: Path) -> None:
    rows = [{"id": "A5", "per_task": ["wet_amd", "skin_lesion"], "options": {"epoch_cases": 800}}]
    runs = read_suite(written(tmp_path, rows=rows)).runs()
    assert [run.name for run in runs] == ["A5-wet_amd-0", "A5-skin_lesion-0"]
    assert [run.tasks for run in runs] == [("wet_amd",), ("skin_lesion",)]
    assert {run.options["epoch_cases"] for run in runs} == {100}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rows": []}, "a list 'rows'"),
        ({"rows": [{"title": "x"}]}, r"rows\[0\] must be an object with an id"),
        ({"rows": [{"id": "../x"}]}, "names a folder"),
        ({"rows": [{"id": "a", "option": {}}]}, r"rows\[0\] has an unknown key 'option'; the keys are id, options"),
        ({"rows": [{"id": "a"}, {"id": "a"}]}, "unique ids"),
        ({"rows": [{"id": "a", "per_task": ["lung"]}]}, "unknown task 'lung'"),
        ({"reference": "z"}, "reference 'z' is not a row; choose one of a, b"),
        ({"holdout": 1}, "at least 2 parts"),
        ({"seeds": ["x"]}, "invalid literal"),
    ],
)
def test_what_cannot_be_run_is_refused_in_one_line(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(SuiteError, match=message) as caught:
        read_suite(written(tmp_path, **changes))
    assert "\n" not in str(caught.value)


def test_missing_file_and_unknown_row(tmp_path: Path) -> None:
    with pytest.raises(SuiteError, match="No suite at"):
        read_suite(tmp_path / "none.yaml")
    with pytest.raises(SuiteError, match="no row 'c'; choose one of a, b"):
        read_suite(written(tmp_path)).runs(["c"])


def entries(task: str, count: int) -> list[dict[str, str]]:
    return [{"image": f"{task}/{i}.png", "label": f"{task}/{i}_m.png", "task": task} for i in range(count)]


def test_holdout_cuts_the_end_of_every_tasks_training_list(tmp_path: Path) -> None:
    source, target = tmp_path / "datalist.json", tmp_path / "out.json"
    training = [e for pair in zip(entries("a", 10), entries("b", 10), strict=True) for e in pair]
    source.write_text(json.dumps({"training": training, "validation": entries("a", 3)}))
    write_datalist(source, target, ["a", "b"], 5)
    lists = json.loads(target.read_text())
    assert [e["image"] for e in lists["validation"]] == ["a/8.png", "b/8.png", "a/9.png", "b/9.png"]
    assert len(lists["training"]) == 16
    assert all(e not in lists["training"] for e in lists["validation"])


def test_tasks_of_other_runs_are_left_out_and_missing_ones_named(tmp_path: Path) -> None:
    source, target = tmp_path / "datalist.json", tmp_path / "out.json"
    source.write_text(json.dumps({"training": entries("a", 2) + entries("b", 2), "validation": entries("a", 1)}))
    write_datalist(source, target, ["a"], 0)
    assert {e["task"] for e in json.loads(target.read_text())["training"]} == {"a"}
    with pytest.raises(SuiteError, match="no entry of b in 'validation'"):
        write_datalist(source, target, ["a", "b"], 0)


@pytest.mark.parametrize(
    "path", sorted((ROOT / "benchmarks" / "suites").glob("*.yaml")), ids=lambda path: str(path.stem)
)
def test_suites_of_the_repository_use_keys_of_the_config(path: Path) -> None:
    suite: Suite = read_suite(path)
    config = json.loads((ROOT / "bundles/tpseg_lesion_segmentation/configs/train.json").read_text())
    assert {key for run in suite.runs() for key in run.options} <= set(config)
