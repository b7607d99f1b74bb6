"""Folders of one's own, lists put together, and the split rules behind all lists."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from monai_tpseg.catalogue import TASK_NAMES
from monai_tpseg.cli import main
from monai_tpseg.data import read_datalist
from monai_tpseg.data.layouts import LAYOUTS
from monai_tpseg.data.splits import deal_folds, draw_validation, group_by_keys
from tests.bundle.conftest import SMALL, SOURCE, run
from tests.data.trees import TREES, phantom, save


def own(folder: Path, patients: int = 5) -> list[str]:
    """Pictures and masks in a folder per clinic; return the arguments that name them."""
    for n in range(2 * patients):
        made = phantom("skin_lesion", n)
        save(made.image, folder / "scans" / f"clinic{n % 2}" / f"p{n // 2:02d}_{n}.jpg")
        save(made.label, folder / "masks" / f"clinic{n % 2}" / f"p{n // 2:02d}_{n}_mask.png")
    return ["folders", "--images", str(folder / "scans"), "--masks", str(folder / "masks"), "--task", "skin_lesion"]


def test_folders_of_ones_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "lists" / "own.json"
    arguments = [*own(tmp_path), "--patient-regex", r"(p\d+)_", "--val-share", "0.4", "--out", str(out), "--quiet"]
    assert main(["prepare", *arguments]) == 0
    content = json.loads(out.read_text())
    assert (len(content["training"]), len(content["validation"])) == (6, 4)
    patients = [{entry["patient"] for entry in content[part]} for part in ("training", "validation")]
    assert (len(patients[0]), len(patients[1])) == (3, 2)
    assert patients[0].isdisjoint(patients[1])
    assert "Table 1" not in capsys.readouterr().out
    assert main(["check", "--data", str(out), "--tasks", "skin_lesion", "--workers", "0"]) == 0


def test_pictures_and_masks_in_one_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for n in range(4):
        save(phantom("wet_amd", n).image, tmp_path / "all" / f"{n}.png")
        save(phantom("wet_amd", n).label, tmp_path / "all" / f"{n}_label.png")
    save(phantom("wet_amd", 9).image, tmp_path / "all" / "lone.png")
    arguments = ["folders", "--images", str(tmp_path / "all"), "--masks", str(tmp_path / "all"), "--task", "wet_amd"]
    assert main(["prepare", *arguments, "--out", str(tmp_path / "own.json"), "--quiet"]) == 3
    content = json.loads((tmp_path / "own.json").read_text())
    assert (len(content["training"]), len(content["validation"])) == (3, 1)
    assert "Without partner, left out: 1 (lone.png)." in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "status", "words"),
    [
        (["--images", "nowhere"], 1, "No folder at"),
        (["--masks", "empty"], 1, "No masks in"),
        (["--patient-regex", "(p"], 2, "is not a regular expression"),
        (["--val-share", "1"], 2, "val_share must be above 0 and below 1"),
    ],
)
def test_folders_that_do_not_fit(
    change: list[str],
    status: int,
    words: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    assert main(["prepare", *own(tmp_path, 1), "--out", "own.json", *change]) == status
    assert words in capsys.readouterr().err
    assert not (tmp_path / "own.json").exists()


def test_a_patient_that_the_expression_misses_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [*own(tmp_path), "--patient-regex", "p(0[01])_", "--out", str(tmp_path / "own.json"), "--quiet"]
    assert main(["prepare", *arguments]) == 0
    assert "--patient-regex finds no patient in 6 of 10 paths." in capsys.readouterr().out


def test_merged_lists_of_all_tasks_can_be_trained_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [name for name in TREES if name != "polyp-raw"]
    for name in names:
        source, out = TREES[name](tmp_path / name), tmp_path / "single" / name / "list.json"
        assert main(["prepare", name, "--source", str(source), "--out", str(out), "--workers", "0", "--quiet"]) in (
            0,
            3,
        )
    lists = [str(tmp_path / "single" / name / "list.json") for name in names]
    capsys.readouterr()
    merged = tmp_path / "all" / "datalist.json"
    assert main(["prepare", "merge", *lists, lists[0], "--out", str(merged)]) == 3
    said = capsys.readouterr().out
    assert "brain_tumor: patients with pictures in both lists: 1;" in said
    training = read_datalist(merged, "training", merged.parent, TASK_NAMES)
    assert {case["task"] for case in training} == set(TASK_NAMES)
    assert len(training) == sum(len(json.loads(Path(one).read_text())["training"]) for one in lists)
    monkeypatch.chdir(tmp_path)
    options = {**SMALL, "dataset_dir": str(merged.parent), "output_dir": "run", "max_epochs": 1}
    run(SOURCE, "train", **options)
    assert torch.load(tmp_path / "run" / "last.pt", weights_only=True)["iteration"] == 2


@pytest.mark.parametrize("content", ["{", "[]", '{"training": [3]}', '{"training": [{"image": "a"}]}', "{}"])
def test_what_cannot_be_merged(content: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "bad.json").write_text(content)
    assert main(["prepare", "merge", str(tmp_path / "bad.json"), "--out", str(tmp_path / "out.json")]) == 1
    error = capsys.readouterr().err
    assert error.startswith("Error: ")
    assert error.count("\n") == 1
    assert not (tmp_path / "out.json").exists()


def test_groups_are_joined_through_any_key() -> None:
    assert group_by_keys([["a"], ["b"], ["c", "a"], [], ["b", "c"], []]) == [[0, 1, 2, 4], [3], [5]]


def test_a_draw_does_not_depend_on_the_order_of_the_cases() -> None:
    names = [f"case{n}" for n in range(40)]
    groups = group_by_keys([[f"patient{n // 3}"] for n in range(40)])
    drawn = {names[n] for n in draw_validation(groups, names, 10, seed=3)}
    turned = names[::-1]
    back = group_by_keys([[f"patient{(39 - n) // 3}"] for n in range(40)])
    assert {turned[n] for n in draw_validation(back, turned, 10, seed=3)} == drawn
    assert len(drawn) == 10  # three whole patients and the single picture of the last
    assert {names[n] for n in draw_validation(groups, names, 10, seed=4)} != drawn


def test_folds_cover_everything_once_and_are_even() -> None:
    names = [f"case{n}" for n in range(30)]
    groups = group_by_keys([[f"patient{n // 2}"] for n in range(30)])
    folds = deal_folds(groups, names, 5, seed=0)
    assert sorted(folds) == [fold for fold in range(1, 6) for _ in range(6)]
    assert all(folds[n] == folds[n + 1] for n in range(0, 30, 2))
    for wrong in (1, 16):
        with pytest.raises(ValueError, match="folds must be from 2 to the 15 groups"):
            deal_folds(groups, names, wrong, seed=0)


@pytest.mark.parametrize("name", ["ebhi-seg", "busi", "isic-2018", "covid-19-ct"])
def test_a_draw_from_as_many_pictures_as_the_paper_has_gives_its_sizes(name: str) -> None:
    training, validation = LAYOUTS[name].counts
    total = training + validation
    names = [f"p{n}" for n in range(total)]
    patients = group_by_keys([[f"patient{n // 7}"] for n in range(total)])  # of seven pictures, and one smaller
    alone = group_by_keys([[] for _ in range(total)])
    target = round(validation / total * total)
    assert len(draw_validation(alone, names, target, seed=0)) == validation
    assert validation - 7 < len(draw_validation(patients, names, target, seed=0)) <= validation
