"""Headers of volumes that mean something else than a library takes them for."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from monai_tpseg.catalogue import Modality
from monai_tpseg.io import ReadError
from monai_tpseg.results import Status
from monai_tpseg.results.measurements import flags_of, outcome_with
from monai_tpseg.transforms import LoadMedicalImage

VALUES = np.arange(10 * 9 * 8, dtype=np.int16).reshape(10, 9, 8)
EDGES = (2.0, 3.0, 4.0)


def nifti(path: Path, edit: Callable[[Any], None]) -> Path:
    """A volume whose header is changed where it lies."""
    nib.save(nib.Nifti1Image(VALUES, np.diag([*EDGES, 1])), path)
    content = path.read_bytes()
    header = nib.Nifti1Header(content[:348], check=False)
    edit(header)
    path.write_bytes(header.binaryblock + content[348:])
    return path


def change(**fields: Any) -> Callable[[Any], None]:
    def edit(header: Any) -> None:
        for name, value in fields.items():
            header[name] = value

    return edit


def metaimage(path: Path, fields: str, data: bytes, kind: str = "MET_SHORT") -> Path:
    head = f"ObjectType = Image\nNDims = 3\nBinaryData = True\nDimSize = 10 9 8\nElementType = {kind}\n"
    path.write_bytes(f"{head}ElementSpacing = 2 3 4\n{fields}ElementDataFile = LOCAL\n".encode() + data)
    return path


def refused(path: Path) -> str:
    with pytest.raises(ReadError) as caught:
        LoadMedicalImage()(path)
    return caught.value.code


@pytest.mark.parametrize("begin", [16, 347, -1, np.nan, 1e30])
def test_voxels_do_not_begin_inside_of_the_header(tmp_path: Path, begin: float) -> None:
    """nibabel hands out the header's own bytes as voxels."""
    assert refused(nifti(tmp_path / "a.nii", change(vox_offset=begin))) == "E_DECODE"


def test_voxels_whose_place_is_not_stated_follow_the_header(tmp_path: Path) -> None:
    image = LoadMedicalImage(plane="stored")(nifti(tmp_path / "a.nii", change(vox_offset=0)))
    assert np.array_equal(image[0].numpy(), VALUES.transpose(1, 0, 2))
    (tmp_path / "a.nii.gz").write_bytes(gzip.compress((tmp_path / "a.nii").read_bytes()))
    packed = LoadMedicalImage(plane="stored")(tmp_path / "a.nii.gz")
    assert np.array_equal(packed[0].numpy(), VALUES.transpose(1, 0, 2))


@pytest.mark.parametrize(
    ("slope", "inter", "factor"),
    [(np.nan, 5, (1, 0)), (0, 5, (1, 0)), (2, -5, (2, -5)), (-1, 0, (-1, 0)), (np.inf, 0, None), (2, np.nan, None)],
)
def test_scale_of_nifti(tmp_path: Path, slope: float, inter: float, factor: tuple[int, int] | None) -> None:
    path = nifti(tmp_path / "a.nii", change(scl_slope=slope, scl_inter=inter))
    if factor is None:
        assert refused(path) == "E_FORMAT"
        return
    image = LoadMedicalImage(plane="stored")(path)
    assert np.array_equal(image[0].numpy(), VALUES.transpose(1, 0, 2) * factor[0] + factor[1])


@pytest.mark.parametrize(
    ("unit", "scale"), [(0, 1.0), (1, 1000.0), (2, 1.0), (3, 0.001), (10, 1.0), (5, None), (7, None)]
)
def test_units_of_nifti(tmp_path: Path, unit: int, scale: float | None) -> None:
    meta = LoadMedicalImage(plane="stored")(nifti(tmp_path / "a.nii", change(xyzt_units=unit))).meta
    if scale is None:
        assert "spacing" not in meta
    else:
        np.testing.assert_allclose(meta["spacing"], np.array([3, 2, 4]) * scale, rtol=1e-6)


@pytest.mark.parametrize(
    ("fields", "doubtful"),
    [
        ({}, False),
        ({"pixdim": [1, 2.0001, 3, 4, 0, 0, 0, 0]}, False),  # 1 micrometre at the far edge
        ({"pixdim": [1, 2.02, 3, 4, 0, 0, 0, 0]}, True),  # 0.2 mm
        ({"pixdim": [1, 1, 1, 1, 0, 0, 0, 0]}, True),
        ({"pixdim": [1, 0, np.nan, 4, 0, 0, 0, 0]}, False),  # not stated
        ({"pixdim": [-1, -2, 3, 4, 0, 0, 0, 0]}, False),
        ({"pixdim": [1, 1, 1, 1, 0, 0, 0, 0], "sform_code": 0, "qform_code": 1}, False),  # one statement
        ({"srow_x": [0, 3, 0, 0], "srow_y": [2, 0, 0, 0]}, False),  # turned
        ({"srow_x": [20, 0, 0, 0]}, True),
    ],
)
def test_two_sizes_in_one_header_are_for_review(tmp_path: Path, fields: dict[str, Any], doubtful: bool) -> None:
    meta = LoadMedicalImage()(nifti(tmp_path / "a.nii", change(**fields))).meta
    assert meta.get("geometry_doubtful", False) == doubtful
    outcome = outcome_with(flags_of(np.zeros((9, 9)), [], meta, Modality.MRI), 0)
    assert (outcome.status is Status.REVIEW) == doubtful
    assert ("doubtful_size" in outcome.flags) == doubtful


@pytest.mark.parametrize(
    ("fields", "factor"),
    [
        ("", (1, 0)),
        ("ElementToIntensityFunctionSlope = 2\nElementToIntensityFunctionOffset = -1000\n", (2, -1000)),
        ("ElementToIntensityFunctionOffset = 7\n", (1, 7)),
        ("ElementToIntensityFunctionSlope = 0\n", None),
        ("ElementToIntensityFunctionSlope = x\n", None),
    ],
)
def test_scale_of_metaimage(tmp_path: Path, fields: str, factor: tuple[int, int] | None) -> None:
    path = metaimage(tmp_path / "a.mha", fields, VALUES.T.tobytes())
    if factor is None:
        assert refused(path) == "E_FORMAT"
        return
    image = LoadMedicalImage(plane="stored")(path)
    assert np.array_equal(image[0].numpy(), VALUES.transpose(1, 0, 2) * factor[0] + factor[1])


def test_a_long_of_metaimage_has_four_bytes(tmp_path: Path) -> None:
    right = metaimage(tmp_path / "a.mha", "", VALUES.T.astype("<i4").tobytes(), "MET_LONG")
    assert np.array_equal(LoadMedicalImage(plane="stored")(right)[0].numpy(), VALUES.transpose(1, 0, 2))
    assert refused(metaimage(tmp_path / "b.mha", "", VALUES.T.astype("<i8").tobytes(), "MET_LONG")) == "E_DECODE"


@pytest.mark.parametrize("image_class", [nib.Nifti1Pair, nib.AnalyzeImage])
def test_a_half_of_a_pair_is_called_so(tmp_path: Path, image_class: Any) -> None:
    nib.save(image_class(np.zeros((4, 5, 6), np.int16), np.eye(4)), tmp_path / "a.img")
    for name in ("a.hdr", "a.img"):
        with pytest.raises(ReadError, match=rf"^{name} is one of a pair \(\.hdr and \.img\)") as caught:
            LoadMedicalImage()(tmp_path / name)
        assert caught.value.code == "E_FORMAT"
