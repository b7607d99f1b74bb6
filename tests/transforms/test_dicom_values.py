"""Stored values of every width, sign, byte order and place are read as the numbers that were written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)

from monai_tpseg.io import ReadError
from monai_tpseg.transforms import LoadMedicalImage

Array = np.ndarray[Any, np.dtype[Any]]
Write = Callable[..., Path]


@pytest.mark.parametrize("kind", [np.uint8, np.int8, np.uint16, np.int16, np.uint32, np.int32])
@pytest.mark.parametrize("scale", [(1.0, 0.0), (0.5, -1024.0)])
def test_every_width_and_sign(write_dicom: Write, kind: type, scale: tuple[float, float]) -> None:
    limits = np.iinfo(kind)
    stored = np.array([[limits.min, limits.max, 0], [1, limits.max // 2, limits.max // 3]], dtype=kind)
    tags = {"RescaleSlope": scale[0], "RescaleIntercept": scale[1]}
    image = LoadMedicalImage(intensity="physical")(write_dicom("a", stored, "CT", **tags))
    if scale == (1.0, 0.0) and limits.bits == 8:  # plain bytes are a picture, signed ones from their lowest value
        expected = stored.astype(np.float64) - limits.min
    else:
        expected = stored * scale[0] + scale[1]
    np.testing.assert_allclose(image[0].numpy(), expected, rtol=1e-6)


@pytest.mark.parametrize("signed", [False, True])
def test_bits_above_the_stored_ones_are_ignored(write_dicom: Write, write_series: Write, signed: bool) -> None:
    values = np.array([[0, 1, 5], [2047, 700, 3]] if not signed else [[-1, 1, -2048], [2047, 700, -3]])
    dirty = ((values & 0x0FFF) | 0xA000).astype(np.uint16)
    tags = {"BitsStored": 12, "HighBit": 11, "PixelRepresentation": int(signed)}
    image = LoadMedicalImage()(write_dicom("a", dirty, "CT", **tags))
    np.testing.assert_array_equal(image[0].numpy(), values)

    def edit(datasets: list[Dataset]) -> None:
        for dataset in datasets:
            dataset.PixelData, dataset.PixelRepresentation = dirty.tobytes(), int(signed)
            dataset.RescaleIntercept = 0

    series = LoadMedicalImage()(write_series(np.zeros((3, *values.shape)), edit=edit))
    np.testing.assert_array_equal(series[0, ..., 1].numpy(), values)


def test_a_high_bit_elsewhere_is_refused(write_dicom: Write) -> None:
    with pytest.raises(ReadError, match="up to bit 15") as caught:
        LoadMedicalImage()(write_dicom("a", np.ones((2, 3), np.uint16), "CT", BitsStored=12, HighBit=15))
    assert caught.value.code == "E_FORMAT"


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian])
def test_every_plain_syntax(write_dicom: Write, tmp_path: Path, syntax: str) -> None:
    stored = np.array([[0, 258, 4095], [1, 1024, 77]], dtype=np.uint16)
    tags = {"BitsStored": 12, "HighBit": 11, "RescaleSlope": 2, "RescaleIntercept": -1024}
    dataset = pydicom.dcmread(write_dicom("a", stored, "CT", **tags))
    dataset.file_meta.TransferSyntaxUID = syntax
    if syntax == ExplicitVRBigEndian:
        dataset.PixelData = stored.byteswap().tobytes()
    pydicom.dcmwrite(tmp_path / "b", dataset, enforce_file_format=True)
    np.testing.assert_array_equal(LoadMedicalImage()(tmp_path / "b")[0].numpy(), stored * 2.0 - 1024)


@pytest.mark.parametrize("syntax", [RLELossless, JPEGLSLossless, JPEG2000Lossless])
def test_lossless_series_equal_plain_ones(write_series: Write, syntax: str) -> None:
    hu = np.arange(3 * 64 * 72, dtype=np.float64).reshape(3, 64, 72) % 3000 - 300

    def edit(datasets: list[Dataset]) -> None:
        for dataset in datasets:
            dataset.compress(syntax, generate_instance_uid=False)

    image = LoadMedicalImage()(write_series(hu, edit=edit))
    np.testing.assert_array_equal(image[0].numpy(), hu.transpose(1, 2, 0))


def test_floating_point_pixels(write_dicom: Write) -> None:
    values = np.array([[0.5, -3.25, 1e6], [7, 8, 9]], dtype=np.float32)
    dataset = pydicom.dcmread(write_dicom("a", values.view(np.uint32), "MR"))
    for keyword in ("PixelData", "BitsStored", "HighBit", "PixelRepresentation"):
        delattr(dataset, keyword)
    dataset.FloatPixelData = values.tobytes()
    path = Path(str(dataset.filename)).with_name("b")
    dataset.save_as(path)
    image = LoadMedicalImage()(path)
    np.testing.assert_array_equal(image[0].numpy(), values)
    assert image.meta["intensity"] == "physical"


def test_one_frame_of_an_enhanced_object_has_its_rescale_and_spacing(write_dicom: Write) -> None:
    transform, measures, group = Dataset(), Dataset(), Dataset()
    transform.RescaleSlope, transform.RescaleIntercept, transform.RescaleType = 2, -1000, "HU"
    measures.PixelSpacing = [0.5, 0.25]
    group.PixelMeasuresSequence, group.PixelValueTransformationSequence = [measures], [transform]
    stored = np.array([[0, 500, 1000]], dtype=np.uint16)
    tags = {"NumberOfFrames": 1, "SharedFunctionalGroupsSequence": [group]}
    image = LoadMedicalImage()(write_dicom("a", stored, "CT", **tags))
    np.testing.assert_array_equal(image[0].numpy(), [[-1000, 0, 1000]])
    np.testing.assert_allclose(image.meta["spacing"], [0.5, 0.25])
    other, item = Dataset(), Dataset()
    item.RescaleSlope, item.RescaleIntercept = 3, 0
    other.PixelValueTransformationSequence = [item]
    own = LoadMedicalImage()(write_dicom("b", stored, "CT", **tags, PerFrameFunctionalGroupsSequence=[other]))
    np.testing.assert_array_equal(own[0].numpy(), [[0, 1500, 3000]])  # a frame's own group goes first


@pytest.mark.parametrize("shift", [0, 8])
def test_palettes_of_16_bits_with_colours_in_either_byte(write_dicom: Write, shift: int) -> None:
    palette: dict[str, Any] = {"PhotometricInterpretation": "PALETTE COLOR"}
    for name, entries in (("Red", [0, 200]), ("Green", [0, 10]), ("Blue", [30, 31])):
        palette[f"{name}PaletteColorLookupTableData"] = np.array([e << shift for e in entries], "<u2").tobytes()
        palette[f"{name}PaletteColorLookupTableDescriptor"] = [2, 0, 16]
    image = LoadMedicalImage()(write_dicom("a", np.array([[0, 1]], dtype=np.uint8), "US", **palette))
    np.testing.assert_array_equal(image.numpy()[:, 0], [[0, 200], [0, 10], [30, 31]])


def test_a_codestream_of_another_size_than_its_header_is_refused(write_dicom: Write) -> None:
    dataset = pydicom.dcmread(write_dicom("a", np.zeros((16, 24), dtype=np.uint8), "CT"))
    dataset.compress(JPEGLSLossless)
    dataset.Rows, dataset.Columns = 24, 16  # as many bytes, but not that picture
    path = Path(str(dataset.filename)).with_name("b")
    dataset.save_as(path)
    with pytest.raises(ReadError, match=r"16 x 24 pixels .*and its header 24 x 16") as caught:
        LoadMedicalImage()(path)
    assert caught.value.code == "E_DECODE"
