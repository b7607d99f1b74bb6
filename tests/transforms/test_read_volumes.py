"""NIfTI and NRRD: values and places against nibabel and SimpleITK, orientation against the patient's axes."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk

from monai_tpseg.io import ReadError
from monai_tpseg.transforms import LoadMedicalImage, MaskWriter

Array = np.ndarray[Any, np.dtype[Any]]


def in_patient(shape: tuple[int, ...], affine: Array) -> Array:
    """Return an image whose value says where in the patient a voxel lies: right to left 1, back 100, up 10000."""
    indices = np.stack([*np.indices(shape), np.ones(shape)], axis=-1)
    x, y, z = (indices @ affine.T)[..., :3].transpose(3, 0, 1, 2)
    values: Array = (-x - 100 * y + 10000 * z).astype(np.float32)  # RAS -> left, posterior, superior
    return values


def rotation(degrees: float) -> Array:
    """A rotation about an oblique axis."""
    axis = np.array([1.0, 2.0, -1.0]) / np.sqrt(6)
    cross = np.array([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]])
    angle = np.radians(degrees)
    matrix: Array = np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross
    return matrix


def test_axial_rows_run_to_the_back_and_columns_to_the_left(tmp_path: Path) -> None:
    for codes in ("RAS", "LPS", "LAS", "SPR", "ALI"):
        affine = np.diag([1.0, 1.0, 1.0, 1.0])
        affine[:3, 3] = [-4, 7, 3]
        ras = nib.Nifti1Image(in_patient((5, 6, 7), affine), affine)
        turn = nib.orientations.ornt_transform(nib.io_orientation(affine), nib.orientations.axcodes2ornt(codes))
        nib.save(ras.as_reoriented(turn), tmp_path / f"{codes}.nii.gz")
        image = LoadMedicalImage()(tmp_path / f"{codes}.nii.gz")[0].numpy()
        assert image.shape == (6, 5, 7), codes
        np.testing.assert_array_equal(np.diff(image, axis=0), 100, err_msg=codes)
        np.testing.assert_array_equal(np.diff(image, axis=1), 1, err_msg=codes)
        np.testing.assert_array_equal(np.diff(image, axis=2), 10000, err_msg=codes)


@pytest.mark.parametrize(
    ("spacing", "plane", "steps"),
    [
        ((1, 1, 1), "axial", (100, 1, 10000)),
        ((1, 1, 1.4), "axial", (100, 1, 14000)),
        ((3, 1, 1), "sagittal", (-10000, 100, 3)),
        ((1, 3, 1), "coronal", (-10000, 1, 300)),
        ((1, 1.4, 1), "axial", (140, 1, 10000)),
        ((1, 1.5, 1), "coronal", (-10000, 1, 150)),
    ],
)
def test_the_coarse_axis_is_the_slice_axis(
    tmp_path: Path, spacing: tuple[float, ...], plane: str, steps: tuple[float, ...]
) -> None:
    affine = np.diag([*spacing, 1.0])
    nib.save(nib.Nifti1Image(in_patient((5, 6, 7), affine), affine), tmp_path / "a.nii")
    image = LoadMedicalImage()(tmp_path / "a.nii")
    assert image.meta["plane"] == plane
    for axis, step in enumerate(steps):
        np.testing.assert_allclose(np.diff(image[0].numpy(), axis=axis), step, rtol=1e-4)


def test_a_plane_can_be_asked_for(tmp_path: Path) -> None:
    affine = np.diag([1.0, 1.0, 4.0, 1.0])
    stored = in_patient((5, 6, 7), affine)
    nib.save(nib.Nifti1Image(stored, affine), tmp_path / "a.nii")
    assert LoadMedicalImage(plane="sagittal")(tmp_path / "a.nii").shape == (3, 7, 6, 5)
    assert LoadMedicalImage(plane="coronal")(tmp_path / "a.nii").shape == (3, 7, 5, 6)
    as_stored = LoadMedicalImage(plane="stored")(tmp_path / "a.nii")[0].numpy()
    np.testing.assert_array_equal(as_stored, stored.transpose(1, 0, 2))
    with pytest.raises(ValueError, match="Unknown plane 'oblique'"):
        LoadMedicalImage(plane="oblique")  # type: ignore[arg-type]


def test_each_voxel_keeps_its_place(tmp_path: Path) -> None:
    """The affine that comes with the tensor leads to the same millimetres, oblique and mirrored grids included."""
    for n, base in enumerate((np.diag([0.7, 0.8, 3.0]), np.diag([-0.7, 0.8, 3.0]), rotation(25) @ np.diag([2, 1, 1]))):
        affine = np.eye(4)
        affine[:3, :3], affine[:3, 3] = base, [12.5, -7.25, 40.0]
        nib.save(nib.Nifti1Image(in_patient((5, 6, 7), affine), affine), tmp_path / f"{n}.nii.gz")
        image = LoadMedicalImage()(tmp_path / f"{n}.nii.gz")
        expected = in_patient(tuple(image.shape[1:]), image.affine.numpy())
        np.testing.assert_allclose(image[0].numpy(), expected, rtol=1e-4, atol=1.0)
        np.testing.assert_allclose(image.meta["original_affine"], affine, atol=1e-5)
        assert list(image.meta["source_shape"]) == [5, 6, 7]


def test_scale_dtype_and_byte_order_follow_nibabel(tmp_path: Path) -> None:
    stored = np.random.default_rng(0).integers(-900, 900, (5, 6, 7)).astype(">i2")
    header = nib.Nifti1Header(endianness=">")
    header.set_data_dtype(">i2")
    image = nib.Nifti1Image(stored, np.eye(4), header)
    image.header.set_slope_inter(0.5, -10)
    nib.save(image, tmp_path / "a.nii.gz")
    found = LoadMedicalImage(plane="stored")(tmp_path / "a.nii.gz")
    expected = nib.load(tmp_path / "a.nii.gz").get_fdata()
    np.testing.assert_allclose(found[0].numpy(), expected.transpose(1, 0, 2), rtol=1e-5)
    assert found.meta["intensity"] == "physical"


def test_unsigned_bytes_are_a_picture(tmp_path: Path, letter_volume: Array) -> None:
    nib.save(nib.Nifti1Image(letter_volume * np.uint8(200), np.eye(4)), tmp_path / "a.nii.gz")
    assert LoadMedicalImage()(tmp_path / "a.nii.gz").meta["intensity"] == "display"
    assert LoadMedicalImage(intensity="physical")(tmp_path / "a.nii.gz").meta["intensity"] == "physical"


def test_flat_and_trailing_dimensions(tmp_path: Path, letter: Array) -> None:
    flat = letter.astype(np.float32)
    for name, array in (("two", flat), ("one", flat[..., None]), ("five", flat[..., None, None, None])):
        nib.save(nib.Nifti1Image(array, np.eye(4)), tmp_path / f"{name}.nii.gz")
        image = LoadMedicalImage("image", "stored")(tmp_path / f"{name}.nii.gz")
        np.testing.assert_array_equal(image[0, :, :, 0].numpy(), letter.T)
        assert image.meta["source_kind"] == "volume"
    sagittal = nib.Nifti1Image(flat[None], np.eye(4))
    nib.save(sagittal, tmp_path / "thin.nii.gz")
    assert LoadMedicalImage()(tmp_path / "thin.nii.gz").meta["plane"] == "sagittal"


def test_nan_is_no_data_just_below_the_smallest_value(tmp_path: Path) -> None:
    values = np.arange(8, dtype=np.float32).reshape(2, 2, 2) - 3
    values[1, 1, 1], values[0, 0, 1] = np.nan, np.inf
    nib.save(nib.Nifti1Image(values, np.eye(4)), tmp_path / "a.nii")
    image = LoadMedicalImage(plane="stored")(tmp_path / "a.nii")
    assert -3.001 < image[0, 1, 1, 1] < -3
    assert image.meta["no_data"] == image[0, 1, 1, 1]
    assert image[0, 0, 0, 1] == 3
    assert image.meta["non_finite"] == 2


@pytest.mark.parametrize(
    ("shape", "affine", "code"),
    [
        ((4, 4, 4, 3), np.eye(4), "E_4D"),
        ((4, 4, 1, 1, 3), np.eye(4), "E_4D"),
        ((4, 4, 4), np.diag([1.0, 0.0, 1.0, 1.0]), "E_GEOMETRY"),
    ],
)
def test_bad_niftis_give_a_code(tmp_path: Path, shape: tuple[int, ...], affine: Array, code: str) -> None:
    image = nib.Nifti1Image(np.zeros(shape, dtype=np.int16), None)
    image.header.set_sform(affine, code=2)
    nib.save(image, tmp_path / "a.nii")
    with pytest.raises(ReadError) as caught:
        LoadMedicalImage()(tmp_path / "a.nii")
    assert caught.value.code == code
    assert "\n" not in str(caught.value)


def test_cut_and_false_files_give_a_code(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 9999, (16, 16, 16)).astype(np.int16)
    nib.save(nib.Nifti1Image(noise, np.eye(4)), tmp_path / "a.nii.gz")
    nib.save(nib.Nifti1Image(noise, np.eye(4)), tmp_path / "a.nii")
    for name in ("a.nii.gz", "a.nii"):
        content = (tmp_path / name).read_bytes()
        (tmp_path / f"cut_{name}").write_bytes(content[: len(content) // 2])
        with pytest.raises(ReadError) as caught:
            LoadMedicalImage()(tmp_path / f"cut_{name}")
        assert caught.value.code == "E_TRUNCATED"
    for name in ("b.nii.gz", "b.nii", "b.nrrd", "b.mha"):
        noise_bytes, text = noise.tobytes()[:1000], b"this is not a volume at all, however long it may be" * 20
        for content, code in ((noise_bytes, "E_DECODE"), (text, "E_FORMAT")):
            (tmp_path / name).write_bytes(content)
            with pytest.raises(ReadError) as caught:
                LoadMedicalImage()(tmp_path / name)
            assert caught.value.code == code


@pytest.mark.parametrize("suffix", ["nrrd", "mha"])
def test_itk_formats_agree_with_the_nifti_that_simpleitk_writes(tmp_path: Path, suffix: str) -> None:
    values = np.random.default_rng(1).integers(-1000, 1000, (7, 6, 5)).astype(np.int16)
    image = sitk.GetImageFromArray(values)
    image.SetSpacing((0.7, 0.8, 3.0))
    image.SetOrigin((10.0, -20.0, 30.5))
    image.SetDirection(rotation(20).ravel().tolist())
    for name in (f"a.{suffix}", "a.nii.gz"):
        sitk.WriteImage(image, str(tmp_path / name))
    found, expected = (LoadMedicalImage()(tmp_path / name) for name in (f"a.{suffix}", "a.nii.gz"))
    np.testing.assert_array_equal(found.numpy(), expected.numpy())
    np.testing.assert_allclose(found.affine, expected.affine, atol=1e-4)
    assert list(found.meta["source_shape"]) == [5, 6, 7]


def test_colour_volumes_keep_their_channels(tmp_path: Path) -> None:
    values = np.random.default_rng(1).integers(0, 255, (7, 6, 5, 3), dtype=np.uint8)
    sitk.WriteImage(sitk.GetImageFromArray(values, isVector=True), str(tmp_path / "a.nrrd"))
    colour = np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")])
    packed = np.ascontiguousarray(values.transpose(2, 1, 0, 3)).view(colour)[..., 0]
    nib.save(nib.Nifti1Image(packed, np.eye(4)), tmp_path / "a.nii.gz")
    found = LoadMedicalImage(plane="stored")(tmp_path / "a.nrrd")
    np.testing.assert_array_equal(found.numpy(), values.transpose(3, 1, 2, 0))
    assert found.meta["intensity"] == "display"
    np.testing.assert_array_equal(LoadMedicalImage(plane="stored")(tmp_path / "a.nii.gz").numpy(), found.numpy())


def test_real_volumes_equal_simpleitk(shared_dir: Path) -> None:
    folder = shared_dir / "data" / "volumes"
    if not folder.is_dir():
        pytest.skip("no shared/data/volumes")
    for path in (folder / "pyradiomics" / "brain1_image.nrrd", folder / "monai_tiny" / "anatomical.nii"):
        # PLS in RAS words is what ITK calls rows A -> P, columns R -> L: its own order once the image is LPS
        expected = sitk.GetArrayFromImage(sitk.DICOMOrient(sitk.ReadImage(str(path)), "LPS")).transpose(1, 2, 0)
        np.testing.assert_array_equal(LoadMedicalImage()(path)[0].numpy(), expected)


@pytest.mark.parametrize("kind", ["int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "float32", "float64"])
def test_every_type_of_voxel(tmp_path: Path, kind: str) -> None:
    limits = np.iinfo(kind) if np.issubdtype(kind, np.integer) else np.finfo(kind)
    values = np.linspace(max(float(limits.min), -1e6), min(float(limits.max), 1e6), 60).reshape(3, 4, 5).astype(kind)
    nib.save(nib.Nifti1Image(values.T, np.eye(4), dtype=kind), tmp_path / "a.nii.gz")
    nib.save(nib.Nifti2Image(values.T, np.eye(4), dtype=kind), tmp_path / "b.nii")
    image = sitk.GetImageFromArray(values)
    for name, compressed in (("a.nrrd", True), ("b.nrrd", False), ("a.mha", True), ("a.mhd", False), ("a.nhdr", True)):
        sitk.WriteImage(image, str(tmp_path / name), compressed)
    for name in ("a.nii.gz", "b.nii", "a.nrrd", "b.nrrd", "a.mha", "a.mhd", "a.nhdr"):
        found = LoadMedicalImage(plane="stored")(tmp_path / name)
        np.testing.assert_allclose(found[0].numpy(), values.transpose(1, 2, 0), rtol=1e-6, err_msg=name)


def nifti(path: Path, **fields: Any) -> Path:
    """A volume of 4 x 5 x 3 voxels of 2 x 3 x 4 mm whose header holds `fields`, as nibabel does not write them."""
    header = nib.Nifti1Header()
    header.set_data_shape((4, 5, 3))
    header.set_data_dtype(np.int16)
    header["pixdim"][1:4], header["vox_offset"], header["magic"] = (2, 3, 4), 352, b"n+1"
    for name, value in fields.items():
        header[name] = value
    path.write_bytes(header.binaryblock + bytes(4) + np.arange(60, dtype=np.int16).tobytes())
    return path


ROWS = {"srow_x": [2, 0, 0, 1], "srow_y": [0, 3, 0, 2], "srow_z": [0, 0, 4, 3]}


@pytest.mark.parametrize(
    ("fields", "edges"),
    [
        ({"sform_code": 1, "qform_code": 0}, (2, 3, 4)),
        ({"sform_code": 1, "qform_code": 1, "quatern_b": 0.6}, (2, 3, 4)),  # the sform goes first
        ({"sform_code": 0, "qform_code": 1}, (2, 3, 4)),
        ({"sform_code": 0, "qform_code": 1, "pixdim": [1, -2, 3, 4, 1, 1, 1, 1]}, (2, 3, 4)),
        ({"sform_code": 1, "pixdim": [-1, 2, 3, 4, 1, 1, 1, 1]}, (2, 3, 4)),
        ({"sform_code": 0, "qform_code": 0, "pixdim": [1, 0, 3, 4, 1, 1, 1, 1]}, (1, 3, 4)),
    ],
)
def test_forms_follow_nibabel_and_reach_the_mask_bit_for_bit(
    tmp_path: Path, fields: dict[str, Any], edges: tuple[int, ...]
) -> None:
    path = nifti(tmp_path / "a.nii", **(ROWS | fields))
    image = LoadMedicalImage()(path)
    expected = nib.load(path).affine
    np.testing.assert_allclose(image.meta["original_affine"], expected)
    np.testing.assert_allclose(np.sqrt((expected[:3, :3] ** 2).sum(axis=0)), edges)
    written = MaskWriter(tmp_path / "out", save_overlay=False).write(
        (image[:1] > 20).float(), None, image.meta, "brain_tumor"
    )
    np.testing.assert_array_equal(nib.load(written["mask"]).affine, expected)
    before, after = sitk.ReadImage(str(path)), sitk.ReadImage(str(written["mask"]))
    for what in ("GetSize", "GetSpacing", "GetOrigin", "GetDirection"):  # SimpleITK obeys a negative pixdim
        assert getattr(before, what)() == getattr(after, what)()
    np.testing.assert_array_equal(sitk.GetArrayFromImage(after) > 0, sitk.GetArrayFromImage(before) > 20)


@pytest.mark.parametrize("edges", [(-1, -2, 3, 4), (1, 0, 3, 0)])
def test_repairs_of_a_header_are_not_reported_on_the_terminal(
    tmp_path: Path, edges: tuple[int, ...], caplog: pytest.LogCaptureFixture
) -> None:
    path = nifti(tmp_path / "a.nii", pixdim=[*edges, 0, 0, 0, 0], sform_code=1, **ROWS)
    image = LoadMedicalImage()(path)
    MaskWriter(tmp_path / "out", save_overlay=False).write((image[:1] > 20).float(), None, image.meta, "brain_tumor")
    assert [record.name for record in caplog.records] == []


@pytest.mark.parametrize(("slope", "inter"), [(0.0, 5.0), (float("nan"), 5.0), (2.0, -3.0)])
def test_slopes_that_mean_nothing(tmp_path: Path, slope: float, inter: float) -> None:
    path = nifti(tmp_path / "a.nii", scl_slope=slope, scl_inter=inter, sform_code=1, **ROWS)
    found = LoadMedicalImage(plane="stored")(path)[0].numpy()
    stored = np.arange(60).reshape(3, 5, 4).transpose(1, 2, 0)
    np.testing.assert_allclose(found, stored * 2.0 - 3 if slope == 2 else stored)  # the standard: 0 is no scaling


def test_an_infinite_slope_is_refused(tmp_path: Path) -> None:
    path = nifti(tmp_path / "a.nii", scl_slope=float("inf"), scl_inter=5.0, sform_code=1, **ROWS)
    with pytest.raises(ReadError, match="unusable scale factors") as caught:
        LoadMedicalImage()(path)
    assert caught.value.code == "E_FORMAT"


def test_a_wrong_suffix_is_no_damage(tmp_path: Path) -> None:
    plain = nifti(tmp_path / "plain.nii", sform_code=1, **ROWS).read_bytes()
    (tmp_path / "a.nii").write_bytes(gzip.compress(plain))
    (tmp_path / "b.nii.gz").write_bytes(plain)
    for name, right in (("a.nii", "nii.gz"), ("b.nii.gz", "to .nii")):
        with pytest.raises(ReadError, match=right) as caught:
            LoadMedicalImage()(tmp_path / name)
        assert caught.value.code == "E_FORMAT"


def test_four_channels_and_complex_voxels(tmp_path: Path) -> None:
    colour = np.zeros((4, 5, 3), dtype=[("R", "u1"), ("G", "u1"), ("B", "u1"), ("A", "u1")])
    colour["G"], colour["A"] = 7, 255
    nib.save(nib.Nifti1Image(colour, np.eye(4)), tmp_path / "a.nii")
    assert LoadMedicalImage()(tmp_path / "a.nii").amax((1, 2, 3)).tolist() == [0, 7, 0]  # alpha is dropped
    nib.save(nib.Nifti1Image(np.ones((4, 5, 3), np.complex64), np.eye(4)), tmp_path / "b.nii")
    with pytest.raises(ReadError) as caught:
        LoadMedicalImage()(tmp_path / "b.nii")
    assert caught.value.code == "E_FORMAT"


def nrrd(path: Path, values: Array, *lines: str, data: bytes | None = None) -> Path:
    """(z, y, x) with further header lines."""
    sizes = " ".join(str(n) for n in values.shape[::-1])
    kind = {"i": "int", "u": "uint"}[values.dtype.kind] + str(8 * values.dtype.itemsize)
    head = ["NRRD0004", f"type: {kind}", f"dimension: {values.ndim}", f"sizes: {sizes}", *lines]
    raw = data if data is not None else values.tobytes()
    path.write_bytes("\n".join([*head, "", ""]).encode() + raw)
    return path


@pytest.mark.parametrize(
    ("space", "sign"),
    [
        ("right-anterior-superior", (1, 1)),
        ("left-anterior-superior", (-1, 1)),
        ("left-posterior-superior", (-1, -1)),
        (None, (-1, -1)),  # as ITK takes it
    ],
)
def test_nrrd_spaces(tmp_path: Path, space: str | None, sign: tuple[int, int]) -> None:
    values = np.arange(60, dtype="<i2").reshape(3, 5, 4)
    place = ["space directions: (2,0,0) (0,3,0) (0,0,4)", "space origin: (5,6,7)"]
    lines = [f"space: {space}", *place] if space else ["spacings: 2 3 4"]
    path = nrrd(tmp_path / "a.nrrd", values, "encoding: raw", "endian: little", *lines)
    image = LoadMedicalImage(plane="stored")(path)
    np.testing.assert_array_equal(image[0].numpy(), values.transpose(1, 2, 0))
    x, y = sign
    origin = [5 * x, 6 * y, 7] if space else [0, 0, 0]
    expected = np.array([[2 * x, 0, 0, origin[0]], [0, 3 * y, 0, origin[1]], [0, 0, 4, origin[2]]])
    np.testing.assert_allclose(image.meta["original_affine"][:3], expected)


def test_nrrd_encodings(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(-900, 900, (3, 5, 4)).astype("<i2")
    text = " ".join(str(n) for n in values.ravel()).encode()
    for lines, data in (
        (("encoding: raw", "endian: big"), values.astype(">i2").tobytes()),
        (("encoding: gzip", "endian: little"), gzip.compress(values.tobytes())),
        (("encoding: ascii",), text),
    ):
        found = LoadMedicalImage(plane="stored")(nrrd(tmp_path / "a.nrrd", values, *lines, data=data))
        np.testing.assert_array_equal(found[0].numpy(), values.transpose(1, 2, 0))
    last = nrrd(tmp_path / "a.nrrd", values[None], "encoding: raw", "endian: little")
    assert LoadMedicalImage()(last).shape[0] == 3  # a fourth dimension of 1
    vectors = nrrd(tmp_path / "a.nrrd", values, "encoding: raw", "endian: little", "kinds: vector domain domain")
    with pytest.raises(ReadError) as caught:
        LoadMedicalImage()(vectors)
    assert caught.value.code == "E_4D"
