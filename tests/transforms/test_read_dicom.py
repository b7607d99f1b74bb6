"""DICOM: values, photometric interpretation and geometry against numbers that were written, SimpleITK and PIL."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset
from pydicom.uid import MPEG4HP41

from monai_tpseg.io import ReadError
from monai_tpseg.transforms import LoadMedicalImage

Array = np.ndarray[Any, np.dtype[Any]]
Write = Callable[..., Path]


@pytest.fixture
def hu(letter_volume: Array) -> Array:
    """(7, 20, 13) HU from -1000 to 1000, each voxel of its own."""
    ramp = np.arange(letter_volume.size, dtype=np.float64).reshape(letter_volume.shape)
    values: Array = (-1000 + ramp + 100 * letter_volume).transpose(2, 0, 1)
    return values


def test_ct_values_are_hu(write_dicom: Write) -> None:
    stored = np.array([[0, 1024, 4095], [24, 1064, 2024]], dtype=np.uint16)
    path = write_dicom("a", stored, "CT", BitsStored=12, HighBit=11, RescaleSlope=1, RescaleIntercept=-1024)
    image = LoadMedicalImage()(path)
    assert image.shape == (3, 2, 3)
    np.testing.assert_array_equal(image[2].numpy(), [[-1024, 0, 3071], [-1000, 40, 1000]])
    assert image.meta["intensity"] == "physical"
    assert not image.meta["inverted"]


def test_series_is_sorted_by_position_and_keeps_its_place(write_series: Write, tmp_path: Path, hu: Array) -> None:
    image = LoadMedicalImage()(write_series(hu))
    # columns to the left, rows to the back, slices upwards: the written order is the viewing order
    np.testing.assert_allclose(image[0].numpy(), hu.transpose(1, 2, 0))
    assert image.meta["plane"] == "axial"
    np.testing.assert_allclose(image.meta["spacing"], [0.75, 0.5, 2.5])
    stored = sitk.GetImageFromArray(hu.astype(np.int16))
    stored.SetSpacing((0.5, 0.75, 2.5))
    stored.SetOrigin((-30.0, -20.0, 100.0))
    sitk.WriteImage(stored, str(tmp_path / "a.nii.gz"))
    same = LoadMedicalImage()(tmp_path / "a.nii.gz")
    np.testing.assert_array_equal(image.numpy(), same.numpy())
    np.testing.assert_allclose(image.affine, same.affine, atol=1e-5)
    expected = nib.load(tmp_path / "a.nii.gz")
    np.testing.assert_allclose(image.meta["original_affine"], expected.affine, atol=1e-5)
    assert tuple(image.meta["source_shape"]) == expected.shape


@pytest.mark.parametrize(
    ("rows", "columns", "plane"),
    [
        ((0, 1, 0), (1, 0, 0), "axial"),
        ((0, 0, -1), (1, 0, 0), "coronal"),
        ((0, 0, -1), (0, 1, 0), "sagittal"),
        ((0, 0.6, -0.8), (1, 0, 0), "coronal"),
        ((0, -1, 0), (-1, 0, 0), "axial"),
    ],
)
def test_series_geometry_equals_simpleitk(
    write_series: Write, hu: Array, rows: tuple[float, ...], columns: tuple[float, ...], plane: str
) -> None:
    folder = write_series(hu, rows, columns, step=0.5)  # finer than the pixels: the stack, not the spacing, decides
    image = LoadMedicalImage()(folder)
    assert image.meta["plane"] == plane
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    other = reader.Execute()
    to_ras = np.diag([-1.0, -1.0, 1.0, 1.0])
    for index in ((0, 0, 0), (19, 0, 3), (0, 12, 6), (5, 7, 2)) if plane == "axial" else ((0, 0, 0), (19, 12, 6)):
        place = to_ras @ image.affine.numpy() @ [*index, 1]
        value = other.GetPixel(*other.TransformPhysicalPointToIndex(place[:3].tolist()))
        assert image[(0, *index)] == pytest.approx(value)


def test_coronal_and_sagittal_series_stand_upright(write_series: Write, hu: Array) -> None:
    coronal = LoadMedicalImage()(write_series(hu, rows=(0, 0, -1), columns=(1, 0, 0), name="coronal"))
    # the normal of such slices runs to the back as well: nothing to turn
    np.testing.assert_allclose(coronal[0].numpy(), hu.transpose(1, 2, 0))
    sagittal = LoadMedicalImage()(write_series(hu, rows=(0, 0, -1), columns=(0, 1, 0), name="sagittal"))
    # here it runs to the right, and slices are shown from right to left
    np.testing.assert_allclose(sagittal[0].numpy(), hu.transpose(1, 2, 0)[..., ::-1])


def test_monochrome1_is_marked_and_its_values_left_alone(write_dicom: Write) -> None:
    stored = np.arange(6, dtype=np.uint16).reshape(2, 3) * 600
    grey = write_dicom("two", stored, "CT", BitsStored=12, HighBit=11, RescaleIntercept=-1024, RescaleSlope=1)
    white = {"PhotometricInterpretation": "MONOCHROME1", "RescaleIntercept": -1024, "RescaleSlope": 1}
    inverse = write_dicom("one", stored, "CT", BitsStored=12, HighBit=11, **white)
    image = LoadMedicalImage()(inverse)
    np.testing.assert_array_equal(image.numpy(), LoadMedicalImage()(grey).numpy())
    assert image.meta["inverted"]
    assert image.meta["photometric"] == "MONOCHROME1"


def test_series_of_monochrome1_keeps_hu(write_series: Write, hu: Array) -> None:
    def edit(datasets: list[Dataset]) -> None:
        for dataset in datasets:
            dataset.PhotometricInterpretation = "MONOCHROME1"
            dataset.WindowCenter, dataset.WindowWidth = 40, 400

    image = LoadMedicalImage()(write_series(hu, edit=edit))
    np.testing.assert_allclose(image[0].numpy(), hu.transpose(1, 2, 0))
    assert image.meta["inverted"]


def test_display_modalities_are_scaled_by_their_bits(write_dicom: Write) -> None:
    for bits, kind in ((8, np.uint8), (10, np.uint16), (12, np.uint16), (16, np.uint16)):
        stored = np.array([[0, 2**bits - 1], [2 ** (bits - 1), 1]], dtype=kind)
        image = LoadMedicalImage()(write_dicom(f"{bits}", stored, "OPT", BitsStored=bits, HighBit=bits - 1))
        np.testing.assert_allclose(image[0].numpy(), stored * 255.0 / (2**bits - 1), rtol=1e-5)
        assert image.meta["intensity"] == "display"


def test_colour_comes_as_rgb(write_dicom: Write, letter: Array) -> None:
    rgb = np.stack([letter * 200, letter * 10, 30 + letter], axis=-1).astype(np.uint8)
    image = LoadMedicalImage()(write_dicom("a", rgb, "ES"))
    np.testing.assert_array_equal(image.numpy(), rgb.transpose(2, 0, 1))
    table = {"RedPaletteColorLookupTableData": [0, 200], "GreenPaletteColorLookupTableData": [0, 10]}
    palette: dict[str, Any] = {"PhotometricInterpretation": "PALETTE COLOR"}
    for name, entries in (table | {"BluePaletteColorLookupTableData": [30, 31]}).items():
        palette[name] = np.array([entry << 8 for entry in entries], dtype="<u2").tobytes()
        palette[name.replace("Data", "Descriptor")] = [2, 0, 16]
    found = LoadMedicalImage()(write_dicom("p", letter, "US", **palette))
    np.testing.assert_array_equal(found.numpy(), rgb.transpose(2, 0, 1))


def test_ybr_equals_what_pil_makes_of_the_same_jpeg() -> None:
    from io import BytesIO

    from PIL import Image
    from pydicom.encaps import get_frame

    path = get_testdata_file("SC_rgb_jpeg_dcmtk.dcm", download=False)
    dataset = pydicom.dcmread(path)
    with Image.open(BytesIO(get_frame(dataset.PixelData, 0, number_of_frames=1))) as picture:
        expected = np.asarray(picture.convert("RGB"), dtype=np.float32).transpose(2, 0, 1)
    np.testing.assert_allclose(LoadMedicalImage()(path).numpy(), expected, atol=3)  # rounding of two decoders


def test_cine_is_a_volume_of_frames_as_stored(write_dicom: Write, letter_volume: Array) -> None:
    frames = np.ascontiguousarray(letter_volume.transpose(2, 0, 1)) * np.uint8(250)
    image = LoadMedicalImage()(write_dicom("a", frames, "US", NumberOfFrames=7))
    np.testing.assert_array_equal(image[0].numpy(), frames.transpose(1, 2, 0))
    assert "spacing" not in image.meta


def test_multi_frame_equals_its_series(shared_dir: Path) -> None:
    folder = shared_dir / "data" / "volumes" / "dcmqi" / "24x38x3"
    if not folder.is_dir():
        pytest.skip("no shared/data/volumes/dcmqi")
    series, frames = LoadMedicalImage()(folder / "image"), LoadMedicalImage()(folder / "multiframe" / "mf.dcm")
    np.testing.assert_array_equal(series.numpy(), frames.numpy())
    np.testing.assert_allclose(series.affine, frames.affine, atol=1e-4)
    assert series.max() > 0


def test_without_preamble_and_meta(tmp_path: Path, write_dicom: Write, letter: Array) -> None:
    content = write_dicom("a", letter, "US").read_bytes()
    start = content.index(b"\x08\x00\x16\x00UI")  # (0008,0016), first after the file meta group
    (tmp_path / "bare").write_bytes(content[start:])
    np.testing.assert_array_equal(LoadMedicalImage()(tmp_path / "bare")[0].numpy(), letter)


def test_series_without_frame_of_reference_is_read(write_series: Write, hu: Array) -> None:
    def edit(datasets: list[Dataset]) -> None:
        for dataset in datasets:
            del dataset.FrameOfReferenceUID

    assert LoadMedicalImage()(write_series(hu, edit=edit)).shape == (3, 20, 13, 7)


def _duplicate(datasets: list[Dataset]) -> None:
    datasets[3].ImagePositionPatient = datasets[2].ImagePositionPatient


def _gap(datasets: list[Dataset]) -> None:
    for dataset in datasets[4:]:
        dataset.ImagePositionPatient = [*dataset.ImagePositionPatient[:2], dataset.ImagePositionPatient[2] + 2]


def _tilt(datasets: list[Dataset]) -> None:
    for n, dataset in enumerate(datasets):
        x, y, z = dataset.ImagePositionPatient
        dataset.ImagePositionPatient = [x, y + 0.5 * n, z]


def _two_series(datasets: list[Dataset]) -> None:
    datasets[0].SeriesInstanceUID = "1.2.3.99"


def _localizer(datasets: list[Dataset]) -> None:
    datasets[0].ImageOrientationPatient = [1, 0, 0, 0, 0, -1]


def _sizes(datasets: list[Dataset]) -> None:
    datasets[0].Rows, datasets[0].PixelData = 10, datasets[0].PixelData[: 10 * 13 * 2]


def _no_positions(datasets: list[Dataset]) -> None:
    del datasets[0].ImagePositionPatient


def _cut(datasets: list[Dataset]) -> None:
    datasets[0].PixelData = datasets[0].PixelData[:100]


@pytest.mark.parametrize(
    ("edit", "code"),
    [
        (_duplicate, "E_SERIES_DUPLICATE"),
        (_gap, "E_SERIES_GAP"),
        (_tilt, "E_SERIES_TILT"),
        (_two_series, "E_SERIES_MIXED"),
        (_localizer, "E_SERIES_MIXED"),
        (_sizes, "E_SERIES_MIXED"),
        (_no_positions, "E_GEOMETRY"),
        (_cut, "E_TRUNCATED"),
    ],
)
def test_what_is_no_stack_is_refused(
    write_series: Write, hu: Array, edit: Callable[[list[Dataset]], None], code: str
) -> None:
    with pytest.raises(ReadError) as caught:
        LoadMedicalImage()(write_series(hu, edit=edit))
    assert caught.value.code == code
    assert "\n" not in str(caught.value)


def test_objects_that_are_no_image_are_refused_and_left_out(write_series: Write, write_dicom: Write, hu: Array) -> None:
    folder = write_series(hu)
    for modality in ("SEG", "RTDOSE"):
        path = write_dicom(f"series/{modality}", np.zeros((2, 2), dtype=np.uint8), modality)
        with pytest.raises(ReadError) as caught:
            LoadMedicalImage()(path)
        assert caught.value.code == "E_NOT_IMAGE"
    image = LoadMedicalImage()(folder)
    assert image.shape[-1] == 7
    assert image.meta["skipped_files"] == 2


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("MR_truncated.dcm", "E_TRUNCATED"),
        ("rtstruct.dcm", "E_NOT_IMAGE"),
        ("liver_1frame.dcm", "E_NOT_IMAGE"),
        ("nested_priv_SQ.dcm", "E_NO_PIXELS"),
        ("JPEG2000-embedded-sequence-delimiter.dcm", "E_DECODE"),
    ],
)
def test_files_of_pydicom_that_cannot_be_read(name: str, code: str) -> None:
    with pytest.raises(ReadError) as caught:
        LoadMedicalImage()(get_testdata_file(name, download=False))
    assert caught.value.code == code


def test_video_is_refused(write_dicom: Write, tmp_path: Path) -> None:
    path = write_dicom("a", np.zeros((4, 4), dtype=np.uint8), "ES")
    dataset = pydicom.dcmread(path)
    dataset.file_meta.TransferSyntaxUID = MPEG4HP41
    dataset.PixelData = pydicom.encaps.encapsulate([b"video"])
    dataset["PixelData"].is_undefined_length = True
    dataset.save_as(tmp_path / "video")
    with pytest.raises(ReadError) as caught:
        LoadMedicalImage()(tmp_path / "video")
    assert caught.value.code == "E_VIDEO"


@pytest.mark.parametrize("name", ["CT_small.dcm", "MR_small_RLE.dcm", "693_J2KI.dcm", "examples_jpeg2k.dcm"])
def test_real_objects_equal_simpleitk(name: str) -> None:
    path = get_testdata_file(name, download=False)
    other = sitk.GetArrayFromImage(sitk.ReadImage(path))[0].astype(np.float32)
    expected = other.transpose(2, 0, 1) if other.ndim == 3 else np.stack([other] * 3)
    np.testing.assert_allclose(LoadMedicalImage()(path).numpy(), expected, atol=1)


def _echoes(datasets: list[Dataset]) -> None:
    for n, dataset in enumerate(datasets[:6]):
        dataset.ImagePositionPatient = [*datasets[n // 2].ImagePositionPatient[:2], 100.0 + n // 2 * 2.5]
        dataset.EchoTime = 10 + 20 * (n % 2)
    datasets.pop()


def _phases(datasets: list[Dataset]) -> None:
    for n, dataset in enumerate(datasets[:6]):
        dataset.ImagePositionPatient = [*datasets[n // 2].ImagePositionPatient[:2], 100.0 + n // 2 * 2.5]
        dataset.TemporalPositionIdentifier = n % 2
    datasets.pop()


@pytest.mark.parametrize(("edit", "word"), [(_echoes, "2 stacks .* echo"), (_phases, "2 stacks .* phase")])
def test_echoes_and_phases_are_told_from_copies(
    write_series: Write, hu: Array, edit: Callable[[list[Dataset]], None], word: str
) -> None:
    with pytest.raises(ReadError, match=word) as caught:
        LoadMedicalImage()(write_series(hu, edit=edit))
    assert caught.value.code == "E_SERIES_ECHOES"


def test_localizers_are_left_out_and_counted(write_series: Write, hu: Array) -> None:
    def edit(datasets: list[Dataset]) -> None:
        datasets[-1].ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
        datasets[-1].ImageOrientationPatient = [1, 0, 0, 0, 0, -1]

    image = LoadMedicalImage()(write_series(hu, edit=edit))
    assert image.shape[-1] == 6
    assert image.meta["skipped_files"] == 1
    np.testing.assert_allclose(image[0].numpy(), hu[:-1].transpose(1, 2, 0))


def test_a_slice_that_lost_its_header_is_refused_and_not_left_out(write_series: Write, hu: Array) -> None:
    def edit(datasets: list[Dataset]) -> None:
        for keyword in ("Rows", "Columns", "PixelData"):
            delattr(datasets[-1], keyword)  # at the end of the stack, where no gap would betray it

    with pytest.raises(ReadError) as caught:
        LoadMedicalImage()(write_series(hu, edit=edit))
    assert caught.value.code == "E_TRUNCATED"


@pytest.mark.parametrize("keyword", ["PixelData", "Columns", "Rows", "PhotometricInterpretation", "Modality"])
def test_an_image_cut_off_before_its_pixels_is_no_object_without_pixels(
    write_dicom: Write, tmp_path: Path, keyword: str
) -> None:
    dataset = pydicom.dcmread(write_dicom("a", np.zeros((4, 4), dtype=np.uint8), "CT"))
    for element in [element for element in dataset if element.tag >= dataset[keyword].tag]:
        del dataset[element.tag]  # cut between two elements: all that is left can be parsed
    dataset.save_as(tmp_path / "cut")
    with pytest.raises(ReadError) as caught:
        LoadMedicalImage()(tmp_path / "cut")
    assert caught.value.code == "E_TRUNCATED"


@pytest.mark.parametrize(
    ("syntax", "code"),
    [
        ("1.2.840.10008.1.2.4.100", "E_VIDEO"),
        ("1.2.840.10008.1.2.4.102.1", "E_VIDEO"),
        ("1.2.840.10008.1.2.4.108", "E_VIDEO"),
        ("1.2.840.10008.1.2.4.110", "E_CODEC"),
        ("1.2.840.10008.1.2.4.112", "E_CODEC"),
        ("1.2.3.4444", "E_CODEC"),
    ],
)
@pytest.mark.parametrize("shape", [(4, 4), (4, 4, 3)], ids=["gray", "colour"])
def test_syntaxes_without_a_decoder(
    write_dicom: Write, tmp_path: Path, shape: tuple[int, ...], syntax: str, code: str
) -> None:
    dataset = pydicom.dcmread(write_dicom("a", np.zeros(shape, dtype=np.uint8), "ES"))
    written = "1.2.3." + "9" * (len(syntax) - 6)  # pydicom writes private syntaxes, but no public one it does not know
    dataset.file_meta.TransferSyntaxUID = written
    dataset.PixelData = pydicom.encaps.encapsulate([b"stream"])
    dataset["PixelData"].is_undefined_length = True
    dataset.save_as(tmp_path / "b", implicit_vr=False, little_endian=True, enforce_file_format=False)
    (tmp_path / "b").write_bytes((tmp_path / "b").read_bytes().replace(written.encode(), syntax.encode()))
    with pytest.raises(ReadError) as caught:
        LoadMedicalImage()(tmp_path / "b")
    assert caught.value.code == code
    assert "4444" not in str(caught.value)
