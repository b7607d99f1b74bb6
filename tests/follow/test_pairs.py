"""Every kind of pair of studies, and what the table of changes says of it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from nibabel.affines import apply_affine
from numpy.typing import NDArray

from monai_tpseg.cli import main

from .scans import add_case, add_series, boxes, table

GROWN = ((-60.0, -20.0, -20.0), (30.0, 40.0, 30.0))  # corner and edges in millimetres (RAS)
SMALL = ((40.0, 30.0, -10.0), (20.0, 20.0, 24.0))
LOW = ((20.0, -60.0, -50.0), (24.0, 24.0, 12.0))
OTHER_FRAME = "1.2.826.0.1.3680043.8.498.78"


def blocks(*found: tuple[tuple[float, ...], tuple[float, ...]]) -> Callable[..., NDArray[np.uint8]]:
    """A mask of boxes that lie in the patient, on whatever grid."""

    def drawn(affine: NDArray[np.float64], shape: tuple[int, ...]) -> NDArray[np.uint8]:
        points = apply_affine(affine, np.moveaxis(np.indices(shape), 0, -1))
        inside = [((points >= corner) & (points < np.add(corner, edges))).all(-1) for corner, edges in found]
        return np.any(inside, axis=0).astype(np.uint8) if inside else np.zeros(shape, np.uint8)

    return drawn


def followed(*words: object, status: int = 0) -> tuple[list[dict[str, str]], dict[str, Any]]:
    """The lines of the table but the first, and the record of the comparison."""
    *outs, folder = words
    assert main(["follow", *map(str, outs), "--out", str(folder)]) == status
    record = json.loads((Path(str(folder)) / "follow.json").read_text())
    whole, *rows = table(Path(str(folder)) / "changes.csv")
    assert whole["change"] == "all"
    return rows, record["patients"][0]["comparisons"][0]


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The earlier study: two lesions."""
    folder = tmp_path_factory.mktemp("first")
    add_series(folder, "a", "20240301", blocks(GROWN, SMALL))
    return folder


def test_the_same_case_twice_has_not_changed(first: Path, tmp_path: Path) -> None:
    shutil.copytree(first / "out", tmp_path / "copy")
    rows, _ = followed(first / "out", tmp_path / "copy", tmp_path / "f")
    assert [row["change"] for row in rows] == ["matched", "matched"]
    assert [(row["size_percent"], row["diameter_percent"], row["distance_mm"]) for row in rows] == [("0.0",) * 3] * 2
    assert {row["days"] for row in rows} == {"0"}
    names = [row["tracking_id"] for row in table(tmp_path / "f" / "tracked_lesions.csv")]
    assert names == ["a_lung_infection_1", "a_lung_infection_2"] * 2


def test_disjoint_patients_are_not_followed(
    first: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:  # fmt: skip
    for name, patient in (("x", "ONE"), ("y", "TWO")):
        add_series(tmp_path, name, "20240401", blocks(GROWN), PatientID=patient)
    assert main(["follow", str(first / "out"), str(tmp_path / "out"), "--out", str(tmp_path / "f")]) == 1
    assert "No two cases are known to belong to one patient" in capsys.readouterr().err
    assert not (tmp_path / "f").exists()


def test_the_patient_seen_twice_is_followed_and_the_other_left_out(first: Path, tmp_path: Path) -> None:
    for name, patient in (("x", "SECRET-4711"), ("y", "TWO")):
        add_series(tmp_path, name, "20240401", blocks(GROWN), PatientID=patient)
    rows, record = followed(first / "out", tmp_path / "out", tmp_path / "f")
    assert [row["change"] for row in rows] == ["matched", "gone"]
    assert record["days"] == 31
    assert "1 case was seen once and is left out" in (tmp_path / "f" / "follow.html").read_text()


def test_studies_without_lesions(first: Path, tmp_path: Path) -> None:
    add_series(tmp_path / "e", "e", "20240401", blocks())
    add_series(tmp_path / "n", "n", "20240501", blocks())
    rows, record = followed(tmp_path / "e/out", tmp_path / "n/out", tmp_path / "none")
    assert (rows, record["safe"]) == ([], True)
    (whole,) = table(tmp_path / "none" / "changes.csv")
    assert (float(whole["size_a"]), float(whole["size_b"]), whole["size_percent"]) == (0, 0, "")
    rows, _ = followed(first / "out", tmp_path / "e/out", tmp_path / "gone")
    assert [(row["change"], row["size_percent"], row["lesions_b"]) for row in rows] == [("gone", "-100.0", "")] * 2
    add_series(tmp_path / "later", "l", "20240601", blocks(SMALL))
    rows, _ = followed(tmp_path / "e/out", tmp_path / "later/out", tmp_path / "new")
    assert [(row["change"], row["size_percent"], row["lesions_a"]) for row in rows] == [("new", "", "")]


def test_another_frame_of_reference_needs_a_registration(first: Path, tmp_path: Path) -> None:
    add_series(tmp_path, "b", "20240401", blocks(GROWN, SMALL), FrameOfReferenceUID=OTHER_FRAME)
    rows, record = followed("--no-register", first / "out", tmp_path / "out", tmp_path / "f", status=3)
    assert (rows, record["reason"]) == ([], "not_registered")
    rows, record = followed(first / "out", tmp_path / "out", tmp_path / "g")
    assert (record["method"], [row["change"] for row in rows]) == ("registration", ["matched", "matched"])
    assert [row["size_percent"] for row in rows] == ["0.0", "0.0"]
    assert max(float(row["distance_mm"]) for row in rows) < 2


def test_another_part_of_the_patient_in_the_same_frame(tmp_path: Path) -> None:
    """The second scan begins higher: what it does not show is neither gone nor new."""
    low = tmp_path / "low"
    add_series(low, "a", "20240301", blocks(GROWN, LOW))
    up = np.eye(4)
    up[2, 3] = 30.0
    add_series(tmp_path / "up", "b", "20240401", blocks(GROWN), move=up)
    rows, _ = followed(low / "out", tmp_path / "up/out", tmp_path / "f")
    assert [row["change"] for row in rows] == ["matched", "not_covered_any_more"]
    assert float(rows[0]["distance_mm"]) < 10  # slices of another height cut the box elsewhere
    rows, _ = followed("--no-register", tmp_path / "up/out", low / "out", tmp_path / "g")  # dates decide, not the order
    assert [row["change"] for row in rows] == ["matched", "not_covered_any_more"]


def test_a_scan_whose_axes_are_turned(first: Path, tmp_path: Path) -> None:
    turn = np.eye(4)
    turn[:2, :2] = [[0, -1], [1, 0]]
    add_series(tmp_path, "b", "20240401", blocks(GROWN, SMALL), move=turn)
    affines = [nib.load(next(folder.glob("out/cases/*/*_mask.nii.gz"))).affine for folder in (first, tmp_path)]
    assert not np.allclose(affines[0], affines[1])
    rows, record = followed(first / "out", tmp_path / "out", tmp_path / "f")
    assert (record["method"], [row["change"] for row in rows]) == ("frame_of_reference", ["matched", "matched"])
    for row, (_, edges) in zip(rows, (GROWN, SMALL), strict=True):
        assert float(row["distance_mm"]) < 8  # a pixel of 7.3 mm: both grids cut the box where their pixels lie
        assert float(row["size_b"]) == pytest.approx(np.prod(edges), rel=0.5)


def test_another_unit_of_length_is_the_same_patient(tmp_path: Path) -> None:
    """Micrometres of one header, millimetres of the other."""
    values = np.zeros((32, 32, 16), np.float32)
    values[4:28, 4:28, 2:14] = np.random.default_rng(0).uniform(100, 900, (12, 12, 6)).repeat(2, 0).repeat(2, 1).repeat(
        2, 2)  # fmt: skip
    mask = boxes((10, 10, 4, 4, 4, 3), shape=values.shape)
    for run, unit, factor in (("a", "mm", 1.0), ("b", "micron", 1000.0)):
        affine = np.diag([4 * factor, 4 * factor, 5 * factor, 1])
        root = tmp_path / f"scans_{run}"
        root.mkdir()
        for name, content in (("x", values), ("truth", mask)):
            image = nib.Nifti1Image(content, affine)
            image.header.set_xyzt_units(unit)
            image.to_filename(root / f"{name}.nii.gz")
        add_case(tmp_path / run, root, "x.nii.gz", root / "truth.nii.gz", "brain_tumor", f"{run}_brain_tumor")
    ((row,), record) = followed(tmp_path / "a", tmp_path / "b", tmp_path / "f")
    assert (row["change"], row["size_unit"], row["size_percent"]) == ("matched", "mm3", "0.0")
    assert float(row["size_a"]) == float(row["size_b"]) == 48 * 4 * 4 * 5
    assert float(row["diameter_a"]) == pytest.approx(np.linalg.norm([16, 16, 15]), abs=1e-3)
    assert np.array(record["matrix"]) == pytest.approx(np.eye(4), abs=0.5)


def test_another_task_is_another_lesion(first: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    add_series(tmp_path, "b", "20240401", blocks(GROWN), task="brain_tumor")
    assert main(["follow", str(first / "out"), str(tmp_path / "out"), "--out", str(tmp_path / "f")]) == 1
    assert "No two cases are known to belong to one patient" in capsys.readouterr().err


def test_a_damaged_case_is_named_and_the_rest_is_compared(
    first: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    add_series(tmp_path, "b", "20240401", blocks(GROWN, SMALL))
    add_series(tmp_path, "c", "20240501", blocks(GROWN, SMALL))
    record = tmp_path / "out" / "cases" / "c_lung_infection" / "result.json"
    record.write_text(record.read_text()[:-40])
    (tmp_path / "out" / "cases" / "begun").mkdir()  # a run that was interrupted: nothing to say
    rows, _ = followed(first / "out", tmp_path / "out", tmp_path / "f")
    assert [row["change"] for row in rows] == ["matched", "matched"]
    warned = capsys.readouterr().err.splitlines()
    assert [line for line in warned if line.startswith("Left out")] == [
        f"Left out, {record} is damaged: delete the folder of the case, whose files are damaged, then run again with "
        "--resume."
    ]
    assert not any("begun" in line for line in warned)
