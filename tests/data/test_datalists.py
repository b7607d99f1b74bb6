"""Datalists: paths made absolute, and one line for whatever is wrong."""

from __future__ import annotations

import json
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from monai_tpseg.data import DatalistError, datalists, read_datalist, task_rows

TASKS = ("wet_amd", "skin_lesion")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a.png", "a_label.png"):
        (tmp_path / name).write_bytes(b"x")
    return tmp_path


def write(folder: Path, content: Any) -> Path:
    (folder / "datalist.json").write_text(json.dumps(content))
    return folder / "datalist.json"


def entry(**changes: Any) -> dict[str, Any]:
    values = {"image": "a.png", "label": "a_label.png", "task": "skin_lesion", **changes}
    return {k: v for k, v in values.items() if v is not None}


def test_paths_become_absolute(folder: Path) -> None:
    path = write(folder, {"training": [entry(), entry(task=0)]})
    cases = read_datalist(path, "training", folder, TASKS)
    image = str(folder / "a.png")
    label = str(folder / "a_label.png")
    assert cases[0] == {"image": image, "label": label, "task": "skin_lesion", "source": image}
    assert task_rows(cases, TASKS) == [1, 0]


def test_nothing_named_is_nothing() -> None:
    assert read_datalist("", "training", "", TASKS) == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"testing": []}, "has no list 'training'; it has testing"),
        ({"training": []}, "empty list 'training'"),
        ([1], "must hold an object"),
        ({"training": ["a.png"]}, r"training\[0\] must be an object"),
        ({"training": [entry(label=None)]}, r"training\[0\] has no 'label'"),
        ({"training": [entry(), entry(label="b.png")]}, r"training\[1\]: no label at '.*b\.png'"),
        ({"training": [entry(image="none.png")]}, "no image at"),
        ({"training": [entry(task=None)]}, "has no 'task'; choose one of wet_amd, skin_lesion"),
        ({"training": [entry(task="lung")]}, "Unknown task 'lung'"),
    ],
)
def test_what_is_wrong_is_one_line(folder: Path, content: Any, message: str) -> None:
    with pytest.raises(DatalistError, match=message) as error:
        read_datalist(write(folder, content), "training", folder, TASKS)
    assert "\n" not in str(error.value)


def test_missing_and_damaged_files(folder: Path) -> None:
    with pytest.raises(DatalistError, match="No datalist at"):
        read_datalist(folder / "none.json", "training", folder, TASKS)
    (folder / "bad.json").write_text("{")
    with pytest.raises(DatalistError, match="is not JSON"):
        read_datalist(folder / "bad.json", "training", folder, TASKS)


def test_labels_are_not_needed_for_inference(folder: Path) -> None:
    path = write(folder, {"validation": [entry(label=None)]})
    assert read_datalist(path, "validation", folder, TASKS, label=False)[0]["task"] == "skin_lesion"


def test_a_disc_that_does_not_answer(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, gone, exists = write(folder, {"training": [entry()]}), Event(), Path.exists
    monkeypatch.setattr(datalists, "_PATIENCE", 0.1)
    monkeypatch.setattr(Path, "exists", lambda file: gone.wait() and exists(file))
    try:
        with pytest.raises(DatalistError, match=r"training\[0\]: '.*' does not answer; check its disk"):
            read_datalist(path, "training", folder, TASKS)
    finally:
        gone.set()
