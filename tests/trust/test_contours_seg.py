"""Inner, best and outer mask as three segments of a valid DICOM object, read back by pydicom and highdicom."""

from __future__ import annotations

import json
from pathlib import Path

import highdicom
import nibabel as nib
import numpy as np
import pydicom
import pytest

from monai_tpseg.cli.main import main
from monai_tpseg.networks.weights_info import read_info
from monai_tpseg.testing.phantoms import make_phantom, make_volume, write_dicom_picture, write_dicom_series
from monai_tpseg.trust.contours import Threshold, Thresholds
from monai_tpseg.trust.fitted_files import ContourFile, write_contours

from ..data.test_phantoms_valid import findings
from ..studies.conftest import write_weights

TASK = "lung_infection"


@pytest.fixture(scope="module", params=["series", "picture"])
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a case of a run with contours; random weights have probabilities near a half."""
    folder = tmp_path_factory.mktemp(request.param)
    weights = write_weights(folder / "model.pt", tasks=(TASK,))
    if request.param == "series":
        source = write_dicom_series(make_volume(TASK, 1, (32, 32, 6)), folder / "in" / "series")
    else:
        (folder / "in").mkdir()
        source = write_dicom_picture(make_phantom(TASK, 2, 40), folder / "in" / "one.dcm")
    from monai_tpseg import load_model

    prob = load_model(weights, "cpu").segment(source, TASK).prob
    low, middle, high = (float(prob.quantile(share)) for share in (0.3, 0.6, 0.8))
    found = Thresholds(Threshold(low, 30, 0.09), Threshold(high, 30, 0.08))
    write_contours(weights, read_info(weights).sha256, ContourFile(0.1, 0.1, {TASK: found}))
    words = ["--task", TASK, "--out", str(folder / "out"), "--checkpoint", str(weights), "--threshold", str(middle)]
    main(["run", str(source), *words, "--contours", "--quiet"])
    (path,) = (folder / "out" / "cases").iterdir()
    return path


def test_three_segments_around_each_other(case: Path, dciodvfy: str) -> None:
    record = json.loads((case / "result.json").read_text())
    path = case / record["files"]["contours_seg"]
    assert findings(dciodvfy, path) == []
    seg = highdicom.seg.segread(path)
    assert [one.SegmentLabel.rpartition(", ")[2] for one in seg.SegmentSequence] == [
        "inner contour", "best contour", "outer contour"
    ]  # fmt: skip
    assert [one.TrackingID.rpartition("_")[2] for one in seg.SegmentSequence] == ["inner", "best", "outer"]
    assert "at most 0.1 of the lesion's pixels" in seg.SegmentSequence[2].SegmentDescription
    voxels = [int(seg.get_pixels_by_source_instance(_sources(seg), segment_numbers=[n]).sum()) if case.name else 0
              for n in (1, 2, 3)]  # fmt: skip
    contours = record["trust"]["contours"]
    assert voxels == [contours["inner_voxels"], record["voxels"], contours["outer_voxels"]]
    assert 0 < voxels[0] < voxels[1] < voxels[2]


def _sources(seg: pydicom.Dataset) -> list[str]:
    return [str(one.ReferencedSOPInstanceUID) for one in seg.ReferencedSeriesSequence[0].ReferencedInstanceSequence]


def test_the_files_agree_with_the_masks(case: Path) -> None:
    files = json.loads((case / "result.json").read_text())["files"]
    if files["mask"].endswith(".nii.gz"):
        inner, best, outer = (np.asarray(nib.load(case / files[k]).dataobj) > 0 for k in ("inner", "mask", "outer"))
        assert (inner <= best).all()
        assert (best <= outer).all()
    header, row = (case / files["lesions"]).read_text().splitlines()[:2]
    first = dict(zip(header.split(","), row.split(","), strict=True))
    assert float(first["size_inner"]) <= float(first["size"]) <= float(first["size_outer"])
