"""Each published layout becomes a datalist that can be trained on, divided as the documentation says."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from PIL import Image

from monai_tpseg.catalogue import TASK_NAMES
from monai_tpseg.cli import main
from monai_tpseg.cli.data import _DATASETS
from monai_tpseg.data import read_datalist
from monai_tpseg.data.check import check_datalist
from monai_tpseg.data.layouts import LAYOUTS
from monai_tpseg.transforms import LoadMedicalImage
from tests.data.trees import TREES, amd_sd, btd, busi, phantom, save

EXPECTED = {  # training, validation, testing of the small trees
    "amd-sd": (12, 3, 0),
    "btd": (7, 3, 0),
    "ebhi-seg": (16, 4, 0),
    "tnui-2021": (7, 2, 1),
    "polyp": (9, 15, 0),
    "polyp-raw": (18, 6, 0),
    "covid-19-ct": (9, 3, 0),
    "busi": (6, 2, 0),
    "isic-2018": (7, 3, 3),
}


def prepared(arguments: list[str], out: Path, status: int = 0) -> dict[str, Any]:
    """Run `tpseg prepare`; return what it wrote."""
    assert main(["prepare", *arguments, "--out", str(out), "--workers", "0", "--quiet"]) == status
    content: dict[str, Any] = json.loads(out.read_text())
    return content


def sizes(content: dict[str, Any]) -> tuple[int, int, int]:
    return len(content["training"]), len(content["validation"]), len(content.get("testing", []))


def files(content: dict[str, Any], section: str, key: str = "image") -> list[str]:
    return [Path(entry[key]).name for entry in content[section]]


def test_the_command_knows_every_layout() -> None:
    assert {name: title.split(", ")[-1] for name, title in _DATASETS.items()} == {
        name: layout.task for name, layout in LAYOUTS.items()
    }
    assert {layout.task for layout in LAYOUTS.values()} == set(TASK_NAMES)


def test_sizes_of_the_papers_table() -> None:
    table = {name: layout.counts for name, layout in LAYOUTS.items()}
    assert table == {
        "amd-sd": (2346, 703),
        "btd": (2298, 766),
        "ebhi-seg": (636, 159),
        "tnui-2021": (966, 276),
        "polyp": (1450, 798),
        "polyp-raw": (1450, 798),
        "covid-19-ct": (894, 385),
        "busi": (486, 161),
        "isic-2018": (1886, 808),
    }


@pytest.mark.parametrize("name", sorted(TREES))
def test_a_tree_becomes_a_list_that_passes_the_check(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, out = TREES[name](tmp_path / "download"), tmp_path / "lists" / f"{name}.json"
    before = {path: path.read_bytes() for path in source.rglob("*") if path.is_file()}
    leaks = name == "btd"  # its published archives part a patient
    content = prepared([name, "--source", str(source)], out, 3 if leaks else 0)
    assert sizes(content) == EXPECTED[name]
    training, validation = LAYOUTS[name].counts
    summary = capsys.readouterr().out
    assert f"| the paper's Table 1 | {training} | {validation} |" in summary
    assert f"| in the list | {EXPECTED[name][0]} | {EXPECTED[name][1]} |" in summary
    for section in ("training", "validation"):
        cases = read_datalist(out, section, out.parent, TASK_NAMES)
        assert {case["task"] for case in cases} == {LAYOUTS[name].task}
    report = check_datalist(out, tasks=[LAYOUTS[name].task], workers=0)
    codes = {finding.code for finding in report.findings if finding.level != "note"}
    assert codes == ({"D_LEAK_PATIENT"} if leaks else set())
    assert {path: path.read_bytes() for path in source.rglob("*") if path.is_file()} == before
    again = prepared([name, "--source", str(source)], tmp_path / "lists" / "again.json", 3 if leaks else 0)
    assert {**again, "name": ""} == {**content, "name": ""}


def test_amd_sd_is_cut_into_scan_and_lesions(tmp_path: Path) -> None:
    content = prepared(["amd-sd", "--source", str(amd_sd(tmp_path / "download"))], tmp_path / "list.json")
    by_name = {Path(entry["image"]).name: entry for part in ("training", "validation") for entry in content[part]}
    entry = by_name["2_1.png"]
    assert entry["patient"] == "amd-sd/2"
    made = phantom("wet_amd", 21)
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / entry["label"])), made.label * np.uint8(255))
    scan = LoadMedicalImage()(tmp_path / entry["image"]).numpy()
    np.testing.assert_array_equal(
        scan, np.broadcast_to(made.image.reshape(1, *made.image.shape[:2], -1)[..., 0], scan.shape)
    )
    assert not np.asarray(Image.open(tmp_path / by_name["1_0.png"]["label"])).any()
    assert sorted({name.split("_")[0] for name in files(content, "validation")}) == ["5"]


def test_amd_sd_without_its_lists_keeps_patients_together(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = amd_sd(tmp_path / "download", published=False)
    content = prepared(["amd-sd", "--source", str(source)], tmp_path / "list.json")
    assert sizes(content) == (12, 3, 0)
    assert len({entry["patient"] for entry in content["validation"]}) == 1
    said = capsys.readouterr().out
    assert "drawn by us with seed 0, patients and equal pictures together: 15 pictures" in said
    assert "the split is drawn by seed" in said


def test_btd_values_orientation_and_archives(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = prepared(["btd", "--source", str(btd(tmp_path / "download"))], tmp_path / "list.json", 3)
    assert sorted(files(content, "validation")) == ["2299.png", "2300.png", "3064.png"]
    assert "In training and validation, the same patients: 1 (100360)." in capsys.readouterr().out
    entry = next(e for e in content["training"] if Path(e["image"]).name == "2298.png")
    made = phantom("brain_tumor", 2298)
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / entry["label"])), made.label * np.uint8(255))
    assert entry["patient"] == "btd/100360"
    stored = Image.open(tmp_path / entry["image"])
    assert stored.mode == "I;16"
    grey = (made.image if made.image.ndim == 2 else made.image[..., 0]).astype(float)
    low, high = np.percentile(grey, (0.5, 99.5))
    expected = np.clip((grey - low) / (high - low), 0, 1) * 65535
    np.testing.assert_allclose(np.asarray(stored), expected, atol=2)


def test_btd_folds_are_the_published_ones(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = btd(tmp_path / "download")
    out = tmp_path / "list.json"
    assert main(["prepare", "btd", "--source", str(source), "--out", str(out), "--folds", "5", "--quiet"]) == 0
    assert "fold 5 of 5 as published" in capsys.readouterr().out
    folds = [json.loads((tmp_path / f"list_fold{n}.json").read_text()) for n in range(1, 6)]
    assert not out.exists()
    assert sorted(files(folds[4], "validation")) == ["2298.png", "2299.png"]
    assert sorted(files(folds[0], "validation")) == ["1.png", "2.png", "3.png"]
    everything = [name for fold in folds for name in files(fold, "validation")]
    assert len(everything) == len(set(everything)) == 10
    alone = prepared(["btd", "--source", str(source), "--folds", "5", "--fold", "2"], tmp_path / "two.json")
    assert {**alone, "name": ""} == {**folds[1], "name": ""}


def test_btd_as_pictures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in (1, 2298, 2299):
        made = phantom("brain_tumor", number)
        save(made.image, tmp_path / "download" / "images" / f"{number}.png")
        save(made.label, tmp_path / "download" / "masks" / f"{number}.png")
    content = prepared(["btd", "--source", str(tmp_path / "download")], tmp_path / "list.json")
    assert sizes(content) == (2, 1, 0)
    assert "the published folds are not known" in capsys.readouterr().out


def test_btd_without_h5py_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("monai_tpseg.data.layouts.btd.optional_import", lambda name: (None, False))
    source = btd(tmp_path / "download")
    assert main(["prepare", "btd", "--source", str(source), "--out", str(tmp_path / "list.json"), "--quiet"]) == 1
    assert "pip install -e '.[data]'" in capsys.readouterr().err


def test_folds_of_ours_keep_patients_and_equal_pictures_together(tmp_path: Path) -> None:
    source = TREES["ebhi-seg"](tmp_path / "download") / "EBHI-SEG" / "Adenocarcinoma"
    for kind in ("image", "label"):  # the same picture under the number of another case
        shutil.copy(source / kind / "GT2000000-1-400-001.png", source / kind / "GT2000001-1-400-009.png")
    arguments = ["prepare", "ebhi-seg", "--source", str(source), "--out", str(tmp_path / "list.json"), "--folds", "4"]
    assert main([*arguments, "--quiet"]) == 0
    parts = [files(json.loads((tmp_path / f"list_fold{n}.json").read_text()), "validation") for n in range(1, 5)]
    assert sorted(len(part) for part in parts) == [4, 4, 4, 9]
    cases = [{name.replace("xc", "").split("-")[0] for name in part} for part in parts]
    assert Counter(case for part in cases for case in part) == Counter(f"GT200000{n}" for n in range(5))
    assert {"GT2000000", "GT2000001"} in cases


def test_official_lists_where_the_paper_draws(tmp_path: Path) -> None:
    source = TREES["isic-2018"](tmp_path / "download")
    content = prepared(["isic-2018", "--source", str(source), "--split", "official"], tmp_path / "list.json")
    assert sizes(content) == (8, 2, 3)
    other = prepared(["isic-2018", "--source", str(source), "--seed", "1"], tmp_path / "one.json")
    first = prepared(["isic-2018", "--source", str(source), "--seed", "0"], tmp_path / "zero.json")
    assert files(other, "validation") != files(first, "validation")
    assert files(other, "testing") == files(first, "testing") == files(content, "testing")


def test_drawn_lists_where_the_paper_takes_the_official(tmp_path: Path) -> None:
    source = TREES["tnui-2021"](tmp_path / "download")
    content = prepared(["tnui-2021", "--source", str(source), "--split", "seeded"], tmp_path / "list.json")
    assert sizes(content) == (7, 2, 1)
    published = prepared(["tnui-2021", "--source", str(source)], tmp_path / "published.json")
    assert content["testing"] == published["testing"]
    assert content["validation"] != published["validation"]


def test_masks_of_one_picture_are_merged(tmp_path: Path) -> None:
    content = prepared(["busi", "--source", str(busi(tmp_path / "download"))], tmp_path / "list.json")
    entries = {Path(e["image"]).name: e for part in ("training", "validation") for e in content[part]}
    union = phantom("breast_lesion", 3).label.copy()
    union[:3, :3] = True
    merged = np.asarray(Image.open(tmp_path / entries["benign (4).png"]["label"]))
    np.testing.assert_array_equal(merged, union * np.uint8(255))
    assert entries["benign (3).png"]["label"].endswith("download/Dataset_BUSI_with_GT/benign/benign (3)_mask.png")


def test_pictures_without_lesion_are_kept_when_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = busi(tmp_path / "download")
    prepared(["busi", "--source", str(source)], tmp_path / "list.json")
    assert "Left out [empty]: 2 (normal/normal (1), normal/normal (2))." in capsys.readouterr().out
    content = prepared(["busi", "--source", str(source), "--with-empty"], tmp_path / "list.json")
    assert sum(sizes(content)) == 10


def test_slices_of_a_ct_look_as_the_lung_window_shows_them(tmp_path: Path) -> None:
    source = TREES["covid-19-ct"](tmp_path / "download")
    content = prepared(["covid-19-ct", "--source", str(source)], tmp_path / "list.json")
    entries = {entry["image"]: entry for part in ("training", "validation") for entry in content[part]}
    path = "covid-19-ct_prepared/images/rp_im/2/001.png"
    made = phantom("lung_infection", 21)
    grey = made.image if made.image.ndim == 2 else made.image[..., 0]
    expected = np.clip(grey * 6.0 / 1500, 0, 1) * 65535  # -1350 to 150 HU
    np.testing.assert_allclose(np.asarray(Image.open(tmp_path / path)), expected, atol=1)
    label = np.asarray(Image.open(tmp_path / entries[path]["label"]))
    np.testing.assert_array_equal(label, made.label * np.uint8(255))
    assert entries[path]["patient"] == "covid-19-ct/rp_im/2"
    assert "patient" not in entries["covid-19-ct_prepared/images/medseg/000.png"]
    together = [{e.get("patient") for e in content[part]} - {None} for part in ("training", "validation")]
    assert together[0].isdisjoint(together[1])


def test_what_is_damaged_or_lone_is_left_out_and_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = TREES["tnui-2021"](tmp_path / "download")
    train = source / "thyroid_data" / "train"
    (train / "images" / "000.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (train / "masks" / "001.png").unlink()
    (train / "images" / "002.png").unlink()
    save(np.zeros((32, 33), bool), train / "masks" / "003.png")
    save(np.full((32, 32), 9, np.uint8), train / "masks" / "004.png")
    content = prepared(["tnui-2021", "--source", str(source)], tmp_path / "list.json", 3)
    assert sizes(content) == (2, 2, 1)
    said = capsys.readouterr().out
    for words in (
        "Without partner, left out: 2 (train/001.png, train/002.png).",
        "[E_SHAPE_MISMATCH]: 1 (train/003)",
        "[E_LABEL_VALUES]: 1 (train/004)",
        "1 (train/000)",
    ):
        assert words in said


def test_damaged_slices_do_not_end_the_rest(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = btd(tmp_path / "download")
    (source / "brainTumorDataPublic_1-766" / "2.mat").write_bytes(b"MATLAB 7.3")
    with h5py.File(source / "brainTumorDataPublic_1-766" / "3.mat", "w") as file:
        file["other"] = 1
    content = prepared(["btd", "--source", str(source)], tmp_path / "list.json", 3)
    assert sizes(content) == (5, 3, 0)
    assert "Left out [E_DECODE]: 2 (2.mat, 3.mat)." in capsys.readouterr().out


def test_duplicates_across_published_lists(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = TREES["tnui-2021"](tmp_path / "download")
    part = source / "thyroid_data"
    for kind in ("images", "masks"):
        shutil.copy(part / "val" / kind / "001.png", part / "train" / kind / "777.png")
    prepared(["tnui-2021", "--source", str(source)], tmp_path / "list.json", 3)
    assert "In training and validation, the same pixels: 1 (val/001)" in capsys.readouterr().out
    content = prepared(["tnui-2021", "--source", str(source), "--drop-duplicates"], tmp_path / "list.json", 3)
    assert sizes(content) == (7, 2, 1)
    assert "777.png" not in files(content, "training")


@pytest.mark.parametrize("name", sorted(TREES))
def test_another_tree_is_refused_with_one_line(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "download" / "pictures").mkdir(parents=True)
    for source, words in ((tmp_path / "download", "No "), (tmp_path / "nowhere", "No folder at")):
        assert main(["prepare", name, "--source", str(source), "--out", str(tmp_path / "out" / "list.json")]) == 1
        error = capsys.readouterr().err
        assert error.startswith(f"Error: {words}")
        assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["--folds", "9"], 1, "folds must be from 2 to the 8 groups"),
        (["--folds", "1"], 2, "folds 2 or more"),
        (["--folds", "3", "--fold", "4"], 2, "fold must be from 1 to folds"),
        (["--fold", "1"], 2, "fold must be from 1 to folds"),
        (["--workers", "-1"], 2, "workers must be 0 or more"),
        (["--split", "official"], 1, "has no published split"),
    ],
)
def test_options_that_do_not_fit(
    arguments: list[str], status: int, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = busi(tmp_path / "download")
    command = ["prepare", "busi", "--source", str(source), "--out", str(tmp_path / "list.json"), "--workers", "0"]
    assert main([*command, *arguments]) == status
    assert words in capsys.readouterr().err
    assert not (tmp_path / "list.json").exists()


def test_lists_that_are_fixed_have_no_folds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = TREES["polyp"](tmp_path / "download")
    out = tmp_path / "list.json"
    assert main(["prepare", "polyp", "--source", str(source), "--out", str(out), "--folds", "3", "--quiet"]) == 1
    assert "cannot be divided into folds" in capsys.readouterr().err
