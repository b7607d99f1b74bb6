"""What a bundle is asked to segment is looked for and tried in processes that may be ended."""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path

import pytest

from monai_tpseg.bundle import case_loader, inference_inputs
from monai_tpseg.bundle.case_loader import Sources
from monai_tpseg.bundle.inference_inputs import check_readable, inference_cases
from monai_tpseg.io import ReadError
from monai_tpseg.io.cases import CaseSource
from monai_tpseg.io.output_names import OutputNames
from monai_tpseg.testing.phantoms import make_phantom, write_dicom_picture, write_png
from monai_tpseg.transforms.transfer import PackedImage, read_named, read_packed
from tests.annotate.conftest import write_weights as write_kprism
from tests.bundle.conftest import SOURCE, run
from tests.studies.conftest import write_weights as write_tpseg

KPRISM = SOURCE.parent / "kprism_universal_segmentation"


def reads(image: str) -> None:
    """Read as usual, but for what is called so; in a process apart."""
    if "hang" in image:
        time.sleep(100)
    if "crash" in image:
        os.abort()
    inference_inputs.try_reading(image)


def test_pipes_are_left_out_of_a_folder_and_refused_by_name(tmp_path: Path) -> None:
    write_png(make_phantom("skin_lesion", 1, 40).image, tmp_path / "a.png")
    os.mkfifo(tmp_path / "pipe.png")
    assert [Path(case["image"]).name for case in inference_cases(str(tmp_path), None, "skin_lesion")] == ["a.png"]
    with pytest.raises(ReadError, match=r"pipe\.png is a pipe, not a regular file"):
        inference_cases(str(tmp_path / "pipe.png"), None, "skin_lesion")


@pytest.mark.parametrize(("name", "words"), [("hang", "did not answer within 2 s"), ("crash", "ends the process")])
def test_an_image_that_does_not_answer_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, words: str
) -> None:
    monkeypatch.setattr(inference_inputs, "READS", f"{__name__}:reads")
    paths = [str(tmp_path / "a.png"), str(tmp_path / f"{name}.png")]
    for path in paths:
        write_png(make_phantom("skin_lesion", 1, 40).image, Path(path))
    check_readable(paths[:1])
    with pytest.raises(ValueError, match=f"^{name}.png {words}"):
        check_readable(paths, seconds=2.0)


def read_once(source: CaseSource, screenshots: bool = True) -> PackedImage:
    """Read as usual and take the file away; in a process apart."""
    path = Path(str(source))
    if "hang" in path.name:
        time.sleep(100)
    found = read_packed(source, screenshots)
    path.unlink()
    return found


def test_a_source_that_hangs_after_the_check_costs_itself_and_the_others_are_read_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights, folder = write_tpseg(tmp_path / "model.pt"), tmp_path / "in"
    folder.mkdir()
    for number, name in enumerate(("a", "hang", "z")):
        write_dicom_picture(make_phantom("breast_lesion", number, 40), folder / f"{name}.dcm")
    options = {"dataset_dir": str(folder), "output_dir": str(tmp_path / "out"), "task": "breast_lesion"}
    options |= {"checkpoint": str(weights), "device": "cpu", "threshold": 0.3, "read_timeout": 10.0}
    monkeypatch.setattr(case_loader, "READ_NAMED", f"{__name__}:read_once")
    with pytest.raises(SystemExit, match=r"^Error: No result for 1 case, e\.g\.: hang\.dcm did not answer within 10 s"):
        run(SOURCE, "inference", **options, check_inputs=False)
    for name in ("a", "z"):  # mask, SEG and overlay came from the one reading: the files are gone
        record = json.loads((tmp_path / "out" / f"{name}_breast_lesion_result.json").read_text())
        assert {"mask", "seg", "sr", "overlay"} <= set(record["files"])
    assert not list((tmp_path / "out").glob("hang*"))


def test_exemplars_are_read_in_a_process_that_may_be_ended(tmp_path: Path) -> None:
    weights, folder = write_kprism(tmp_path / "model.pt"), tmp_path / "in"
    folder.mkdir()
    phantom = make_phantom("skin_lesion", 1, 40)
    write_png(phantom.image, folder / "a.png")
    write_png(phantom.label, tmp_path / "mask.png")
    os.mkfifo(tmp_path / "pipe.png")
    options = {"dataset_dir": str(folder), "output_dir": str(tmp_path / "out"), "task": "skin_lesion", "device": "cpu"}
    exemplars = tmp_path / "exemplars.json"
    exemplars.write_text(json.dumps([{"image": "in/a.png", "label": "mask.png"}]))
    run(KPRISM, "inference", **options, checkpoint=str(weights), exemplars=str(exemplars))
    assert (tmp_path / "out" / "a_skin_lesion_mask.png").is_file()
    exemplars.write_text(json.dumps([{"image": "in/a.png", "label": "pipe.png"}]))
    with pytest.raises(SystemExit, match=r"^Error: pipe\.png is not a regular file"):
        run(KPRISM, "inference", **options, checkpoint=str(weights), exemplars=str(exemplars))


def test_inputs_of_one_name_never_overwrite_each_other(tmp_path: Path) -> None:
    weights, sizes = write_tpseg(tmp_path / "model.pt"), {"one": 40, "other": 48}
    options = {"output_dir": str(tmp_path / "out"), "checkpoint": str(weights), "device": "cpu"}
    options |= {"task": "skin_lesion", "check_inputs": False}
    for folder, size in sizes.items():
        (tmp_path / folder).mkdir()
        write_png(make_phantom("skin_lesion", 1, size).image, tmp_path / folder / "photo.png")
    for folder in ("one", "other", "one"):  # the last one replaces its own
        run(SOURCE, "inference", **options, dataset_dir=str(tmp_path / folder / "photo.png"))
    records = [json.loads(path.read_text()) for path in (tmp_path / "out").glob("*_result.json")]
    found = {record["decisions"]["source_shape"][0]: record["case"] for record in records}
    keys = {record["decisions"]["source_shape"][0]: record["key"] for record in records}
    assert len(records) == 2
    assert found == {40: "photo", 48: f"photo_{keys[48]}"}


def read_and_lost(source: CaseSource, screenshots: bool = True) -> PackedImage:
    """Read as usual, and take the folder away; in a process apart."""
    found = read_named(source, screenshots)
    shutil.rmtree(Path(str(source)).parent)
    return found


def test_names_of_results_need_no_folder_any_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two sources of one stem: that of the other is seen by the process that reads, and not by the main one."""
    for name in ("a.png", "a.bmp"):
        (tmp_path / "in" / "b").mkdir(parents=True, exist_ok=True)
        write_png(make_phantom("skin_lesion", 1, 40).image, tmp_path / "in" / "b" / name)
    monkeypatch.setattr(case_loader, "READ_NAMED", f"{__name__}:read_and_lost")
    (case,) = Sources().cases([{"image": str(tmp_path / "in" / "b" / "a.png")}])
    assert OutputNames(tmp_path / "in")(case["image"].meta) == Path("b", "a_png")
