"""Pixel values of a DICOM object and their meaning: colour, display grey, or a physical unit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.pixels import apply_color_lut, pixel_array

from monai_tpseg.io.dicom.attributes import is_colour, is_rescaled, number, numbers, padding, photometric
from monai_tpseg.io.dicom.compression import (
    check_encoded,
    colour_is_doubtful,
    decodes_itself,
    decoding_plugin,
    decompress,
    is_jpeg_2000,
    syntax_name,
    without_overlays,
)
from monai_tpseg.io.dicom.image_check import frame_count
from monai_tpseg.io.dicom.modality_lut import modality_values
from monai_tpseg.io.dicom.object import Dataset
from monai_tpseg.io.dicom.panels import may_show_panels
from monai_tpseg.io.dicom.stack import has_positions
from monai_tpseg.io.errors import ReadError
from monai_tpseg.io.loaded import Array
from monai_tpseg.io.meta_keys import (
    COLOUR_DOUBTFUL,
    FORMAT,
    INVERTED,
    MODALITY,
    PANELS_DOUBTFUL,
    PHOTOMETRIC,
    Intensity,
)

__all__ = [
    "AIR",
    "common_intensity",
    "decode",
    "dicom_meta",
    "display_values",
    "intensity_of",
    "is_picture",
    "physical_values",
    "read_values",
]

DISPLAY_MODALITIES = frozenset({"ES", "GM", "IVOCT", "IVUS", "OAM", "OP", "OPM", "OPT", "SM", "US", "XC"})
"""DICOM modalities whose stored values are pictures at any bit depth."""

AIR = -1024.0
"""Upper limit of padding in CT, in HU."""

# PS3.3 C.7.6.3.1.2: red, green and blue -> Y, CB and CR of YBR_PARTIAL_422, less 16, 128 and 128
_PARTIAL = np.array([[0.2568, 0.5041, 0.0979], [-0.1482, -0.2910, 0.4392], [0.4392, -0.3678, -0.0714]])


def decode(dataset: Dataset, name: object) -> NDArray[Any]:
    """Return the stored values, (frames, H, W) or (frames, H, W, 3), colour and palettes as RGB.

    Raises:
        ReadError: `E_TRUNCATED`, `E_CODEC` or `E_DECODE`.
    """
    frames = frame_count(dataset, name)
    shape = (frames, int(dataset.Rows), int(dataset.Columns), *((3,) if is_colour(dataset) else ()))
    try:
        check_encoded(dataset, frames, name)
        if decodes_itself(dataset):
            decompress([dataset], frames, name)
        if dataset.get("PhotometricInterpretation") == "YBR_PARTIAL_422":
            return _from_partial(dataset).reshape(shape)
        values = pixel_array(dataset, decoding_plugin=decoding_plugin(dataset))  # YBR becomes RGB here
        if is_jpeg_2000(dataset):
            values = without_overlays(values, dataset)
        if dataset.get("PhotometricInterpretation") == "PALETTE COLOR":
            values = apply_color_lut(values, dataset)
        _check_grey(np.asarray(values), dataset, name)
        return np.asarray(values).reshape(shape)
    except ReadError:
        raise
    except (RuntimeError, ValueError) as error:  # raised by the decoders that pydicom calls
        if "less than expected" in str(error) or "end of" in str(error).lower():
            raise ReadError("E_TRUNCATED", f"{name} ends before its last pixel; copy or export it again.") from error
        if not decoding_plugin(dataset):
            raise
        raise ReadError(
            "E_DECODE", f"{name} cannot be decoded ({syntax_name(dataset)}); convert it to uncompressed DICOM."
        ) from error


def _check_grey(values: NDArray[Any], dataset: Dataset, name: object) -> None:
    """Reject pixels that are indices of colours beside grey ones (supplemental palette, PS3.3 C.8.16.2.1.1.2)."""
    shown = str(dataset.get("PixelPresentation") or "").strip().upper()
    palette = numbers(dataset, "RedPaletteColorLookupTableDescriptor", 3)
    if is_colour(dataset) or shown not in ("COLOR", "MIXED") or palette is None:
        return
    first = palette[1]
    if values.dtype.kind == "i" and first >= 2**15:  # signed, as the pixels are
        first -= 2**16
    if values.max() >= first:
        raise ReadError("E_FORMAT", f"{name} shows some of its values in colour; export it without the coloured ones.")


def _from_partial(dataset: Dataset) -> NDArray[Any]:
    """YBR_PARTIAL_422 has the layout of YBR_FULL_422, but black is 16 and white is 235 (PS3.3 C.7.6.3.1.2)."""
    full = pydicom.Dataset()
    full.file_meta = dataset.file_meta
    full.update({element.tag: element for element in dataset.group_dataset(0x0028)})
    full.PixelData, full.PhotometricInterpretation = dataset.PixelData, "YBR_FULL_422"
    ybr = np.asarray(pixel_array(full, raw=True), dtype=np.float64) - [16, 128, 128]
    return np.clip(np.round(ybr @ np.linalg.inv(_PARTIAL).T), 0, 255).astype(np.uint8)


def intensity_of(header: Dataset) -> Intensity:
    """Return the meaning of the values: `display` for colour, pictures and 8-bit values, otherwise `physical`.

    Args:
        header: header of an object or of a frame, see `frames_of`.
    """
    if is_picture(header):
        return "display"
    bits = number(header, "BitsStored")
    if bits is None:  # floating point
        return "physical"
    return "display" if bits <= 8 and not is_rescaled(header) else "physical"


def is_picture(header: Dataset) -> bool:
    """Return whether values are a picture at any bit depth: colour, or a modality of pictures."""
    return is_colour(header) or header.get("Modality") in DISPLAY_MODALITIES


def common_intensity(headers: Sequence[Dataset]) -> Intensity:
    """Return the meaning of the values of several frames: `physical` if any of them is."""
    return "physical" if "physical" in {intensity_of(header) for header in headers} else "display"


def read_values(datasets: Sequence[Dataset], headers: Sequence[Sequence[Dataset]], name: object) -> Array:
    """Return the values of all frames of one or several objects, each converted by its own header.

    Args:
        datasets: objects of the same size and kind, with pixels.
        headers: headers of the frames of each object, see `frames_of`.
        name: name used in error messages.

    Returns:
        (F, H, W), or (F, H, W, 3) for colour; NaN for padding pixels.

    Raises:
        ReadError: see `decode`; `E_FORMAT`, an unusable rescale.
    """
    intensity = common_intensity([header for one in headers for header in one])
    if len(datasets) > 1:  # one child process for all
        decompress(datasets, len(headers[0]), name)
    total = sum(len(one) for one in headers)
    values: Array | None = None
    done = 0
    for dataset, one in zip(datasets, headers, strict=True):
        for stored, header in zip(decode(dataset, name), one, strict=True):
            physical = intensity == "physical"
            found = physical_values(stored, header, name) if physical else display_values(stored, dataset)
            values = np.empty((total, *found.shape), dtype=np.float32) if values is None else values
            values[done] = _without_padding(found, stored, header)
            done += 1
    assert values is not None
    return values


def _without_padding(values: Array, stored: NDArray[Any], header: Dataset) -> Array:
    """Replace padding by NaN."""
    declared = padding(header)
    if declared is None:
        return values
    absent = (stored >= declared.low) & (stored <= declared.high)
    if header.get("Modality") == "CT":
        absent &= values > AIR  # values no denser than air look like air
    return np.where(absent, np.float32(np.nan), values)


def display_values(values: NDArray[Any], dataset: Dataset) -> Array:
    """Scale stored values to 0 to 255 by the number of bits stored."""
    if dataset.get("PhotometricInterpretation") == "PALETTE COLOR":
        return np.asarray(values // 256 if _wide_palette(dataset) else values, dtype=np.float32)
    bits = int(dataset.BitsStored)
    shifted = values.astype(np.float32) + (2.0 ** (bits - 1) if int(dataset.get("PixelRepresentation") or 0) else 0.0)
    scaled: Array = np.clip(shifted, 0, 2.0**bits - 1).astype(np.float32)
    return scaled if bits == 8 else (scaled * np.float32(255 / (2.0**bits - 1))).astype(np.float32)


def _wide_palette(dataset: Dataset) -> bool:
    """A 16-bit palette has 8-bit colours in the high byte, unless no entry exceeds 8 bits."""
    entries, first, bits = (int(n) for n in dataset.RedPaletteColorLookupTableDescriptor)
    table = apply_color_lut(np.arange(first, first + (entries or 2**16)), dataset)
    return bits > 8 and int(table.max()) > 255


def physical_values(values: NDArray[Any], header: Dataset, name: object) -> Array:
    """Convert stored values to HU or other units by the modality LUT or rescale of `header`."""
    with np.errstate(over="ignore"):  # values beyond float32 become infinite and are counted
        return modality_values(values, header, name).astype(np.float32)


def dicom_meta(dataset: Dataset) -> dict[str, Any]:
    """Return photometric interpretation, inversion and modality of one object as metadata."""
    named = photometric(dataset)
    shape = str(dataset.get("PresentationLUTShape") or "")
    inverted = shape == "INVERSE" if shape in ("INVERSE", "IDENTITY") else named == "MONOCHROME1"
    meta = {FORMAT: "dicom", PHOTOMETRIC: named, INVERTED: inverted and not is_colour(dataset)}
    meta |= {COLOUR_DOUBTFUL: True} if colour_is_doubtful(dataset) else {}
    meta |= {PANELS_DOUBTFUL: True} if may_show_panels(dataset, has_positions(dataset)) else {}
    return meta | {MODALITY: str(dataset.get("Modality") or "")}
