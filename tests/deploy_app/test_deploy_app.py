"""Selections of MONAI Deploy's selector, and selected series on their way through what `tpseg run` does."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pydicom
import pytest

from monai_tpseg.cli import main
from monai_tpseg.deploy_app.selected import SelectedSeries, segment_selected
from monai_tpseg.deploy_app.selection import SelectionError, read_selection
from monai_tpseg.results.codes import Status, StudyError
from monai_tpseg.studies import Model, Settings
from monai_tpseg.testing.phantoms import make_volume, write_dicom_series
from tests.pacs.servers import write_study
from tests.studies.conftest import write_weights

ROOT = Path(__file__).resolve().parents[2]
TASKS = ("lung_infection", "brain_tumor")


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_weights(tmp_path_factory.mktemp("weights") / "model.pt")


@pytest.fixture(scope="module")
def model(weights: Path) -> Model:
    return Model(weights, "cpu", Settings(threshold=0.4))  # about half of the voxels are lesion


def _flat(folder: Path, *series: Path) -> list[tuple[Path, ...]]:
    """Put the files of all series into one folder, as a study comes from an archive; return them by series."""
    folder.mkdir(parents=True)
    return [
        tuple(Path(shutil.copy(path, folder / f"{number}_{path.name}")) for path in sorted(one.iterdir()))
        for number, one in enumerate(series)
    ]


def _masks(out: Path) -> list[tuple[bytes, bytes]]:
    """Mask and pixels of the segmentation of each case."""
    return sorted(
        (next(case.glob("*.nii.gz")).read_bytes(), pydicom.dcmread(next(case.glob("*_seg.dcm"))).PixelData)
        for case in (out / "cases").iterdir()
    )


def test_a_selected_series_gets_the_mask_of_tpseg_run(tmp_path: Path, model: Model, weights: Path) -> None:
    write_study(tmp_path / "chest", 1)
    brain = write_dicom_series(make_volume("brain_tumor", 2, (32, 32, 6)), tmp_path / "brain")
    chest_files, _ = _flat(tmp_path / "in" / "study", tmp_path / "chest", brain)
    (done,) = segment_selected(model, [SelectedSeries("lung_infection", chest_files)], tmp_path / "deployed")
    asked = [str(tmp_path / "chest"), "--task", "lung_infection", "--checkpoint", str(weights), "--device", "cpu"]
    assert main(["run", *asked, "--threshold", "0.4", "--out", str(tmp_path / "run"), "--quiet"]) == 0
    assert _masks(tmp_path / "deployed") == _masks(tmp_path / "run")
    assert done.task == "lung_infection"
    assert not done.code
    assert {"mask", "seg", "sr"} <= done.files.keys()
    assert all(path.is_file() for path in done.files.values())


def test_a_series_of_two_tasks_is_two_cases_and_a_repeated_selection_is_one(tmp_path: Path, model: Model) -> None:
    write_study(tmp_path / "in", 1)
    files = tuple(sorted((tmp_path / "in").iterdir()))
    selected = [SelectedSeries(task, files) for task in (*TASKS, TASKS[0])]
    done = segment_selected(model, selected, tmp_path / "out")
    assert [one.task for one in done] == [*TASKS]
    before = {path: path.stat().st_mtime_ns for one in done for path in one.files.values()}
    assert segment_selected(model, selected, tmp_path / "out") == done  # what is complete stays
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_a_localizer_that_is_selected_is_not_segmented(tmp_path: Path, model: Model) -> None:
    write_study(tmp_path / "in", 1)
    files = tuple((tmp_path / "in").iterdir())
    for path in files:
        header = pydicom.dcmread(path)
        header.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
        header.save_as(path)
    with pytest.raises(StudyError, match="No selected series holds an image to segment"):
        segment_selected(model, [SelectedSeries("lung_infection", files)], tmp_path / "out")


def test_a_case_that_fails_says_why(tmp_path: Path, model: Model) -> None:
    write_study(tmp_path / "in", 1)
    files = tuple(sorted((tmp_path / "in").iterdir()))
    header = pydicom.dcmread(files[0])
    header.PixelData = header.PixelData[:8]
    header.save_as(files[0])
    (done,) = segment_selected(model, [SelectedSeries("lung_infection", files)], tmp_path / "out")
    assert (done.status, done.files) == (Status.FAILED, {})
    assert done.code.startswith("E_")
    assert done.next_action


def test_no_selection_is_an_error(tmp_path: Path, model: Model) -> None:
    with pytest.raises(StudyError, match="No series was selected"):
        segment_selected(model, [], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_selections_of_the_application_are_sound() -> None:
    path = ROOT / "apps" / "deploy" / "selection.json"
    assert json.loads(read_selection(path, TASKS)) == json.loads(path.read_text())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"rules": []}, "must hold a list 'selections'"),
        ({"selections": []}, "must hold a list 'selections'"),
        ({"selections": [{"name": "liver", "conditions": {"Modality": "CT"}}]}, "do not know the task 'liver'; choose"),
        ({"selections": ["CT"]}, "do not know the task None"),
        ({"selections": [{"name": TASKS[0], "conditions": {}}]}, "Selection 1 has no conditions"),
        (
            {"selections": [{"name": TASKS[0], "conditions": {"BodyPart": "CHEST"}}]},
            "'BodyPart' is not a DICOM keyword",
        ),
        ({"selections": [{"name": TASKS[0], "conditions": {"Modality": ""}}]}, "Modality has no value"),
    ],
)
def test_selections_that_the_selector_would_pass_over_are_refused(tmp_path: Path, content: Any, message: str) -> None:
    path = tmp_path / "selection.json"
    path.write_text(json.dumps(content))
    with pytest.raises(SelectionError, match=message):
        read_selection(path, TASKS)


def test_a_file_that_is_no_json_is_named(tmp_path: Path) -> None:
    path = tmp_path / "selection.json"
    with pytest.raises(SelectionError, match="cannot be read"):
        read_selection(path, TASKS)
    path.write_text("modality: CT")
    with pytest.raises(SelectionError, match="is not JSON"):
        read_selection(path, TASKS)
