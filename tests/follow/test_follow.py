"""Run folders with known masks: what the tables and the page say."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from monai_tpseg.cli import main

from ..full_disc import largest_file
from .scans import FRAME, PATIENT, add_case, add_nifti, add_series, boxes, grid, head, rigid, table

VOXEL = 3.0 * 3.0 * 4.0  # mm3


@pytest.fixture(scope="module")
def two_runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One patient in two NIfTI scans; the patient lies 9 mm further to the right in the second."""
    folder = tmp_path_factory.mktemp("two")
    movement = rigid(0.0, (9.0, 0.0, 0.0))
    first, second = head(grid()), head(np.linalg.inv(movement) @ grid())
    before = boxes((18, 20, 14, 4, 4, 4), (26, 34, 20, 3, 3, 2))
    after = boxes((21, 20, 14, 5, 4, 4), (24, 10, 10, 3, 3, 3))  # three voxels on, and one voxel wider; another one
    add_nifti(folder / "a", folder / "scans_a", "scan.nii.gz", first, before, grid())
    add_nifti(folder / "b", folder / "scans_b", "scan.nii.gz", second, after, grid(), case="c2_brain_tumor")
    return folder


@pytest.fixture(scope="module")
def compared(two_runs: Path) -> Path:
    """What following them gives."""
    out = two_runs / "change"
    assert main(["follow", str(two_runs / "a"), str(two_runs / "b"), "--out", str(out)]) == 0
    return out


def test_sizes_and_changes_are_those_of_the_boxes(compared: Path) -> None:
    rows = table(compared / "changes.csv")
    assert [row["change"] for row in rows] == ["all", "matched", "gone", "new"]
    whole, same, gone, new = rows
    assert (float(same["size_a"]), float(same["size_b"])) == (64 * VOXEL, 80 * VOXEL)
    assert float(same["size_percent"]) == 25.0
    corner = [np.linalg.norm([x, 12.0, 16.0]) for x in (12.0, 15.0)]
    assert [float(same["diameter_a"]), float(same["diameter_b"])] == pytest.approx(corner, abs=1e-3)
    assert float(same["diameter_percent"]) == pytest.approx(100 * (corner[1] / corner[0] - 1), abs=0.06)
    assert float(same["distance_mm"]) == pytest.approx(1.5, abs=1.0)  # half a voxel, and what is left over
    assert (gone["size_b"], gone["size_percent"], gone["lesions_b"]) == ("0", "-100.0", "")
    assert (new["size_a"], new["size_percent"], float(new["size_b"])) == ("0", "", 27 * VOXEL)
    assert float(whole["size_b"]) == 107 * VOXEL
    assert (whole["lesions_a"], whole["lesions_b"], whole["days"]) == ("1 2", "1 2", "")
    record = json.loads((compared / "follow.json").read_text())["patients"][0]["comparisons"][0]
    assert (record["safe"], record["method"]) == (True, "registration")
    assert np.array(record["matrix"])[:3, 3] == pytest.approx([9.0, 0.0, 0.0], abs=1.0)


def test_names_persist(compared: Path) -> None:
    names = {(row["study"], row["lesion"]): row["tracking_id"] for row in table(compared / "tracked_lesions.csv")}
    assert names["1", "1"] == names["2", "1"] == "c1_brain_tumor_1"
    assert names["1", "2"] == "c1_brain_tumor_2"
    assert names["2", "2"] == "c2_brain_tumor_2"


def test_the_page_loads_nothing_and_shows_both_studies(two_runs: Path, compared: Path) -> None:
    page = (compared / "follow.html").read_text()
    assert "default-src 'none'" in page
    assert not re.search(r"https?:|//[a-z]|@import|url\(", re.sub(r"(base64,|sha256-)[\w+/=]+", "", page))
    assert page.count("data:image/webp;base64,") == 2
    assert "+25 %" in page
    assert "2.3 ml" in page  # 64 voxels
    links = re.findall(r'href="([^"#]+)/">folder', page)
    assert [(compared / link).resolve() for link in links] == [
        two_runs / run / "cases" / f"c{n}_brain_tumor" for n, run in ((1, "a"), (2, "b"))
    ]


def test_without_registration_nothing_is_matched(two_runs: Path, tmp_path: Path) -> None:
    words = ["follow", str(two_runs / "a"), str(two_runs / "b"), "--out", str(tmp_path), "--no-register"]
    assert main(words) == 3
    assert [row["change"] for row in table(tmp_path / "changes.csv")] == ["all"]
    record = json.loads((tmp_path / "follow.json").read_text())["patients"][0]["comparisons"][0]
    assert (record["safe"], record["reason"]) == (False, "not_registered")
    names = {row["tracking_id"] for row in table(tmp_path / "tracked_lesions.csv")}
    assert len(names) == 4
    assert "Lesions are not matched" in (tmp_path / "follow.html").read_text()


def test_a_mask_that_is_not_that_of_its_table_is_an_error(
    two_runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    add_nifti(tmp_path / "b", tmp_path, "scan.nii.gz", head(grid()), boxes((20, 20, 14, 5, 4, 4)), grid())
    lines = (tmp_path / "b/cases/c1_brain_tumor/lesions.csv").read_text().replace(",80,", ",81,")
    (tmp_path / "b/cases/c1_brain_tumor/lesions.csv").write_text(lines)
    assert main(["follow", str(two_runs / "a"), str(tmp_path / "b"), "--out", str(tmp_path / "out")]) == 1
    assert "Mask and lesions.csv of case 'c1_brain_tumor' differ" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.fixture(scope="module")
def three_dates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One patient on three dates, listed in another order; a lesion that grows, one that appears and stays."""
    folder = tmp_path_factory.mktemp("three")
    shape = (48, 48, 8)
    masks = {
        "20240301": boxes((10, 10, 2, 4, 4, 2), shape=shape),
        "20240401": boxes((10, 10, 2, 6, 4, 2), (30, 30, 3, 4, 4, 2), shape=shape),
        "20240611": boxes((10, 10, 2, 8, 4, 3), (30, 30, 3, 4, 8, 3), shape=shape),
    }
    for name, day in (("z", "20240301"), ("a", "20240611"), ("m", "20240401")):
        add_series(folder, name, day, masks[day])
    return folder


def test_dates_give_the_order_and_names_persist_over_three(three_dates: Path, tmp_path: Path) -> None:
    assert main(["follow", str(three_dates / "out"), "--out", str(tmp_path), "--no-register"]) == 0
    rows = table(tmp_path / "changes.csv")
    wholes = [row for row in rows if row["change"] == "all"]
    assert [(row["case_a"][0], row["case_b"][0], row["days"]) for row in wholes] == [("z", "m", "31"), ("m", "a", "71")]
    kept = [row for row in rows if row["tracking_id"] == "z_lung_infection_1"]
    assert [row["size_percent"] for row in kept] == ["50.0", "100.0"]
    names = {(row["study"], row["lesion"]): row["tracking_id"] for row in table(tmp_path / "tracked_lesions.csv")}
    assert {names["2", "1"], names["2", "2"]} == {names["3", "1"], names["3", "2"]}


def test_nothing_about_the_patient_is_written(three_dates: Path, tmp_path: Path) -> None:
    main(["follow", str(three_dates / "out"), "--out", str(tmp_path)])
    written = "".join(path.read_text() for path in tmp_path.iterdir())
    for private in (PATIENT, FRAME, "202403", "2024-03", str(three_dates)):
        assert private not in written, private


def test_two_series_of_one_day_are_not_guessed(three_dates: Path, tmp_path: Path) -> None:
    add_series(tmp_path, "p", "20240301", boxes((10, 10, 2, 4, 4, 2), shape=(48, 48, 8)))
    add_series(tmp_path, "q", "20240301", boxes((10, 10, 2, 4, 4, 2), shape=(48, 48, 8)))
    assert main(["follow", str(tmp_path / "out"), "--out", str(tmp_path / "f")]) == 3
    assert json.loads((tmp_path / "f/follow.json").read_text())["patients"][0]["comparisons"][0]["reason"] == (
        "several_series"
    )


def test_two_patients_are_not_compared(tmp_path: Path) -> None:
    mask = boxes((10, 10, 2, 4, 4, 2), shape=(48, 48, 8))
    add_series(tmp_path / "one", "p", "20240301", mask)
    add_series(tmp_path / "two", "q", "20240501", mask, PatientID="OTHER")
    words = ["follow", str(tmp_path / "one/out"), str(tmp_path / "two/out"), "--out", str(tmp_path / "f")]
    assert main(words) == 3
    assert "the headers name two patients" in (tmp_path / "f/follow.html").read_text()


def test_pictures_are_shown_and_not_matched(tmp_path: Path) -> None:
    for run in ("a", "b"):
        (tmp_path / run).mkdir()
        Image.new("RGB", (64, 48), "white").save(tmp_path / run / "mole.png")
        mask = np.zeros((48, 64), np.uint8)
        mask[10:20, 10:30] = 255
        Image.fromarray(mask).save(tmp_path / f"{run}_truth.png")
        add_case(tmp_path / f"out_{run}", tmp_path / run, "mole.png", tmp_path / f"{run}_truth.png", "skin_lesion",
                 f"{run}_skin_lesion")  # fmt: skip
    assert main(["follow", str(tmp_path / "out_a"), str(tmp_path / "out_b"), "--out", str(tmp_path / "f")]) == 3
    record = json.loads((tmp_path / "f/follow.json").read_text())["patients"][0]["comparisons"][0]
    assert record["reason"] == "no_place"
    assert "compare them by eye" in (tmp_path / "f/follow.html").read_text()


def test_wrong_calls_say_in_one_line_what_to_do(
    two_runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = ["--out", str(tmp_path / "f")]
    for words, status, said in (
        ([str(tmp_path)], 1, "contains no masks; give the --out of tpseg run"),
        ([str(two_runs / "a")], 1, "No two cases are known to belong to one patient"),
        ([str(two_runs / "a"), str(two_runs / "a")], 1, "is given twice; give two runs"),
        (["a", "b", "c"], 2, "Give one or two folders of runs, got 3"),
        (
            [str(two_runs / "a"), str(two_runs / "b"), "--tolerance", "-2"],
            2,
            "--tolerance must be 0 mm or more, got -2",
        ),
    ):
        assert main(["follow", *words, *out]) == status
        error = capsys.readouterr().err
        assert said in error
        assert error.count("\n") == 1
    assert not (tmp_path / "f").exists()


def test_runs_that_call_their_cases_alike(tmp_path: Path) -> None:
    """As `--names source` does: a name never passes to another lesion, and an empty study is one."""
    same, gone, new = (18, 20, 14, 4, 4, 4), (26, 34, 20, 3, 3, 2), (24, 10, 10, 3, 3, 3)
    for run, lesions in (("a", (same, gone)), ("b", (same, new)), ("c", ())):
        add_nifti(tmp_path / run, tmp_path / f"scans_{run}", "x.nii.gz", head(grid()), boxes(*lesions), grid())
    for later, expected in (
        ("b", {"matched": ("1", "1"), "gone": ("2", ""), "new": ("", "2")}),
        ("c", {"gone": ("1", "")}),
    ):
        out = tmp_path / f"change_{later}"
        main(["follow", str(tmp_path / "a"), str(tmp_path / later), "--out", str(out)])
        rows = [row for row in table(out / "changes.csv") if row["change"] != "all"]
        assert {row["change"]: (row["lesions_a"], row["lesions_b"]) for row in rows if row["lesions_a"] != "2"
                or later == "b"} == expected  # fmt: skip
        names = [row["tracking_id"] for row in rows]
        assert len(names) == len(set(names)) == (3 if later == "b" else 2)
        lesions = {(row["study"], row["lesion"]): row["tracking_id"] for row in table(out / "tracked_lesions.csv")}
        assert set(lesions.values()) == set(names)
        assert lesions["1", "1"] == names[0]
        if later == "b":
            assert lesions["2", "1"] == lesions["1", "1"]
            assert lesions["2", "2"] == f"{lesions['1', '2']}_study2"


def test_units_that_differ_give_no_percentage(tmp_path: Path) -> None:
    """Cubic millimetres of a volume are not compared with the pixels of a picture."""
    add_nifti(tmp_path / "a", tmp_path / "scans", "x.nii.gz", head(grid()), boxes((18, 20, 14, 4, 4, 4)), grid())
    Image.fromarray(np.full((40, 60, 3), 90, np.uint8)).save(tmp_path / "scans" / "x.png")
    mask = np.zeros((40, 60), np.uint8)
    mask[5:15, 5:17] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    add_case(tmp_path / "b", tmp_path / "scans", "x.png", tmp_path / "mask.png", "brain_tumor", "1_brain_tumor")
    assert main(["follow", str(tmp_path / "a"), str(tmp_path / "b"), "--out", str(tmp_path / "f")]) == 3
    (row,) = table(tmp_path / "f" / "changes.csv")
    assert (row["size_a"], row["size_b"], row["size_unit"]) == (str(64 * VOXEL), "120.0", "mm3 px")
    assert row["size_percent"] == row["diameter_percent"] == ""


def test_a_full_disc_is_found_before_scans_are_registered(
    two_runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with largest_file(2**16):
        assert main(["follow", str(two_runs / "a"), str(two_runs / "b"), "--out", str(tmp_path / "full")]) == 1
    error = capsys.readouterr().err
    assert "cannot be written (File too large); choose another --out." in error
    assert error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
