"""Clicks and exemplars from files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from monai.data import MetaTensor

from monai_tpseg.data import AddExemplarsd, ClicksToTensord, DatalistError, read_clicks, read_exemplars
from monai_tpseg.data.prompts import clicks_of
from monai_tpseg.io import meta_keys


def write(path: Path, content: Any) -> Path:
    path.write_text(json.dumps(content))
    return path


def test_clicks_by_name_and_for_the_only_picture(tmp_path: Path) -> None:
    named = read_clicks(write(tmp_path / "a.json", {"x.png": [[1, 2, 1]], "y.png": [[3, 4.5, -1]]}))
    assert clicks_of(named, "folder/y.png") == [[3, 4.5, -1]]
    with pytest.raises(DatalistError, match=r"no clicks for 'z.png', only for x.png, y.png"):
        clicks_of(named, "z.png")
    assert clicks_of(read_clicks(write(tmp_path / "b.json", [[1, 2, 1]])), "any.png") == [[1, 2, 1]]


@pytest.mark.parametrize(
    "content",
    [
        {},
        [],
        "no",
        {"a": []},
        [[1, 2]],
        [[1, 2, 0]],
        [[1, 2, 2]],
        [[-1, 2, 1]],
        [["1", 2, 1]],
        [[True, 2, 1]],
        [1, 2, 1],
    ],
)
def test_clicks_of_another_form_are_refused_in_one_line(tmp_path: Path, content: Any) -> None:
    with pytest.raises(DatalistError, match=r"a\.json") as error:
        read_clicks(write(tmp_path / "a.json", content))
    assert "\n" not in str(error.value)


def test_files_that_are_not_there_or_no_json(tmp_path: Path) -> None:
    with pytest.raises(DatalistError, match="correct --clicks"):
        read_clicks(tmp_path / "none.json")
    (tmp_path / "a.json").write_text("{")
    with pytest.raises(DatalistError, match="is not JSON"):
        read_exemplars(tmp_path / "a.json", "skin_lesion")


def case(size: tuple[int, ...], clicks: Any, **meta: Any) -> dict[str, Any]:
    return {"image": MetaTensor(torch.zeros(3, *size), meta={meta_keys.FILENAME: "scan.png", **meta}), "clicks": clicks}


def test_clicks_are_moved_into_the_region_of_the_image() -> None:
    assert ClicksToTensord()(case((8, 9), [[7, 8, 1]]))["clicks"].tolist() == [[7, 8, 1]]
    inside = ClicksToTensord()(case((8, 9), [[12, 25, -1]], **{meta_keys.REGION: (10, 20, 18, 29)}))
    assert inside["clicks"].tolist() == [[2, 5, -1]]
    with pytest.raises(DatalistError, match=r"row 9, column 25 lies outside 'scan.png' \(8 x 9 pixels from row 10"):
        ClicksToTensord()(case((8, 9), [[12, 25, 1], [9, 25, -1]], **{meta_keys.REGION: (10, 20, 18, 29)}))
    with pytest.raises(DatalistError, match=r"'scan\.png' is a volume"):
        ClicksToTensord()(case((8, 9, 3), [[1, 1, 1]]))
    assert "clicks" not in ClicksToTensord()({"image": torch.zeros(3, 8, 9)})


def test_exemplars_are_read_once_and_added_to_every_case(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        (tmp_path / name).touch()
    listed = [{"image": "a.png", "label": "b.png"}, {"image": "b.png", "label": "a.png"}]
    cases = read_exemplars(write(tmp_path / "list.json", listed), "skin_lesion")
    assert [c["task"] for c in cases] == ["skin_lesion"] * 2
    read: list[str] = []

    def transform(entry: dict[str, Any]) -> dict[str, Any]:
        read.append(Path(entry["image"]).name)
        return {"image": torch.full((3, 4, 4), float(len(read))), "label": torch.ones(1, 4, 4)}

    add = AddExemplarsd(cases, transform)
    for _ in range(2):
        given = add({"image": torch.zeros(3, 9, 9)})
        assert given["exemplar_image"].shape == (2, 3, 4, 4)
        assert given["exemplar_label"].shape == (2, 1, 4, 4)
    assert read == ["a.png", "b.png"]
    assert list(AddExemplarsd([], transform)({"image": 1})) == ["image"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"image": "a"}, "must be a list of exemplars"),
        ([{"image": "none.png", "label": "b"}], r"\[0\]: no image at"),
        ([{"label": "b"}], r"\[0\] has no 'image'"),
        (["a.png"], r"\[0\] has no 'image'"),
    ],
)
def test_bad_exemplars(tmp_path: Path, content: Any, words: str) -> None:
    with pytest.raises(DatalistError, match=words):
        read_exemplars(write(tmp_path / "a.json", content), "skin_lesion")
