"""Lengths of a header become millimetres; what it does not state is unknown, and never 1 mm."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk

from monai_tpseg.io import ReadError
from monai_tpseg.io.lengths import millimetres
from monai_tpseg.results.measurements import measure_lesions
from monai_tpseg.segment import find_lesions
from monai_tpseg.transforms import LoadMedicalImage, MaskWriter

Array = np.ndarray[Any, np.dtype[Any]]
VALUES = np.arange(16 * 20 * 8, dtype=np.int16).reshape(16, 20, 8)
EDGES = np.array([0.8, 1.5, 3.0])
ORIGIN = np.array([-40.0, 25.0, 110.0])


def nifti(path: Path, scale: float, unit: int, coded: str, edges: Array = EDGES) -> Path:
    """A NIfTI-1 whose place is stated by its sform, its qform, both or none, in a unit of `scale` to the millimetre."""
    affine = np.diag([*(np.where(np.isfinite(edges) & (edges > 0), edges, 1) * scale), 1.0])
    affine[:3, 3] = ORIGIN * scale
    image = nib.Nifti1Image(VALUES, affine)
    image.header["xyzt_units"] = unit
    image.header["pixdim"][1:4] = edges * scale
    image.header["sform_code"] = int(coded in ("sform", "both"))
    image.header["qform_code"] = int(coded in ("qform", "both"))
    path.write_bytes(image.header.binaryblock + bytes(4) + VALUES.tobytes(order="F"))
    return path


@pytest.mark.parametrize("coded", ["sform", "qform", "both", "none"])
@pytest.mark.parametrize(("unit", "scale"), [(1, 1e-3), (2, 1.0), (3, 1e3), (0, 1.0), (2 + 8, 1.0), (3 + 16, 1e3)])
def test_nifti_units_are_obeyed(tmp_path: Path, unit: int, scale: float, coded: str) -> None:
    path = nifti(tmp_path / "a.nii", scale, unit, coded)
    image = LoadMedicalImage(plane="stored")(path)
    np.testing.assert_allclose(image.meta["spacing"], EDGES[[1, 0, 2]], rtol=1e-6)
    if coded == "none":
        return
    np.testing.assert_allclose(image.meta["original_affine"][:3, 3], ORIGIN, rtol=1e-6)
    MaskWriter(tmp_path / "out", save_overlay=False).write((image[:1] > 5).float(), None, image.meta, "brain_tumor")
    (mask,) = (tmp_path / "out").glob("*.nii.gz")
    written, source = sitk.ReadImage(str(mask)), sitk.ReadImage(str(path))  # both in millimetres
    np.testing.assert_allclose(written.GetSpacing(), source.GetSpacing())
    np.testing.assert_allclose(written.GetOrigin(), source.GetOrigin())


def nrrd(path: Path, *fields: str, sizes: str = "16 20 8") -> Path:
    count = len(sizes.split())
    head = ["NRRD0005", "type: int16", f"dimension: {count}", f"sizes: {sizes}", "endian: little", "encoding: raw"]
    path.write_bytes(("\n".join([*head, *fields]) + "\n\n").encode() + VALUES.tobytes(order="F"))
    return path


def metaimage(path: Path, *fields: str) -> Path:
    head = ["ObjectType = Image", "NDims = 3", "BinaryData = True", "CompressedData = False", *fields]
    head += ["DimSize = 16 20 8", "ElementType = MET_SHORT", "ElementDataFile = LOCAL"]
    path.write_bytes(("\n".join(head) + "\n").encode() + VALUES.tobytes(order="F"))
    return path


DIRECTIONS = "space directions: (0.8,0,0) (0,1.5,0) (0,0,3)"


@pytest.mark.parametrize(
    ("fields", "edges"),
    [
        (("space: left-posterior-superior", DIRECTIONS), (0.8, 1.5, 3)),
        (("space: left-posterior-superior", DIRECTIONS, 'space units: "cm" "cm" "cm"'), (8, 15, 30)),
        (("space dimension: 3", DIRECTIONS, 'space units: "um" "um" "mm"'), (8e-4, 1.5e-3, 3)),
        (("spacings: 0.8 1.5 3", 'units: "mm" "cm" "microns"'), (0.8, 15, 3e-3)),
        (("spacings: 0.8 1.5 3", 'units: "\u00b5m" "\u00b5m" "\u00b5m"'), (8e-4, 1.5e-3, 3e-3)),
        (("spacings: 0.8 1.5 3",), (0.8, 1.5, 3)),
        (("spacings: 0.8 1.5 nan",), None),
        (("spacings: nan nan nan",), None),
        (("spacings: 0.8 1.5 3", 'units: "px" "px" "px"'), None),
        (("space: left-posterior-superior", "space directions: (0.8,0,0) (0,1.5,0) none"), None),
        (("space: LPS", DIRECTIONS.replace(" d", "d"), 'spaceunits: "cm" "cm" "cm"'), (8, 15, 30)),
        ((), None),
    ],
)
def test_nrrd(tmp_path: Path, fields: tuple[str, ...], edges: tuple[float, ...] | None) -> None:
    image = LoadMedicalImage(plane="stored")(nrrd(tmp_path / "a.nrrd", *fields))
    np.testing.assert_array_equal(image[0].numpy(), VALUES.transpose(1, 0, 2))
    if edges is None:
        assert "spacing" not in image.meta
    else:
        np.testing.assert_allclose(image.meta["spacing"], np.array(edges)[[1, 0, 2]], rtol=1e-6)


@pytest.mark.parametrize(
    ("fields", "edges"),
    [
        (("ElementSpacing = 0.8 1.5 3",), (0.8, 1.5, 3)),
        (("ElementSpacing = 0.8 1.5 3", "DistanceUnits = cm"), (8, 15, 30)),
        (("DistanceUnits = um", "ElementSize = 0.8 1.5 3"), (8e-4, 1.5e-3, 3e-3)),
        (("ElementSpacing = 0.8 1.5 3", "DistanceUnits = furlong"), None),
        (("ElementSpacing\t= 0.8 1.5 3", "DistanceUnits\t=\tum"), (8e-4, 1.5e-3, 3e-3)),
        (("ElementSpacing: 0.8 1.5 3", "DistanceUnits: cm"), (8, 15, 30)),
        (("Elementspacing = 0.8 1.5 3",), None),  # ITK knows no such name
        ((), None),
    ],
)
def test_metaimage(tmp_path: Path, fields: tuple[str, ...], edges: tuple[float, ...] | None) -> None:
    image = LoadMedicalImage(plane="stored")(metaimage(tmp_path / "a.mha", *fields))
    if edges is None:
        assert "spacing" not in image.meta
    else:
        np.testing.assert_allclose(image.meta["spacing"], np.array(edges)[[1, 0, 2]], rtol=1e-6)


def test_what_itk_cannot_read_has_its_reason(tmp_path: Path) -> None:
    for path in (
        metaimage(tmp_path / "a.mha", "ElementSpacing = 0.8 1.5 0"),
        metaimage(tmp_path / "b.mha", "ElementSpacing = 0.8 1.5 nan"),
        nrrd(tmp_path / "a.nrrd", "spacings: 0.8 1.5 0"),
        nrrd(tmp_path / "b.nrrd", "spacings: 0.8 inf 3"),
        nrrd(tmp_path / "c.nrrd", "space dimension: 3", "space directions: (1,0,0) (0,1,0) (0,0,nan)"),
    ):
        with pytest.raises(ReadError, match=r"voxel edge of (0|nan|inf)") as caught:
            LoadMedicalImage()(path)
        assert caught.value.code == "E_GEOMETRY"


@pytest.mark.parametrize("wrong", [0.0, np.nan, np.inf])
@pytest.mark.parametrize("coded", ["qform", "none"])
def test_unknown_edges_of_a_nifti_give_sizes_in_pixels(tmp_path: Path, wrong: float, coded: str) -> None:
    image = LoadMedicalImage()(nifti(tmp_path / "a.nii", 1.0, 2, coded, np.array([0.8, 1.5, wrong])))
    assert "spacing" not in image.meta
    mask = np.zeros(image.shape[1:], dtype=np.uint8)
    mask[2:5, 3:6, 1:3] = 1
    (lesion,) = measure_lesions(find_lesions(mask, image.meta), mask.astype(np.float32), image.meta, "brain_tumor", "a")
    assert (lesion.size, lesion.size_unit, lesion.diameter_unit) == (18, "px", "px")
    assert lesion.right_mm is None


def test_the_sform_states_all_edges(tmp_path: Path) -> None:
    path = nifti(tmp_path / "a.nii", 1.0, 2, "sform")
    content = bytearray(path.read_bytes())
    content[76 + 4 : 76 + 16] = bytes(12)  # pixdim 1 to 3
    path.write_bytes(content)
    np.testing.assert_allclose(LoadMedicalImage(plane="stored")(path).meta["spacing"], EDGES[[1, 0, 2]], rtol=1e-6)


@pytest.mark.parametrize("unit", ["mm", "micron"])
def test_a_nifti_of_two_axes_says_nothing_of_thickness(tmp_path: Path, unit: str) -> None:
    """nibabel writes 1 where the third edge would be: with it, a lesion would have a volume."""
    image = nib.Nifti1Image(VALUES[:, :, 0], np.diag([0.8, 1.5, 1, 1]))
    image.header.set_xyzt_units(unit)
    nib.save(image, tmp_path / "a.nii.gz")
    assert "spacing" not in LoadMedicalImage()(tmp_path / "a.nii.gz").meta


@pytest.mark.parametrize("scale", [1e-9, 1e6])
def test_absurd_sizes_are_refused(tmp_path: Path, scale: float) -> None:
    with pytest.raises(ReadError, match="correct its spacing or units") as caught:
        LoadMedicalImage()(nifti(tmp_path / "a.nii", scale, 2, "qform"))
    assert caught.value.code == "E_GEOMETRY"


def test_a_quaternion_too_long_by_rounding(tmp_path: Path) -> None:
    """(b, c, d) of a half turn about (1, 2, 2) / 3, stretched: the standard's own code takes it for the half turn."""
    path = nifti(tmp_path / "a.nii", 1.0, 2, "qform")
    header = nib.Nifti1Header(path.read_bytes()[:348], check=False)
    stretched = np.array([1, 2, 2]) / 3 * np.sqrt(1 + 1e-6)
    header["quatern_b"], header["quatern_c"], header["quatern_d"] = stretched
    path.write_bytes(header.binaryblock + path.read_bytes()[348:])
    image = LoadMedicalImage(plane="stored")(path)
    axis = np.array([1, 2, 2]) / 3
    half_turn = 2 * np.outer(axis, axis) - np.eye(3)
    np.testing.assert_allclose(image.meta["original_affine"][:3, :3], half_turn * EDGES, atol=1e-5)


def test_a_quaternion_of_another_length_is_no_rotation(tmp_path: Path) -> None:
    path = nifti(tmp_path / "a.nii", 1.0, 2, "qform")
    header = nib.Nifti1Header(path.read_bytes()[:348], check=False)
    header["quatern_b"] = 1.2
    path.write_bytes(header.binaryblock + path.read_bytes()[348:])
    with pytest.raises(ReadError) as caught:
        LoadMedicalImage()(path)
    assert caught.value.code == "E_GEOMETRY"


def test_names_of_units() -> None:
    assert [millimetres(unit) for unit in ("MM", " cm ", "\u03bcm", "Meter", "", "pixel")] == [
        1,
        10,
        1e-3,
        1e3,
        1,
        None,
    ]
