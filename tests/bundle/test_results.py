"""The bundle writes what `tpseg run` writes: one writer, one set of files."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pydicom
import pytest

from monai_tpseg.studies import Model, Run, Settings, find_entries, prepare_output
from monai_tpseg.testing.phantoms import make_phantom, make_volume, write_dicom_picture, write_dicom_series, write_png
from tests.bundle.conftest import run
from tests.studies.conftest import write_weights


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_weights(tmp_path_factory.mktemp("weights") / "model.pt")


@pytest.fixture(scope="module")
def studies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("studies") / "in"
    write_dicom_series(make_volume("thyroid_nodule", 1, (32, 32, 6)), folder / "deep" / "sweep")
    write_dicom_picture(make_phantom("thyroid_nodule", 2, 40), folder / "one.dcm")
    write_png(make_phantom("thyroid_nodule", 4, (36, 48)).image, folder / "photo.png")
    return folder


def test_the_files_are_those_of_a_study(bundle_dir: Path, weights: Path, studies: Path, tmp_path: Path) -> None:
    task = "thyroid_nodule"
    prob = Model(weights, "cpu").segment(studies / "one.dcm", task).prob
    threshold = float(prob.median())  # random weights find something in about half of the pixels
    options = {"dataset_dir": str(studies), "task": task, "checkpoint": str(weights), "threshold": threshold}
    run(bundle_dir, "inference", output_dir="bundle", device="cpu", progress=False, **options)
    model = Model(weights, "cpu", Settings(threshold))
    Run(model, tmp_path / "study", quiet=True)(
        prepare_output(tmp_path / "study", find_entries(studies, task), "source", False)
    )
    ours = tmp_path / "bundle"
    for name, tail in (("deep/sweep", "mask.nii.gz"), ("one", "mask.png"), ("photo", "mask.png")):
        theirs, base = tmp_path / "study" / "cases" / f"{Path(name).name}_{task}", f"{name}_{task}"
        for own, other in ((tail, f"{Path(base).name}_{tail}"), ("overlay.png", f"{Path(base).name}_overlay.png")):
            assert (ours / f"{base}_{own}").read_bytes() == (theirs / other).read_bytes()
        record, other_record = (
            json.loads(path.read_text()) for path in (ours / f"{base}_result.json", theirs / "result.json")
        )
        for key in ("task", "status", "flags", "lesions", "voxels", "decisions"):
            assert record[key] == other_record[key]
        assert record["provenance"]["model"] == other_record["provenance"]["model"]
        assert record["provenance"]["config"]["threshold"] == threshold
        assert (ours / f"{base}_seg.dcm").is_file() is (name != "photo")
        assert set(record["files"]) == set(other_record["files"])
        assert all((ours / base).parent.joinpath(file).is_file() for file in record["files"].values())
        with (ours / f"{base}_lesions.csv").open() as mine, (theirs / "lesions.csv").open() as other_table:
            rows, others = list(csv.DictReader(mine)), list(csv.DictReader(other_table))
        assert len(rows) == len(others) == record["lesions"] > 0
        if name != "photo":
            seg, other_seg = (
                pydicom.dcmread(p) for p in (ours / f"{base}_seg.dcm", theirs / f"{Path(base).name}_seg.dcm")
            )
            assert seg.PixelData == other_seg.PixelData
            tracked = [segment.TrackingID for segment in seg.SegmentSequence]
            assert tracked == list(dict.fromkeys(row["tracking_id"] for row in rows))


def test_overlay_and_segmentation_can_be_left_out(
    bundle_dir: Path, weights: Path, studies: Path, tmp_path: Path
) -> None:
    run(
        bundle_dir, "inference", dataset_dir=str(studies / "one.dcm"), task="thyroid_nodule", checkpoint=str(weights),
        output_dir="out", device="cpu", progress=False, threshold=0.01, seg=False, sr=False, save_overlay="false",
        save_probabilities=True,
    )  # fmt: skip
    base = "one_thyroid_nodule"
    found = {path.name for path in (tmp_path / "out").iterdir()}
    assert found == {f"{base}_{end}" for end in ("mask.png", "prob.png", "lesions.csv", "result.json")}
