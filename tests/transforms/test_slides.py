"""Whole slides: told from pictures, read in windows that lie where they should, refused with a code."""

from __future__ import annotations

from pathlib import Path

import imagecodecs
import numpy as np
import pydicom
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image
from pydicom.encaps import encapsulate

from monai_tpseg.io import ReadError, list_cases, slide_reader
from monai_tpseg.io.slide_detection import is_slide
from monai_tpseg.io.slide_reader import SlideReader
from monai_tpseg.testing.phantoms.slide_phantom import make_slide, write_slide
from monai_tpseg.transforms import LoadMedicalImage
from monai_tpseg.transforms.pipelines import pipeline_path, pipelines_hash, slide_mpp
from tests.wsi import write_dicom_slide

SHAPE = (300, 430)


def ramp() -> NDArray[np.uint8]:
    """A picture whose red is its row and whose green is its column, so that a value says where it was."""
    rows, columns = np.mgrid[: SHAPE[0], : SHAPE[1]]
    return np.stack([rows * 200 / SHAPE[0], columns * 200 / SHAPE[1], 90 + 0 * rows], axis=2).round().astype(np.uint8)


@pytest.fixture(scope="module")
def slide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three levels, 0.25 micrometres per pixel."""
    return write_slide(ramp(), tmp_path_factory.mktemp("slide") / "a.tif")


def test_the_finest_level_is_read_to_the_last_bit(slide: Path) -> None:
    reader = SlideReader(slide, 0.25)
    assert reader.grid.size == reader.grid.shape == SHAPE
    assert reader.grid.levels == (1.0, 2.0, pytest.approx(4.0, abs=0.02))
    window = reader.read(17, 205, 40, 60)
    assert np.array_equal(window.transpose(1, 2, 0), ramp()[17:57, 205:265])


@pytest.mark.parametrize("mpp", [0.2, 0.5, 0.7, 1.0, 2.3])
def test_windows_lie_in_place_at_any_magnification(slide: Path, mpp: float) -> None:
    reader = SlideReader(slide, mpp)
    assert reader.grid.mpp == pytest.approx((mpp, mpp), rel=0.02)
    top, left = (side // 3 for side in reader.grid.shape)
    height, width = (side // 2 for side in reader.grid.shape)
    window = reader.read(top, left, height, width).astype(float)
    rows = (top + np.arange(height) + 0.5) * reader.grid.scale[0] - 0.5  # centres, in pixels of the slide
    columns = (left + np.arange(width) + 0.5) * reader.grid.scale[1] - 0.5
    assert np.abs(window[0] - (rows * 200 / SHAPE[0])[:, None]).max() < 1.6
    assert np.abs(window[1] - columns * 200 / SHAPE[1]).max() < 1.6


def test_beyond_the_slide_is_glass(slide: Path) -> None:
    window = SlideReader(slide, 0.25).read(SHAPE[0] - 10, SHAPE[1] - 20, 64, 64)
    assert (window[:, 10:] == 255).all()
    assert (window[:, :, 20:] == 255).all()
    assert (window[2, :10, :20] == 90).all()


def test_a_thumbnail_shows_the_whole_slide(slide: Path) -> None:
    small = SlideReader(slide, 0.25).thumbnail(100)
    assert small.shape == (3, 70, 100)
    assert int(small[0, -1, 0]) == pytest.approx(199, abs=4)
    assert int(small[1, 0, -1]) == pytest.approx(199, abs=4)
    assert SlideReader(slide, 0.25).thumbnail(10_000).shape == (3, *SHAPE)


def test_slides_are_told_from_pictures(slide: Path, tmp_path: Path) -> None:
    image = ramp()
    Image.fromarray(image).save(tmp_path / "plain.tif")
    tifffile.imwrite(tmp_path / "tiled.tif", image, tile=(256, 256), photometric="rgb")
    with tifffile.TiffWriter(tmp_path / "pages.tif") as file:
        file.write(image, tile=(256, 256), photometric="rgb")
        file.write(image, tile=(256, 256), photometric="rgb")
    with tifffile.TiffWriter(tmp_path / "big.tif", bigtiff=True) as file:
        file.write(image, tile=(256, 256), photometric="rgb")
        file.write(image[::2, ::2].copy(), tile=(256, 256), photometric="rgb", subfiletype=1)
    (tmp_path / "a.svs").write_bytes(slide.read_bytes())
    (tmp_path / "text.tif").write_bytes(b"hello")
    found = {path.name: is_slide(path) for path in tmp_path.iterdir()}
    assert found == {
        "plain.tif": False,
        "tiled.tif": False,
        "pages.tif": False,
        "big.tif": True,
        "a.svs": True,
        "text.tif": False,
    }
    assert is_slide(slide)
    assert not is_slide(tmp_path)
    assert not is_slide(tmp_path / "absent.svs")


def test_a_large_tiled_picture_is_a_slide(slide: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_slide(ramp(), tmp_path / "one.tif", levels=1)
    assert not is_slide(path)
    monkeypatch.setattr("monai_tpseg.io.slide_detection.MAX_PIXELS", 1000)
    assert is_slide(path)


def test_a_slide_that_does_not_say_its_scale_needs_one(tmp_path: Path) -> None:
    path = write_slide(ramp(), tmp_path / "a.tif", mpp=None)
    with pytest.raises(ReadError) as caught:
        SlideReader(path, 0.5)
    assert caught.value.code == "E_NO_MPP"
    reader = SlideReader(path, 0.5, slide_mpp=0.25)
    assert (reader.grid.slide_mpp, reader.grid.scale) == ((0.25, 0.25), (2.0, 2.0))
    assert SlideReader(write_slide(ramp(), path), 0.5, slide_mpp=9.0).grid.slide_mpp == (0.25, 0.25)


@pytest.mark.parametrize(("dots", "unit"), [(72, "INCH"), (1, "NONE")])
def test_a_resolution_for_printers_is_no_scale(tmp_path: Path, dots: int, unit: str) -> None:
    tifffile.imwrite(
        tmp_path / "a.tif", ramp(), tile=(256, 256), photometric="rgb", resolution=(dots, dots), resolutionunit=unit
    )
    with pytest.raises(ReadError) as caught:
        SlideReader(tmp_path / "a.tif", 0.5)
    assert caught.value.code == "E_NO_MPP"


def test_what_is_no_slide_or_damaged_has_a_code(slide: Path, tmp_path: Path) -> None:
    (tmp_path / "a.svs").write_bytes(b"no slide")
    with pytest.raises(ReadError) as caught:
        SlideReader(tmp_path / "a.svs", 0.5)
    assert caught.value.code == "E_FORMAT"
    data = bytearray(write_slide(ramp(), tmp_path / "cut.tif", levels=1).read_bytes())
    data[len(data) // 4 :] = bytes(len(data) - len(data) // 4)
    (tmp_path / "cut.tif").write_bytes(data)
    with pytest.raises(ReadError) as caught:
        SlideReader(tmp_path / "cut.tif", 0.25).read(0, 0, *SHAPE)
    assert caught.value.code == "E_DECODE"


def test_without_openslide_a_slide_says_what_to_install(slide: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slide_reader, "has_openslide", False)
    with pytest.raises(ReadError, match=r"pip install -e '\.\[wsi\]'") as caught:
        SlideReader(slide, 0.5)
    assert caught.value.code == "E_EXTRA"


def test_the_magnification_is_a_number_of_the_modality_file(tmp_path: Path) -> None:
    assert slide_mpp() == 0.5
    for path in pipeline_path("pathology").parent.glob("*.yaml"):
        (tmp_path / path.name).write_text(path.read_text().replace("mpp: 0.5", "mpp: 0.25"))
    assert slide_mpp(tmp_path) == 0.25
    assert pipelines_hash(tmp_path) == pipelines_hash()  # pictures are made into input as before
    pathology = tmp_path / "pathology.yaml"
    pathology.write_text(pathology.read_text().replace("mpp: 0.25", "mpp: fine"))
    with pytest.raises(ValueError, match="micrometres"):
        slide_mpp(tmp_path)


def test_a_phantom_slide_is_tissue_on_glass() -> None:
    image, label = make_slide(1, (120, 160), 64)
    assert image.shape == (120, 160, 3)
    assert label.any()
    assert (image[:14].min(), image[:14].max()) == (242, 246)
    with pytest.raises(ValueError, match="does not fit"):
        make_slide(1, (120, 160), 130)


def test_a_dicom_slide_is_one_case_and_is_read_in_windows(tmp_path: Path) -> None:
    folder = write_dicom_slide(ramp(), tmp_path / "in" / "wsi")
    assert list_cases(tmp_path / "in") == list_cases(folder) == [folder]
    assert is_slide(folder)
    assert is_slide(folder / "level0.dcm")
    reader = SlideReader(folder, 0.25)
    assert (reader.grid.size, reader.grid.slide_mpp) == (SHAPE, pytest.approx((0.25, 0.25)))
    assert np.array_equal(reader.read(17, 205, 40, 60).transpose(1, 2, 0), ramp()[17:57, 205:265])


def test_a_slide_is_not_read_at_once(slide: Path, tmp_path: Path) -> None:
    folder = write_dicom_slide(ramp(), tmp_path / "wsi")
    (tmp_path / "a.svs").write_bytes(slide.read_bytes())
    for source in (slide, tmp_path / "a.svs", folder, folder / "level0.dcm"):
        with pytest.raises(ReadError, match="tpseg run") as caught:
            LoadMedicalImage()(source)
        assert caught.value.code == "E_SLIDE"


def _repacked(kind: str, slide: Path) -> None:
    """Store the one level of a DICOM slide in another way."""
    data = pydicom.dcmread(slide)
    tiles = np.frombuffer(data.PixelData, np.uint8).reshape(-1, data.Rows, data.Columns, 3)
    if kind == "16 bits":
        data.BitsAllocated, data.BitsStored, data.HighBit = 16, 16, 15
        data.PixelData = (tiles.astype("<u2") * 257).tobytes()
    elif kind == "grey":
        data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
        del data.PlanarConfiguration
        data.PixelData = tiles[..., 0].tobytes()
    elif kind == "JPEG-LS":
        data.file_meta.TransferSyntaxUID = pydicom.uid.JPEGLSLossless
        data.PixelData = encapsulate([imagecodecs.jpegls_encode(tile) for tile in tiles])
        data["PixelData"].is_undefined_length = True
    elif kind == "RLE":
        data.compress(pydicom.uid.RLELossless)
    else:
        data.file_meta.TransferSyntaxUID = pydicom.uid.JPEG2000Lossless
        data.PixelData = encapsulate([imagecodecs.jpeg2k_encode(tile, level=0, codecformat="j2k") for tile in tiles])
        data["PixelData"].is_undefined_length = True
    data.save_as(slide)


@pytest.mark.parametrize(
    ("kind", "code"), [("16 bits", "E_FORMAT"), ("grey", "E_FORMAT"), ("JPEG-LS", "E_CODEC"), ("RLE", "E_CODEC")]
)
def test_a_dicom_slide_that_openslide_does_not_read_says_why(tmp_path: Path, kind: str, code: str) -> None:
    folder = write_dicom_slide(ramp(), tmp_path / "wsi", levels=1)
    _repacked(kind, folder / "level0.dcm")
    for source in (folder, folder / "level0.dcm"):
        with pytest.raises(ReadError) as caught:
            SlideReader(source, 0.25)
        assert caught.value.code == code


def test_a_dicom_slide_in_jpeg_2000_is_read(tmp_path: Path) -> None:
    folder = write_dicom_slide(ramp(), tmp_path / "wsi", levels=1)
    _repacked("JPEG 2000", folder / "level0.dcm")
    assert np.array_equal(SlideReader(folder, 0.25).read(17, 205, 40, 60).transpose(1, 2, 0), ramp()[17:57, 205:265])


@pytest.mark.parametrize("edge", ["nan", "0", "-0.00025", "1000", "1e-12"])
def test_an_absurd_size_of_pixels_is_unknown(tmp_path: Path, edge: str) -> None:
    folder = write_dicom_slide(ramp(), tmp_path / "wsi", levels=1)
    data = pydicom.dcmread(folder / "level0.dcm")
    data.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].PixelSpacing = [edge, edge]
    data.save_as(folder / "level0.dcm")
    with pytest.raises(ReadError) as caught:
        SlideReader(folder, 0.25)
    assert caught.value.code == "E_NO_MPP"
    assert SlideReader(folder, 0.25, slide_mpp=0.5).grid.slide_mpp == (0.5, 0.5)
