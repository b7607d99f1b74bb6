"""One DICOM object: what it is, its pixels, and what its values mean. Positions are the business of `dicom_volume`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.pixels import apply_color_lut, apply_modality_lut, pixel_array
from pydicom.uid import (
    UID,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    MediaStorageDirectoryStorage,
)

from monai_tpseg.transforms.encoded import check_deflated, check_encoded, decoding_plugin, decompress, syntax_name
from monai_tpseg.transforms.errors import ReadError
from monai_tpseg.transforms.guard import base_name, check_size
from monai_tpseg.transforms.meta import FORMAT, INVERTED, MODALITY, PHOTOMETRIC, Intensity
from monai_tpseg.transforms.sources import Array

__all__ = [
    "Dataset",
    "check_image",
    "decode",
    "dicom_meta",
    "display_values",
    "frame_count",
    "index_parts",
    "intensity_of",
    "is_dicom",
    "is_image",
    "is_secondary_capture",
    "physical_values",
    "read_dataset",
]

Dataset = Any  # pydicom.Dataset: attributes are looked up by keyword

DISPLAY_MODALITIES = frozenset({"ES", "GM", "IVOCT", "IVUS", "OAM", "OP", "OPM", "OPT", "SM", "US", "XC"})
"""DICOM modalities whose stored values are a picture at any bit depth."""

_NOT_IMAGES = frozenset({"KO", "PLAN", "PR", "REG", "RTDOSE", "RTPLAN", "RTSTRUCT", "SEG", "SR"})
_PIXELS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
_WHOLE_SLIDE = "1.2.840.10008.5.1.4.1.1.77.1.6"
_SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"  # and .1 to .4: several frames of 1, 8, 16 bits or colour
_VIDEO = frozenset(f"1.2.840.10008.1.2.4.{n}" for n in range(100, 109))  # MPEG-2, MPEG-4, HEVC; .1: in fragments
_GROUPS_AT_START = (b"\x02\x00", b"\x08\x00", b"\x00\x08")


def is_dicom(path: Path) -> bool:
    """Say whether `path` is DICOM, by its content: the preamble, or a data set without one that names its class."""
    with path.open("rb") as file:
        head = file.read(132)
    if head[128:] == b"DICM":
        return True
    if not head.startswith(_GROUPS_AT_START):
        return False
    try:
        dataset = pydicom.dcmread(path, force=True, stop_before_pixels=True, specific_tags=["SOPClassUID"])
    except Exception:  # bytes that are no DICOM make pydicom raise anything
        return False
    return "SOPClassUID" in dataset or "MediaStorageSOPClassUID" in getattr(dataset, "file_meta", {})


def read_dataset(path: Path, pixels: bool = True) -> Dataset:
    """Return the data set of one DICOM file.

    Args:
        path: a DICOM file, with or without preamble.
        pixels: read the pixel data as well.

    Raises:
        ReadError: `E_DECODE` or `E_TRUNCATED`, it cannot be parsed; `E_TOO_LARGE`, it unpacks without end.
    """
    try:
        check_deflated(path, base_name(path))
        dataset = pydicom.dcmread(path, force=True, stop_before_pixels=not pixels)
    except ReadError:
        raise
    except EOFError as error:
        raise ReadError("E_TRUNCATED", f"{base_name(path)} ends inside its header; copy or export it again.") from error
    except Exception as error:  # damaged bytes make pydicom raise anything
        raise ReadError("E_DECODE", f"{base_name(path)} is not DICOM that can be parsed; export it again.") from error
    if not getattr(dataset, "file_meta", None):
        dataset.file_meta = pydicom.dataset.FileMetaDataset()
    if "TransferSyntaxUID" not in dataset.file_meta:
        implicit, little = dataset.original_encoding
        plain = ExplicitVRLittleEndian if little else ExplicitVRBigEndian
        dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else plain
    return dataset


def is_image(dataset: Dataset) -> bool:
    """Say whether `dataset` is, or ought to be, a patient's image; segmentations, doses and reports are none.

    A damaged image that lost its matrix or its class still counts: it must be refused, not left out.
    """
    if str(dataset.get("Modality") or "") in _NOT_IMAGES:
        return False
    matrix = "Rows" in dataset and "Columns" in dataset and "BitsAllocated" in dataset
    storage = UID(str(dataset.get("SOPClassUID") or ""))
    return matrix or not storage or "Image Storage" in storage.name


def is_secondary_capture(dataset: Dataset) -> bool:
    """Say whether `dataset` is a picture that was taken from a screen or from paper, or came from elsewhere."""
    storage = str(dataset.get("SOPClassUID") or "")
    return storage == _SECONDARY_CAPTURE or storage.startswith(f"{_SECONDARY_CAPTURE}.")


def frame_count(dataset: Dataset, name: object = "the object") -> int:
    """Return the number of frames, 1 where it is not given.

    Raises:
        ReadError: `E_DECODE`, it is not a number.
    """
    try:
        return max(1, int(dataset.get("NumberOfFrames") or 1))
    except (TypeError, ValueError) as error:
        raise ReadError("E_DECODE", f"{name} has an unreadable number of frames; export it again.") from error


def check_image(dataset: Dataset, name: object) -> None:
    """Refuse what is not an image of a patient or cannot be decoded.

    Raises:
        ReadError: `E_NO_PIXELS`, `E_NOT_IMAGE`, `E_OUTSIDE`, `E_VIDEO`, `E_TOO_LARGE` or `E_FORMAT`.
    """
    _check_kind(dataset, name)
    if not any(keyword in dataset for keyword in _PIXELS):
        _check_cut(dataset, name)
    if not is_image(dataset) or not any(keyword in dataset for keyword in _PIXELS):
        raise ReadError("E_NO_PIXELS", f"{name} has no pixel data; leave it out.")
    rows, columns = int(dataset.get("Rows") or 0), int(dataset.get("Columns") or 0)
    frames = frame_count(dataset, name)
    if not rows or not columns:
        raise ReadError("E_NO_PIXELS", f"{name} has {rows} rows and {columns} columns; leave it out.")
    if str(dataset.file_meta.TransferSyntaxUID).removesuffix(".1") in _VIDEO:
        raise ReadError("E_VIDEO", f"{name} is a video ({syntax_name(dataset)}); export its frames.")
    if dataset.get("SOPClassUID") == _WHOLE_SLIDE and frames > 1:
        raise ReadError("E_SLIDE", f"{name} is a whole slide; give it to tpseg run.")
    check_size((rows, columns), frames, name)
    samples, bits = int(dataset.get("SamplesPerPixel") or 1), int(dataset.BitsAllocated)
    if samples not in (1, 3) or bits not in (1, 8, 16, 32, 64):
        raise ReadError("E_FORMAT", f"{name} has {samples} samples of {bits} bits a pixel; convert it to grey or RGB.")
    if "PixelData" in dataset:
        high, stored = int(dataset.get("HighBit", dataset.BitsStored - 1)), int(dataset.BitsStored)
        if not 0 < stored <= bits or high != stored - 1:
            raise ReadError("E_FORMAT", f"{name} stores {stored} bits up to bit {high} of {bits}; convert it.")


def _check_cut(dataset: Dataset, name: object) -> None:
    """An image without pixels was cut off: it must fail, not be left out as an object that has none."""
    storage = UID(str(dataset.get("SOPClassUID") or dataset.file_meta.get("MediaStorageSOPClassUID") or ""))
    matrix = dataset.get("Rows") and dataset.get("Columns")
    if "Image Storage" in storage.name or matrix:
        raise ReadError("E_TRUNCATED", f"{name} is an image that ends before its pixels; copy or export it again.")


def _check_kind(dataset: Dataset, name: object) -> None:
    modality = str(dataset.get("Modality") or "")
    if modality in _NOT_IMAGES:
        raise ReadError("E_NOT_IMAGE", f"{name} is a {modality} object, not an image; give the image it belongs to.")
    if dataset.file_meta.get("MediaStorageSOPClassUID") != MediaStorageDirectoryStorage:
        return
    index_parts(dataset, name)
    raise ReadError("E_NOT_IMAGE", f"{name} is the index of a disc, not an image; give the folder of a series.")


def index_parts(dataset: Dataset, name: object) -> list[tuple[str, ...]]:
    """Return the parts of the path of each file that the index of a disc (DICOMDIR) lists, below its own folder.

    Raises:
        ReadError: `E_OUTSIDE`, a path leads out of the folder.
    """
    found = []
    for record in dataset.get("DirectoryRecordSequence") or ():
        value = record.get("ReferencedFileID") or ()
        parts = (value,) if isinstance(value, str) else tuple(str(part) for part in value)
        # a part is one name: what separates or climbs can only be meant to leave the folder
        if any(part in ("..", ".") or any(sign in part for sign in "/\\:\0") for part in parts):
            raise ReadError("E_OUTSIDE", f"{name} refers to files outside of its folder; do not trust it.")
        found += [parts] if parts else []
    return found


def decode(dataset: Dataset, name: object) -> NDArray[Any]:
    """Return the stored values, (frames, H, W) or (frames, H, W, 3), colour as RGB, palettes looked up.

    Raises:
        ReadError: `E_TRUNCATED`, `E_CODEC` or `E_DECODE`.
    """
    frames = frame_count(dataset, name)
    shape = (frames, int(dataset.Rows), int(dataset.Columns), *((3,) if _is_colour(dataset) else ()))
    try:
        check_encoded(dataset, frames, name)
        if decoding_plugin(dataset) == "gdcm":
            decompress([dataset], frames, name)
        values = pixel_array(dataset, decoding_plugin=decoding_plugin(dataset))  # YBR becomes RGB here
        if dataset.get("PhotometricInterpretation") == "PALETTE COLOR":
            values = apply_color_lut(values, dataset)
        return np.asarray(values).reshape(shape)
    except ReadError:
        raise
    except Exception as error:  # every decoder behind pydicom has exceptions of its own
        if "less than expected" in str(error) or "end of" in str(error).lower():
            raise ReadError("E_TRUNCATED", f"{name} ends before its last pixel; copy or export it again.") from error
        raise ReadError(
            "E_DECODE", f"{name} cannot be decoded ({syntax_name(dataset)}); convert it to an uncompressed one."
        ) from error


def intensity_of(dataset: Dataset) -> Intensity:
    """Return what the values mean: `display` for colour, pictures and plain 8 bits, else `physical`."""
    rescaled = "ModalityLUTSequence" in dataset or (
        float(dataset.get("RescaleSlope") or 1) != 1 or float(dataset.get("RescaleIntercept") or 0) != 0
    )
    if _is_colour(dataset) or dataset.get("Modality") in DISPLAY_MODALITIES:
        return "display"
    if "PixelData" not in dataset:  # floating point
        return "physical"
    return "display" if int(dataset.BitsStored) <= 8 and not rescaled else "physical"


def display_values(values: NDArray[Any], dataset: Dataset) -> Array:
    """Stored values -> 0 to 255 by the number of bits that are stored."""
    if dataset.get("PhotometricInterpretation") == "PALETTE COLOR":
        return np.asarray(values // 256 if _wide_palette(dataset) else values, dtype=np.float32)
    bits = int(dataset.BitsStored)
    shifted = values.astype(np.float32) + (2.0 ** (bits - 1) if int(dataset.get("PixelRepresentation") or 0) else 0.0)
    scaled: Array = np.clip(shifted, 0, 2.0**bits - 1).astype(np.float32)
    return scaled if bits == 8 else (scaled * np.float32(255 / (2.0**bits - 1))).astype(np.float32)


def _wide_palette(dataset: Dataset) -> bool:
    """A 16-bit table holds 8-bit colours in its high byte, unless none of its entries exceeds 8 bits."""
    entries, first, bits = (int(n) for n in dataset.RedPaletteColorLookupTableDescriptor)
    table = apply_color_lut(np.arange(first, first + (entries or 2**16)), dataset)
    return bits > 8 and int(table.max()) > 255


def physical_values(values: NDArray[Any], dataset: Dataset) -> Array:
    """Stored values -> HU or other units by the modality LUT or rescale slope and intercept."""
    return np.asarray(apply_modality_lut(values, dataset), dtype=np.float32)


def dicom_meta(dataset: Dataset) -> dict[str, Any]:
    """Return the decisions of one object: photometric interpretation, whether it is to be inverted, modality."""
    photometric = str(dataset.get("PhotometricInterpretation") or "")
    shape = str(dataset.get("PresentationLUTShape") or "")
    inverted = shape == "INVERSE" if shape in ("INVERSE", "IDENTITY") else photometric == "MONOCHROME1"
    meta = {FORMAT: "dicom", PHOTOMETRIC: photometric, INVERTED: inverted and not _is_colour(dataset)}
    return meta | {MODALITY: str(dataset.get("Modality") or "")}


def _is_colour(dataset: Dataset) -> bool:
    samples = int(dataset.get("SamplesPerPixel") or 1)
    return samples == 3 or dataset.get("PhotometricInterpretation") == "PALETTE COLOR"
