"""A geometry that programs read differently is for review; rounding is not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from scipy.spatial.transform import Rotation

from monai_tpseg.io.nifti_forms import geometry_disagrees
from monai_tpseg.results.measurements import measure_lesions
from monai_tpseg.segment import find_lesions
from monai_tpseg.transforms import LoadMedicalImage

VALUES = np.arange(10 * 9 * 8, dtype=np.int16).reshape(10, 9, 8)
EDGES = np.array([0.8, 1.5, 3.0])
FIRST = np.array([-40.0, 25.0, 110.0])


def header(
    sform: Rotation,
    qform: Rotation,
    *,
    codes: tuple[int, int] = (1, 1),
    mirror: tuple[int, int] = (1, 1),
    shift: tuple[float, float, float] = (0, 0, 0),
    unit: int = 2,
    shape: tuple[int, ...] = VALUES.shape,
) -> Any:
    """A header with both forms; the quaternion is SciPy's, and `shift` moves the qform."""
    found = nib.Nifti1Header()
    found.set_data_shape(shape)
    found.set_data_dtype(np.int16)
    found["sform_code"], found["qform_code"], found["xyzt_units"] = *codes, unit
    found["pixdim"][:4] = [mirror[1], *EDGES]
    axes = sform.as_matrix() * EDGES * [1, 1, mirror[0]]
    for name, row, place in zip("xyz", axes, FIRST, strict=True):
        found[f"srow_{name}"] = [*row, place]
    x, y, z, w = qform.as_quat() * (1 if qform.as_quat()[3] >= 0 else -1)
    assert w >= 0
    found["quatern_b"], found["quatern_c"], found["quatern_d"] = x, y, z
    found["qoffset_x"], found["qoffset_y"], found["qoffset_z"] = FIRST + shift
    return found


def saved(path: Path, found: Any) -> Path:
    found["vox_offset"], found["magic"] = 352, b"n+1"
    path.write_bytes(found.binaryblock + bytes(4) + VALUES.tobytes(order="F"))
    return path


@pytest.mark.parametrize("codes", [(1, 1), (2, 1), (1, 2), (4, 1)])
@pytest.mark.parametrize("mirror", [1, -1])
def test_two_equal_forms_are_no_doubt(codes: tuple[int, int], mirror: int) -> None:
    """Half turns are the worst: there, the quaternion's first part is lost in single precision."""
    rng = np.random.default_rng(0)
    turns = [Rotation.from_rotvec(np.pi * axis) for axis in np.eye(3)]
    for axis in rng.normal(size=(20, 3)):
        unit = axis / np.linalg.norm(axis)
        turns += [Rotation.from_rotvec(unit * angle) for angle in (rng.uniform(0, 3), np.pi - 1e-4, np.pi)]
    for turn in turns:
        assert not geometry_disagrees(header(turn, turn, codes=codes, mirror=(mirror, mirror)))


@pytest.mark.parametrize("codes", [(1, 1), (2, 1), (1, 2), (4, 1)])
@pytest.mark.parametrize(
    ("degrees", "shift", "mirror", "unit", "doubtful"),
    [
        (0.9, 0.0, (1, 1), 2, False),
        (1.1, 0.0, (1, 1), 2, True),
        (90, 0.0, (1, 1), 2, True),
        (0, 0.09, (1, 1), 2, False),
        (0, 0.11, (1, 1), 2, True),
        (0, 0.09e-3, (1, 1), 1, False),  # in metres
        (0, 0.11e-3, (1, 1), 1, True),
        (0, 90, (1, 1), 3, False),  # in micrometres
        (0, 110, (1, 1), 3, True),
        (0, 0.0, (1, -1), 2, True),
        (0, 0.0, (-1, 1), 2, True),
        (0, np.nan, (1, 1), 2, True),
    ],
)
def test_two_forms_that_contradict_each_other(
    codes: tuple[int, int], degrees: float, shift: float, mirror: tuple[int, int], unit: int, doubtful: bool
) -> None:
    turns = Rotation.identity(), Rotation.from_euler("z", degrees, degrees=True)
    found = header(*turns, codes=codes, shift=(0, shift, 0), mirror=mirror, unit=unit)
    assert geometry_disagrees(found) == doubtful


def test_only_coded_forms_count() -> None:
    turns = Rotation.identity(), Rotation.from_euler("z", 90, degrees=True)
    assert not geometry_disagrees(header(*turns, codes=(2, 0)))
    assert not geometry_disagrees(header(*turns, codes=(0, 1)))
    assert geometry_disagrees(header(*turns, codes=(0, 0)))


def test_the_direction_of_one_slice_moves_nothing() -> None:
    turn = Rotation.identity()
    assert not geometry_disagrees(header(turn, turn, mirror=(1, -1), shape=(10, 9, 1)))


def test_the_sform_is_used_where_itk_takes_the_qform(tmp_path: Path) -> None:
    """What ITK reads is elsewhere, although both programs read the file without a word."""
    turns = Rotation.identity(), Rotation.from_euler("z", 90, degrees=True)
    path = saved(tmp_path / "a.nii", header(*turns, codes=(2, 1)))
    image = LoadMedicalImage(plane="stored")(path)
    assert image.meta["geometry_doubtful"]
    np.testing.assert_allclose(image.meta["original_affine"][:3], np.column_stack([np.diag(EDGES), FIRST]), rtol=1e-6)
    other = np.array(sitk.ReadImage(str(path)).GetDirection()).reshape(3, 3)
    assert np.abs(np.diag([-1, -1, 1]) @ other - np.eye(3)).max() > 0.9


def shear(degrees: float) -> np.ndarray[Any, np.dtype[Any]]:
    """(3, 3) axes in columns: the stack leans towards y, as with a tilted gantry."""
    axes = np.diag(EDGES)
    axes[1, 2] = EDGES[2] * np.tan(np.radians(degrees))
    return axes


def sheared_nifti(folder: Path, degrees: float, codes: tuple[int, int] = (1, 0)) -> Path:
    found = header(Rotation.identity(), Rotation.identity(), codes=codes)
    for name, row, place in zip("xyz", shear(degrees), FIRST, strict=True):
        found[f"srow_{name}"] = [*row, place]
    found["pixdim"][3] = np.linalg.norm(shear(degrees)[:, 2])
    return saved(folder / "a.nii", found)


def sheared_nrrd(folder: Path, degrees: float) -> Path:
    vectors = " ".join(f"({','.join(map(str, vector))})" for vector in shear(degrees).T)
    head = "NRRD0005\ntype: int16\ndimension: 3\nsizes: 10 9 8\nendian: little\nencoding: raw\nspace: RAS\n"
    (folder / "a.nrrd").write_bytes(f"{head}space directions: {vectors}\n\n".encode() + VALUES.tobytes(order="F"))
    return folder / "a.nrrd"


def sheared_metaimage(folder: Path, degrees: float) -> Path:
    units = (shear(degrees) / np.linalg.norm(shear(degrees), axis=0)).T
    edges = np.linalg.norm(shear(degrees), axis=0)
    head = "ObjectType = Image\nNDims = 3\nBinaryData = True\nDimSize = 10 9 8\nElementType = MET_SHORT\n"
    head += f"ElementSpacing = {' '.join(map(str, edges))}\nTransformMatrix = {' '.join(map(str, units.ravel()))}\n"
    (folder / "a.mha").write_bytes(f"{head}ElementDataFile = LOCAL\n".encode() + VALUES.tobytes(order="F"))
    return folder / "a.mha"


@pytest.mark.parametrize(("degrees", "doubtful"), [(0, False), (0.9, False), (1.1, True), (18, True)])
@pytest.mark.parametrize("write", [sheared_nifti, sheared_nrrd, sheared_metaimage])
def test_sheared_axes_are_for_review(tmp_path: Path, write: Any, degrees: float, doubtful: bool) -> None:
    image = LoadMedicalImage(plane="stored")(write(tmp_path, degrees))
    assert image.meta.get("geometry_doubtful", False) == doubtful
    mask = np.zeros(image.shape[1:], dtype=np.uint8)
    mask[2:5, 3:6, 1:3] = 1
    (lesion,) = measure_lesions(find_lesions(mask, image.meta), mask.astype(np.float32), image.meta, "brain_tumor", "a")
    # the distance of the planes counts, not the length of the oblique step
    assert lesion.size == pytest.approx(18 * EDGES.prod(), rel=1e-5)
