"""Checks that a DICOM object is a readable image of a patient; `values` decodes it."""

from __future__ import annotations

from functools import partial

from pydicom.uid import (
    UID,
    EnhancedUSVolumeStorage,
    JPEG2000TransferSyntaxes,
    MediaStorageDirectoryStorage,
)

from monai_tpseg.io.dicom.attributes import is_colour, is_given, number, numbers, photometric, rescale
from monai_tpseg.io.dicom.compression import is_jpeg_2000, syntax_name
from monai_tpseg.io.dicom.object import Dataset
from monai_tpseg.io.dicom.panels import is_mosaic
from monai_tpseg.io.errors import ReadError
from monai_tpseg.io.safety import check_size
from monai_tpseg.words import count

__all__ = ["PHOTOMETRIC_INTERPRETATIONS", "check_image", "frame_count", "index_parts", "is_image"]

_NOT_IMAGES = frozenset(
    {"ANN", "AU", "DOC", "ECG", "KO", "PLAN", "PR", "REG", "RTDOSE", "RTPLAN", "RTRECORD", "RTSTRUCT", "SEG", "SR"}
)
_IMAGES_OF_OTHER_NAMES = frozenset({EnhancedUSVolumeStorage})  # all other names end in "Image Storage"
_PIXELS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
_WHOLE_SLIDE = "1.2.840.10008.5.1.4.1.1.77.1.6"
_VIDEO = frozenset(f"1.2.840.10008.1.2.4.{n}" for n in range(100, 109))  # MPEG-2, MPEG-4, HEVC; .1: in fragments
_GREY = frozenset({"MONOCHROME1", "MONOCHROME2", "PALETTE COLOR"})
_COLOUR = frozenset({"RGB", "YBR_FULL", "YBR_FULL_422"})
_OF_JPEG_2000 = frozenset({"YBR_ICT", "YBR_RCT"})  # its own colour transforms, which its decoder inverts
_OF_PLAIN = frozenset({"YBR_PARTIAL_422"})
_PHOTOMETRIC = _GREY | _COLOUR | _OF_JPEG_2000 | _OF_PLAIN | {"YBR_PARTIAL_420", "HSV", "ARGB", "CMYK"}
PHOTOMETRIC_INTERPRETATIONS = _GREY | _COLOUR | _OF_JPEG_2000 | _OF_PLAIN
"""Supported values of (0028,0004) Photometric Interpretation."""


def is_image(dataset: Dataset) -> bool:
    """Return whether `dataset` is, or should be, an image of a patient and not a segmentation, dose or report.

    The SOP class decides if the standard defines it. A damaged image without matrix size or class still counts: it
    must be rejected, not left out.
    """
    if str(dataset.get("Modality") or "") in _NOT_IMAGES:
        return False
    storage = _storage(dataset)
    if _is_standard(storage):
        return "Image Storage" in storage.name or storage in _IMAGES_OF_OTHER_NAMES
    return not storage or ("Rows" in dataset and "Columns" in dataset and "BitsAllocated" in dataset)


def _storage(dataset: Dataset) -> UID:
    meta = getattr(dataset, "file_meta", None) or {}
    return UID(str(dataset.get("SOPClassUID") or meta.get("MediaStorageSOPClassUID") or ""))


def _is_standard(storage: UID) -> bool:
    return bool(storage) and storage.name != str(storage) and "Storage" in storage.name


def frame_count(dataset: Dataset, name: object = "the object") -> int:
    """Return the number of frames; a missing number or 0 counts as 1.

    Raises:
        ReadError: `E_DECODE`, not a number, or negative.
    """
    if not is_given(dataset, "NumberOfFrames"):
        return 1
    count = number(dataset, "NumberOfFrames")
    if count is None or count < 0 or count != int(count):
        raise ReadError("E_DECODE", f"{name} has an unreadable number of frames; export it again.")
    return max(1, int(count))


def check_image(dataset: Dataset, name: object) -> None:
    """Reject an object that is not an image of a patient or cannot be decoded.

    Raises:
        ReadError: `E_NO_PIXELS`, `E_NOT_IMAGE`, `E_OUTSIDE`, `E_VIDEO`, `E_TOO_LARGE`, `E_PART`, `E_MOSAIC` or
            `E_FORMAT`.
    """
    _check_kind(dataset, name)
    if not any(keyword in dataset for keyword in _PIXELS):
        _check_cut(dataset, name)
    if not is_image(dataset) or not any(keyword in dataset for keyword in _PIXELS):
        raise ReadError("E_NO_PIXELS", f"{name} has no pixel data; exclude it.")
    if not dataset.get("Rows") or not dataset.get("Columns"):
        rows, columns = (int(number(dataset, keyword) or 0) for keyword in ("Rows", "Columns"))
        raise ReadError("E_NO_PIXELS", f"{name} has {count(rows, 'row')} and {count(columns, 'column')}; exclude it.")
    _check_described(dataset, name)
    frames = frame_count(dataset, name)
    if str(dataset.file_meta.TransferSyntaxUID).removesuffix(".1") in _VIDEO:
        raise ReadError("E_VIDEO", f"{name} is a video ({syntax_name(dataset)}); export its frames.")
    if dataset.get("SOPClassUID") == _WHOLE_SLIDE and frames > 1:
        raise ReadError("E_SLIDE", f"{name} is a whole slide; give it to tpseg run.")
    check_size((int(dataset.Rows), int(dataset.Columns)), frames, name)
    if dataset.get("ConcatenationUID") and number(dataset, "InConcatenationTotalNumber") != 1:
        raise ReadError("E_PART", f"{name} is part of an object split into several files; export it as one.")
    if is_mosaic(dataset):  # Siemens' mosaics, montages
        raise ReadError("E_MOSAIC", f"{name} shows many slices in one frame; save each as a separate image.")
    dataset.PhotometricInterpretation = photometric(dataset)  # for the decoders, which read it themselves
    if "NumberOfFrames" in dataset:
        dataset.NumberOfFrames = frames
    if not is_given(dataset, "SamplesPerPixel"):
        dataset.SamplesPerPixel = 1
    samples, bits = int(dataset.SamplesPerPixel), int(dataset.BitsAllocated)
    if samples not in (1, 3) or bits not in (1, 8, 16, 32, 64):
        raise ReadError(
            "E_FORMAT", f"{name} has {samples} samples of {bits} bits per pixel; convert it to grey or RGB."
        )
    _check_colour(dataset, samples, name)
    if samples == 3 and (not is_given(dataset, "PlanarConfiguration") or is_jpeg_2000(dataset)):
        dataset.PlanarConfiguration = 0  # as GDCM and DCMTK interpret it; any value for JPEG 2000 (PS3.5 8.2.4)
    rescale(dataset, name)
    if "PixelData" in dataset:
        high, stored = int(dataset.get("HighBit", dataset.BitsStored - 1)), int(dataset.BitsStored)
        if not 0 < stored <= bits or high != stored - 1:
            raise ReadError("E_FORMAT", f"{name} stores {stored} bits up to bit {high} of {bits}; convert it.")


def _check_described(dataset: Dataset, name: object) -> None:
    """Reject pixels whose size or type the header does not state, or states by something that is not a number."""
    needed = ("BitsAllocated", *(("BitsStored",) if "PixelData" in dataset else ()))
    for keyword in (*needed, "Rows", "Columns", "SamplesPerPixel", "PixelRepresentation"):
        if number(dataset, keyword) is None and (keyword in needed or is_given(dataset, keyword)):
            raise ReadError("E_DECODE", f"{name} has no usable {keyword}; export it again.")
    if "PixelData" not in dataset or is_given(dataset, "PixelRepresentation"):
        return
    if not is_colour(dataset) and int(dataset.BitsStored) > 8:
        raise ReadError("E_DECODE", f"{name} does not say whether its values are signed; export it again.")
    dataset.PixelRepresentation = 0


def _check_colour(dataset: Dataset, samples: int, name: object) -> None:
    """Reject an unsupported photometric interpretation, whose values would be mistaken for red, green and blue."""
    named = photometric(dataset)
    syntax = UID(str(dataset.file_meta.TransferSyntaxUID))
    if named == "PALETTE COLOR" and not all(map(partial(_has_palette, dataset), ("Red", "Green", "Blue"))):
        raise ReadError("E_DECODE", f"{name} lacks colours of its palette; export it again.")
    known = _GREY if samples == 1 else _COLOUR
    if samples == 3:
        known = known | (_OF_JPEG_2000 if syntax in JPEG2000TransferSyntaxes else frozenset())
        known = known | (_OF_PLAIN if syntax.is_transfer_syntax and not syntax.is_encapsulated else frozenset())
    if named not in known:
        kind = named if named in _PHOTOMETRIC else "an unknown photometric interpretation"
        raise ReadError("E_FORMAT", f"{name} is {kind} with {samples} samples per pixel; convert it to grey or RGB.")


def _has_palette(dataset: Dataset, colour: str) -> bool:
    start = f"{colour}PaletteColorLookupTable"
    stated = numbers(dataset, f"{start}Descriptor", 3) is not None
    return stated and any(is_given(dataset, keyword) for keyword in (f"{start}Data", f"Segmented{start}Data"))


def _check_cut(dataset: Dataset, name: object) -> None:
    """Reject an image that was cut off before its pixels: it must fail, not be left out as a non-image object."""
    matrix = dataset.get("Rows") and dataset.get("Columns")
    stated = UID(
        str(dataset.file_meta.get("MediaStorageSOPClassUID") or "")
    )  # complete if the data set ends inside its
    if any("Image Storage" in storage.name for storage in (_storage(dataset), stated)) or matrix:
        raise ReadError("E_TRUNCATED", f"{name} is an image that ends before its pixels; copy or export it again.")


def _check_kind(dataset: Dataset, name: object) -> None:
    modality = str(dataset.get("Modality") or "")
    if modality in _NOT_IMAGES:
        raise ReadError("E_NOT_IMAGE", f"{name} is a {modality} object, not an image; give the image it belongs to.")
    if dataset.file_meta.get("MediaStorageSOPClassUID") == MediaStorageDirectoryStorage:
        index_parts(dataset, name)
        raise ReadError("E_NOT_IMAGE", f"{name} is the index of a disc, not an image; give the folder of a series.")
    storage = _storage(dataset)
    if _is_standard(storage) and not is_image(dataset):
        kind = storage.name.removesuffix(" Storage")
        raise ReadError("E_NOT_IMAGE", f"{name} is an object of class {kind}, not an image; exclude it.")


def index_parts(dataset: Dataset, name: object) -> list[tuple[str, ...]]:
    """Return the path components of each file listed by a DICOMDIR, relative to its folder.

    Raises:
        ReadError: `E_OUTSIDE`, a path leads outside the folder.
    """
    found = []
    for record in dataset.get("DirectoryRecordSequence") or ():
        value = record.get("ReferencedFileID") or ()
        parts = (value,) if isinstance(value, str) else tuple(str(part) for part in value)
        # a component is one name: separators and ".." can only serve to leave the folder
        if any(part in ("..", ".") or any(sign in part for sign in "/\\:\0") for part in parts):
            raise ReadError("E_OUTSIDE", f"{name} refers to files outside its folder; do not trust it.")
        found += [parts] if parts else []
    return found
