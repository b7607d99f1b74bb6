"""What an inference is asked to segment: tasks of one image and one modality are one case."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from monai_tpseg.bundle.inference_inputs import inference_cases, listed_tasks
from monai_tpseg.catalogue import TASK_NAMES


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two pictures, and a list that asks for three tasks of the first, one of them twice."""
    for name in ("a.png", "b.png"):
        (tmp_path / name).touch()
    pairs = [("a.png", "thyroid_nodule"), ("a.png", "breast_lesion"), ("a.png", "breast_lesion"), ("a.png", "wet_amd")]
    entries = [{"image": image, "task": task} for image, task in [*pairs, ("b.png", "breast_lesion")]]
    (tmp_path / "list.json").write_text(json.dumps({"testing": entries}))
    return tmp_path


def short(cases: list[dict[str, object]]) -> list[tuple[str, object]]:
    return [(Path(str(case["image"])).name, case["task"]) for case in cases]


def test_tasks_of_one_modality_are_one_case(folder: Path) -> None:
    both = ["thyroid_nodule", "breast_lesion"]
    assert short(inference_cases(str(folder), None, both)) == [("a.png", both), ("b.png", both)]
    assert short(inference_cases(str(folder / "a.png"), None, (3, "wet_amd", 6))) == [
        ("a.png", 3),
        ("a.png", "wet_amd"),
        ("a.png", 6),
    ]
    assert short(inference_cases(str(folder / "a.png"), None, "wet_amd")) == [("a.png", "wet_amd")]
    beyond = inference_cases(str(folder / "a.png"), None, ["new", "wet_amd"], [*TASK_NAMES, "new"], {"new": "oct"})
    assert short(beyond) == [("a.png", ["new", "wet_amd"])]


def test_a_list_is_joined_likewise(folder: Path) -> None:
    listed = str(folder / "list.json")
    both = ["thyroid_nodule", "breast_lesion"]
    expected = [("a.png", both), ("a.png", "wet_amd"), ("b.png", "breast_lesion")]
    assert short(inference_cases(str(folder), listed, None)) == expected
    assert short(inference_cases(str(folder), listed, ["wet_amd"])) == [("a.png", "wet_amd"), ("b.png", "wet_amd")]


def test_nothing_named_is_nothing_to_do(folder: Path) -> None:
    assert inference_cases("", None, None) == []
    assert short(inference_cases(str(folder / "a.png"), None, None)) == [("a.png", None)]
    assert [listed_tasks(task) for task in (None, "", 0, "wet_amd", ("a", 1))] == [[], [], [0], ["wet_amd"], ["a", 1]]
