"""Headers of volumes that mean something else than a library takes them for."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk

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
        ("ElementToIntensityFunctionSlope\t=\t2\nElementToIntensityFunctionOffset: -5\n", (2, -5)),
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


@pytest.mark.parametrize(
    ("name", "head", "skip"),
    [("a.mhd", "HeaderSize = 100", 100), ("a.mhd", "HeaderSize\t= -1", 77), ("a.nhdr", "byteskip: 100", 100)],
)
def test_voxels_behind_other_bytes_end_within_the_file(tmp_path: Path, name: str, head: str, skip: int) -> None:
    """Values beside their header, in a file whose name is not in ASCII."""
    data = tmp_path / "Sch\u00e4del \u00b5.raw"
    fields = (
        "ObjectType = Image\nNDims = 3\nBinaryData = True\nDimSize = 10 9 8\nElementSpacing = 2 3 4\n"
        f"{head}\nElementType = MET_SHORT\nElementDataFile = {data.name}\n"
        if name == "a.mhd"
        else "NRRD0004\ntype: short\ndimension: 3\nsizes: 10 9 8\nspacings: 2 3 4\nendian: little\nencoding: raw\n"
        f"{head}\ndatafile: {data.name}\n"
    )
    (tmp_path / name).write_text(fields, encoding="utf-8")
    data.write_bytes(bytes(skip) + VALUES.T.tobytes())
    image = LoadMedicalImage(plane="stored")(tmp_path / name)
    assert np.array_equal(image[0].numpy(), VALUES.transpose(1, 0, 2))
    assert sorted(image.meta["spacing"]) == [2, 3, 4]
    data.write_bytes(data.read_bytes()[: -100 if skip == 100 else -200])
    assert refused(tmp_path / name) == "E_TRUNCATED"


def test_the_checksum_of_a_metaimage_with_tabs(tmp_path: Path) -> None:
    packed = bytearray(zlib.compress(VALUES.T.tobytes()))
    head = "CompressedData\t= True\n"
    image = LoadMedicalImage(plane="stored")(metaimage(tmp_path / "a.mha", head, bytes(packed)))
    assert np.array_equal(image[0].numpy(), VALUES.transpose(1, 0, 2))
    packed[-1] ^= 1
    assert refused(metaimage(tmp_path / "a.mha", head, bytes(packed))) == "E_DECODE"


def test_a_long_of_metaimage_has_four_bytes(tmp_path: Path) -> None:
    right = metaimage(tmp_path / "a.mha", "", VALUES.T.astype("<i4").tobytes(), "MET_LONG")
    assert np.array_equal(LoadMedicalImage(plane="stored")(right)[0].numpy(), VALUES.transpose(1, 0, 2))
    assert refused(metaimage(tmp_path / "b.mha", "", VALUES.T.astype("<i8").tobytes(), "MET_LONG")) == "E_DECODE"


LONG = {
    "a.nii": lambda plain, _: plain,
    "a.nii.gz": lambda plain, _: gzip.compress(plain),
    "raw.nrrd": lambda _, data: NRRD.format("raw", "").encode() + data,
    "gzip.nrrd": lambda _, data: NRRD.format("gzip", "").encode() + gzip.compress(data),
    "hex.nrrd": lambda _, data: NRRD.format("hex", "").encode() + data.hex().encode(),
    "text.nrrd": lambda _, data: NRRD.format("ascii", "").encode() + words(data),
    "a.nhdr": lambda *_: NRRD.format("raw", "data file: a.raw\n").encode(),
    "a.mha": lambda _, data: META.format("True", "LOCAL").encode() + data,
    "text.mha": lambda _, data: META.format("False", "LOCAL").encode() + words(data),
    "a.mhd": lambda *_: META.format("True", "a.raw").encode(),
}
NRRD = "NRRD0005\ntype: int16\ndimension: 3\nsizes: 10 9 8\nendian: little\nencoding: {}\n{}\n"
META = (
    "ObjectType = Image\nNDims = 3\nBinaryData = {}\nDimSize = 10 9 8\nElementType = MET_SHORT\nElementDataFile = {}\n"
)


def words(data: bytes) -> bytes:
    return (" ".join(map(str, np.frombuffer(data, "<i2"))) + "\n").encode()


@pytest.mark.parametrize("name", LONG)
def test_data_of_a_second_volume_are_damage_and_padding_is_not(tmp_path: Path, name: str) -> None:
    data = VALUES.T.tobytes()
    for more, code in ((0, ""), (512, ""), (len(data) - 2, ""), (len(data), "E_DECODE"), (3 * len(data), "E_DECODE")):
        extra = bytes(range(256)) * 64
        plain = nifti(tmp_path / "plain.nii", change()).read_bytes() + extra[:more]
        path = tmp_path / name
        path.write_bytes(LONG[name](plain, data + extra[:more]))
        (tmp_path / "a.raw").write_bytes(data + extra[:more])
        if code:
            with pytest.raises(ReadError, match=rf"^{name} contains far more voxels than it declares") as caught:
                LoadMedicalImage()(path)
            assert caught.value.code == code
        else:
            image = LoadMedicalImage(plane="stored")(path)
            assert np.array_equal(image[0].numpy(), VALUES.transpose(1, 0, 2))


def test_a_part_of_a_longer_file_is_read(tmp_path: Path) -> None:
    data = VALUES.T.tobytes()
    (tmp_path / "a.raw").write_bytes(data[::-1] + data + data + data)
    skip = len(data)
    meta = META.format("True", "a.raw").replace("ElementType", f"HeaderSize = {skip}\nElementType")
    (tmp_path / "a.mhd").write_text(meta)
    (tmp_path / "a.nhdr").write_text(NRRD.format("raw", f"byte skip: {skip}\ndata file: a.raw\n"))
    for name in ("a.mhd", "a.nhdr"):
        image = LoadMedicalImage(plane="stored")(tmp_path / name)
        assert np.array_equal(image[0].numpy(), VALUES.transpose(1, 0, 2))


def test_a_compressed_nrrd_that_ends_early_is_called_so(tmp_path: Path) -> None:
    data = np.random.default_rng(0).bytes(VALUES.nbytes)
    head, packed = NRRD.format("gzip", "").encode(), gzip.compress(data)
    for content in (packed[:-300], gzip.compress(data[:-2])):
        (tmp_path / "a.nrrd").write_bytes(head + content)
        assert refused(tmp_path / "a.nrrd") == "E_TRUNCATED"


@pytest.mark.parametrize("image_class", [nib.Nifti1Pair, nib.AnalyzeImage])
def test_a_half_of_a_pair_is_called_so(tmp_path: Path, image_class: Any) -> None:
    nib.save(image_class(np.zeros((4, 5, 6), np.int16), np.eye(4)), tmp_path / "a.img")
    for name in ("a.hdr", "a.img"):
        with pytest.raises(ReadError, match=rf"^{name} is one of a pair \(\.hdr and \.img\)") as caught:
            LoadMedicalImage()(tmp_path / name)
        assert caught.value.code == "E_FORMAT"


@pytest.mark.parametrize("wrong", ["0", "-inf", "nan", "1e-320", "1e300"])
@pytest.mark.parametrize("field", ["ElementSpacing", "TransformMatrix", "Rotation", "Orientation"])
def test_axes_of_a_metaimage_that_are_none(tmp_path: Path, field: str, wrong: str) -> None:
    rest = "3 4" if field == "ElementSpacing" else "0 0 0 1 0 0 0 1"
    path = metaimage(tmp_path / "a.mha", f"{field} = {wrong} {rest}\n", VALUES.T.tobytes())
    assert refused(path) == "E_GEOMETRY"


@pytest.mark.parametrize("field", ["Offset", "Position", "Origin"])
def test_positions_of_a_metaimage_that_are_none(tmp_path: Path, field: str) -> None:
    """ITK puts the volume at 0 instead."""
    for wrong in ("nan", "inf", "x", "1e300"):
        path = metaimage(tmp_path / "a.mha", f"{field} = {wrong} 0 0\n", VALUES.T.tobytes())
        assert refused(path) == "E_GEOMETRY"


@pytest.mark.parametrize(
    "fields",
    [
        "space directions: (0,0,0) (0,3,0) (0,0,4)\n",
        "space directions: (1e300,0,0) (0,3,0) (0,0,4)\n",  # ITK makes it 1 mm
        "space directions: (1e-320,0,0) (0,3,0) (0,0,4)\n",
        "space directions: (1,0,0) (1,0,0) (0,0,4)\n",
        "space directions: (2,0,0) (0,3,0) (0,0,4)\nspace origin: (nan,0,0)\n",
        "space directions: (2,0,0) (0,3,0) (0,0,4)\nspace origin: (-inf,0,0)\n",
    ],
)
def test_places_of_an_nrrd_that_are_none(tmp_path: Path, fields: str) -> None:
    assert refused(nrrd(tmp_path / "a.nrrd", f"space: left-posterior-superior\n{fields}")) == "E_GEOMETRY"


def nrrd(path: Path, fields: str) -> Path:
    head = "NRRD0005\ntype: int16\ndimension: 3\nsizes: 10 9 8\nendian: little\nencoding: raw\n"
    path.write_bytes(f"{head}{fields}\n".encode() + VALUES.T.tobytes())
    return path


@pytest.mark.parametrize(
    ("space", "doubtful"),
    [
        ("space: left-posterior-superior", False),
        ("space: RAS", False),
        ("space: scanner-xyz", True),
        ("space: 3D-left-handed", True),
        ("space dimension: 3", True),
    ],
)
def test_a_space_without_a_patient_is_for_review(tmp_path: Path, space: str, doubtful: bool) -> None:
    path = nrrd(tmp_path / "a.nrrd", f"{space}\nspace directions: (2,0,0) (0,3,0) (0,0,4)\n")
    image = LoadMedicalImage(plane="stored")(path)
    assert np.array_equal(image[0].numpy(), VALUES.transpose(1, 0, 2))
    assert image.meta.get("geometry_doubtful", False) == doubtful


@pytest.mark.parametrize(
    ("fields", "doubtful"),
    [
        ("AnatomicalOrientation = RAI\n", False),  # where the axes come from, as ITK writes
        ("AnatomicalOrientation = LPS\n", False),  # where they lead to
        ("AnatomicalOrientation = ???\n", False),
        ("AnatomicalOrientation = ASL\n", True),
        ("AnatomicalOrientation = RAS\nTransformMatrix = 1 0 0 0 1 0 0 0 1\n", True),
        ("AnatomicalOrientation = RPI\nTransformMatrix = 1 0 0 0 -1 0 0 0 1\n", False),
        ("TransformMatrix = 0.8 0.6 0 -0.6 0.8 0 0 0 1\n", False),
        ("TransformMatrix = 2 0 0 0 2 0 0 0 2\n", True),  # scaled or normalised, as programs please
        ("TransformMatrix = 1 0 0 0.5 1 0 0 0 1\n", True),
    ],
)
def test_axes_of_a_metaimage_that_programs_read_differently(tmp_path: Path, fields: str, doubtful: bool) -> None:
    path = metaimage(tmp_path / "a.mha", fields, VALUES.T.tobytes())
    meta = LoadMedicalImage()(path).meta
    assert meta.get("geometry_doubtful", False) == doubtful


def test_letters_that_itk_writes_are_no_contradiction(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for n in range(20):
        image = sitk.GetImageFromArray(VALUES.T)
        image.SetDirection(np.linalg.qr(rng.normal(size=(3, 3)))[0].ravel())
        sitk.WriteImage(image, tmp_path / f"{n}.mha")
        assert b"AnatomicalOrientation" in (tmp_path / f"{n}.mha").read_bytes()
        assert "geometry_doubtful" not in LoadMedicalImage()(tmp_path / f"{n}.mha").meta


def test_forms_of_nifti_that_are_none(tmp_path: Path) -> None:
    turned = change(sform_code=0, qform_code=1, quatern_b=1.2)
    assert refused(nifti(tmp_path / "a.nii", turned)) == "E_GEOMETRY"
    assert refused(nifti(tmp_path / "b.nii", change(sform_code=0, qform_code=1, qoffset_x=np.nan))) == "E_GEOMETRY"
    # nibabel ignores the form, other programs use it
    assert LoadMedicalImage()(nifti(tmp_path / "c.nii", change(sform_code=99))).meta["geometry_doubtful"]
    axes = np.array([9, 10, 9, 8, 1, 1, 1, 1])
    with pytest.raises(ReadError, match="1 to 7 axes"):
        LoadMedicalImage()(nifti(tmp_path / "d.nii", change(dim=axes)))


@pytest.mark.parametrize("sizes", ["-10 9 8", "10 9 -8"])
def test_negative_sizes_are_not_large_ones(tmp_path: Path, sizes: str) -> None:
    path = metaimage(tmp_path / "a.mha", "", VALUES.T.tobytes())
    path.write_bytes(path.read_bytes().replace(b"10 9 8", sizes.encode()))
    assert refused(path) == "E_DECODE"
    head = f"NRRD0004\ntype: short\ndimension: 3\nsizes: {sizes}\nspacings: 2 3 4\nendian: little\nencoding: raw\n\n"
    (tmp_path / "a.nrrd").write_bytes(head.encode() + VALUES.T.tobytes())
    assert refused(tmp_path / "a.nrrd") == "E_DECODE"
