"""What a session exports, read back with other programs."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path

import highdicom
import jsonschema
import nibabel
import numpy as np
import pydicom
import pytest
from PIL import Image

from monai_tpseg.annotate import PromptModel, Session, SessionError
from monai_tpseg.files import file_sha256

SCHEMA = json.loads((files("monai_tpseg.results") / "result.schema.json").read_text())


def test_a_volume(model: PromptModel, sources: dict[str, Path], tmp_path: Path) -> None:
    session = Session(sources["ct"], model, "lung_infection")
    session.click(18, 18, index=2)
    session.propagate(2, 2)
    session.accept(3)
    written = session.export(tmp_path / "out")
    assert set(written) == {"mask", "lesions", "overlay", "result"}
    mask, source = nibabel.load(written["mask"]), nibabel.load(sources["ct"])
    assert mask.shape == source.shape
    assert np.array_equal(mask.affine, source.affine)
    # the file has columns, rows, slices; the phantom's affine points to left and posterior
    axes = nibabel.orientations.ornt_transform(nibabel.io_orientation(mask.affine), _ornt("PLS"))
    seen = nibabel.orientations.apply_orientation(np.asarray(mask.dataobj), axes)
    assert np.array_equal(seen, session.volume_mask())
    assert session.volume_mask().any()
    record = json.loads(written["result"].read_text())
    jsonschema.validate(record, SCHEMA)
    assert record["voxels"] == int(session.volume_mask().sum())
    slices = record["provenance"]["config"]["slices"]
    assert [(one["slice"], one["status"]) for one in slices] == [(2, "edited"), (3, "accepted"), (4, "proposed")]
    assert slices[0]["prompts"] == [{"class": "lung_infection", "clicks": [[18.0, 18.0, 1]], "exemplars": 0}]
    assert slices[1]["prompts"][0]["from"] == 2
    assert record["sha256"][written["mask"].name] == file_sha256(written["mask"])


def _ornt(codes: str) -> np.ndarray:
    return nibabel.orientations.axcodes2ornt(tuple(codes), (("L", "R"), ("P", "A"), ("I", "S")))


def test_a_picture(model: PromptModel, sources: dict[str, Path], tmp_path: Path) -> None:
    session = Session(sources["picture"], model, "skin_lesion")
    session.click(18, 26)
    written = session.export(tmp_path, name="case_1")
    assert written["mask"] == tmp_path / "case_1_skin_lesion" / "case_1_skin_lesion_mask.png"
    assert np.array_equal(np.asarray(Image.open(written["mask"])), session.mask() * 255)
    assert Image.open(written["overlay"]).size[0] > 0


def test_a_series_gets_a_segmentation(model: PromptModel, sources: dict[str, Path], tmp_path: Path) -> None:
    session = Session(sources["series"], model, "lung_infection")
    session.click(16, 20, index=1)
    session.propagate(1, 3)
    written = session.export(tmp_path)
    seg = highdicom.seg.segread(written["seg"])
    assert {one.SegmentAlgorithmType for one in seg.SegmentSequence} == {"SEMIAUTOMATIC"}
    made_by = seg.SegmentSequence[0].SegmentationAlgorithmIdentificationSequence[0]
    assert made_by.AlgorithmName == "K-Prism"
    headers = {path: pydicom.dcmread(path) for path in sources["series"].iterdir()}
    uids = [header.SOPInstanceUID for header in sorted(headers.values(), key=lambda h: h.ImagePositionPatient[2])]
    frames = seg.get_pixels_by_source_instance(uids, combine_segments=True, ignore_spatial_locations=True)
    assert np.array_equal((frames > 0).transpose(1, 2, 0), session.volume_mask())
    assert session.volume_mask().any()


@pytest.mark.parametrize("kind", ["us", "cine"])
def test_ultrasound_comes_back_on_the_frame(
    model: PromptModel, sources: dict[str, Path], tmp_path: Path, kind: str
) -> None:
    session = Session(sources[kind], model, "breast_lesion")
    session.click(20, 20)
    written = session.export(tmp_path)
    record = json.loads(written["result"].read_text())
    jsonschema.validate(record, SCHEMA)
    assert record["voxels"] == int(session.volume_mask().sum()) > 0
    assert "seg" in written


def test_an_export_is_replaced_as_a_whole(model: PromptModel, sources: dict[str, Path], tmp_path: Path) -> None:
    session = Session(sources["series"], model, "lung_infection")
    session.click(16, 20, index=1)
    written = session.export(tmp_path)
    assert written["seg"].is_file()
    session.clear(1)
    again = session.export(tmp_path)
    assert set(again) == {"mask", "lesions", "overlay", "result", "sr"}
    assert not written["seg"].exists()
    assert json.loads(again["result"].read_text())["status"] == "ok_empty"
    session.undo()
    third = session.export(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {third["mask"].parent.name}


def test_the_same_session_gives_the_same_bytes(model: PromptModel, sources: dict[str, Path], tmp_path: Path) -> None:
    digests = []
    for place in ("a", "b"):
        session = Session(sources["series"], model, "lung_infection")
        session.click(16, 20, index=1)
        digests.append({kind: file_sha256(path) for kind, path in session.export(tmp_path / place).items()})
    assert digests[0] == digests[1]


def test_exports_that_cannot_be(model: PromptModel, sources: dict[str, Path], tmp_path: Path) -> None:
    session = Session(sources["picture"], model)
    session.click(18, 26)
    with pytest.raises(SessionError, match="needs a task"):
        session.export(tmp_path)
    session.set_task("skin_lesion")
    for name in ("", "../a", "/a", ".a", "a/b", "a\0", ".."):
        with pytest.raises(SessionError, match="is not a file name"):
            session.export(tmp_path, name)
    (tmp_path / "mine_skin_lesion").mkdir()
    (tmp_path / "mine_skin_lesion" / "notes.txt").write_text("keep me")
    with pytest.raises(SessionError, match="not a result of this program"):
        session.export(tmp_path, "mine")
    assert (tmp_path / "mine_skin_lesion" / "notes.txt").read_text() == "keep me"
    (tmp_path / "file").write_text("")
    with pytest.raises(SessionError, match=r"cannot be written \(Not a directory\)"):
        session.export(tmp_path / "file")
