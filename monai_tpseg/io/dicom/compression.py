"""Checks of compressed DICOM pixels before decoding: the codestream must agree with the header."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Sequence
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.encaps import generate_frames
from pydicom.uid import UID, JPEG2000TransferSyntaxes, RLELossless

from monai_tpseg.io.dicom.gdcm import decompress_isolated
from monai_tpseg.io.dicom.jpeg import colours_disagree, jpeg_header, replace_jpeg
from monai_tpseg.io.dicom.jpeg_2000 import codestream, is_whole, jpeg_2000_size, transforms_colour
from monai_tpseg.io.errors import ReadError
from monai_tpseg.words import count

__all__ = [
    "check_encoded",
    "colour_is_doubtful",
    "decodes_itself",
    "decoding_plugin",
    "decompress",
    "frame_size",
    "is_jpeg_2000",
    "syntax_name",
    "without_overlays",
]

_JPEG_XL = frozenset(f"1.2.840.10008.1.2.4.{n}" for n in (110, 111, 112))
_LOSSLESS_2000 = frozenset({"1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.201", "1.2.840.10008.1.2.4.202"})
_RLE_RATIO = 64  # two bytes encode at most 128
_ITEM = b"\xfe\xff\x00\xe0"  # start of a fragment
_JPEG, _END = b"\xff\xd8\xff", b"\xff\xd9"
_STREAMS = (_JPEG, b"\xff\x4f\xff\x51")  # first bytes of a frame in JPEG or JPEG-LS, and in JPEG 2000

_BY_JPEG = "imagecodecs"  # not a pydicom plugin: see `jpeg.py`
_JPEG_LS = "pyjpegls"
_PLUGINS = {  # pydicom would try GDCM first, which aborts the whole process on some damaged streams
    "1.2.840.10008.1.2.4.50": _BY_JPEG,
    "1.2.840.10008.1.2.4.51": _BY_JPEG,
    "1.2.840.10008.1.2.4.57": _BY_JPEG,
    "1.2.840.10008.1.2.4.70": _BY_JPEG,
    "1.2.840.10008.1.2.4.80": _JPEG_LS,
    "1.2.840.10008.1.2.4.81": _JPEG_LS,
    "1.2.840.10008.1.2.4.90": "pylibjpeg",
    "1.2.840.10008.1.2.4.91": "pylibjpeg",
    "1.2.840.10008.1.2.4.201": "pylibjpeg",
    "1.2.840.10008.1.2.4.202": "pylibjpeg",
    "1.2.840.10008.1.2.4.203": "pylibjpeg",
    "1.2.840.10008.1.2.5": "pylibjpeg",
}


def syntax_name(dataset: Any) -> str:
    """Return the name of the transfer syntax; a value not defined by DICOM is not repeated."""
    syntax = UID(str(dataset.file_meta.TransferSyntaxUID))
    return syntax.name if syntax.is_transfer_syntax and syntax.name != str(syntax) else "an unknown transfer syntax"


def decoding_plugin(dataset: Any) -> str:
    """Return the pydicom plugin that decodes the pixels of `dataset`, or "" for uncompressed pixels."""
    return _PLUGINS.get(str(dataset.file_meta.TransferSyntaxUID), "")


def decompress(datasets: Sequence[Any], frames: int, name: object) -> None:
    """Decompress JPEG and JPEG-LS pixels in place, colour to RGB. Other pixels stay compressed.

    Args:
        datasets: objects with pixel data.
        frames: number of frames declared by each header.
        name: name used in error messages.

    Raises:
        ReadError: see `check_encoded`; `E_DECODE` or `E_TRUNCATED`, a JPEG or JPEG-LS stream is damaged.
    """
    for dataset in datasets:
        check_encoded(dataset, frames, name)
    odd = []
    for dataset in datasets:
        plugin = decoding_plugin(dataset)
        if plugin == _BY_JPEG:
            _replace_jpeg(dataset, frames, name)
        elif plugin == _JPEG_LS:
            try:
                dataset.decompress(decoding_plugin=plugin, generate_instance_uid=False)
            except Exception:  # CharLS also rejects harmless irregularities such as padding: GDCM decides
                odd.append(dataset)
    try:
        if odd:
            decompress_isolated(odd)
    except (RuntimeError, subprocess.TimeoutExpired) as error:
        raise ReadError("E_DECODE", f"{name} cannot be decoded (JPEG-LS); export it again.") from error


def decodes_itself(dataset: Any) -> bool:
    """Return whether the pixels of `dataset` are decoded by `decompress` instead of a pydicom plugin."""
    return decoding_plugin(dataset) in (_BY_JPEG, _JPEG_LS)


def colour_is_doubtful(dataset: Any) -> bool:
    """Return whether header and codestream state different colour spaces, so that readers differ and review is needed.

    JPEG states its colour space in several ways. JPEG 2000 with its own colour transform decodes to RGB; YBR_FULL in
    the header would mean a second transform.
    """
    of_jpeg, of_jpeg_2000 = (test(dataset) for test in (_is_jpeg, is_jpeg_2000))
    if not (of_jpeg or of_jpeg_2000) or int(dataset.get("SamplesPerPixel") or 1) != 3:
        return False
    first = next(iter(_frames(dataset, int(dataset.get("NumberOfFrames") or 1))), b"")
    named = str(dataset.get("PhotometricInterpretation") or "")
    if of_jpeg:
        return colours_disagree(first, named)
    start = codestream(first)
    return named.startswith("YBR_FULL") and start is not None and transforms_colour(first, start)


def _is_jpeg(dataset: Any) -> bool:
    return decoding_plugin(dataset) == _BY_JPEG


def is_jpeg_2000(dataset: Any) -> bool:
    """Return whether the pixels of `dataset` are in JPEG 2000, including HTJ2K."""
    return UID(str(dataset.file_meta.TransferSyntaxUID)) in JPEG2000TransferSyntaxes


def without_overlays(values: NDArray[Any], dataset: Any) -> NDArray[Any]:
    """Return grey values of JPEG 2000 without bits above the stored ones, which pydicom keeps for lossless streams.

    Lossy streams cannot hold overlays in these bits: values slightly beyond the range are clipped.

    Args:
        values: stored values.
        dataset: the object with its encoded pixels.
    """
    bits, room = int(dataset.get("BitsStored") or 0), 8 * values.dtype.itemsize
    if values.dtype.kind not in "iu" or not 0 < bits < room or int(dataset.get("SamplesPerPixel") or 1) != 1:
        return values
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if values.dtype.kind == "i" else (0, 2**bits - 1)
    if str(dataset.file_meta.TransferSyntaxUID) not in _LOSSLESS_2000:
        return np.asarray(np.clip(values, low, high))
    return np.asarray(np.left_shift(values, room - bits) >> (room - bits))  # sign extension


def _replace_jpeg(dataset: Any, frames: int, name: object) -> None:
    try:
        replace_jpeg(dataset, list(_frames(dataset, frames)))
    except EOFError as error:
        raise ReadError("E_TRUNCATED", f"{name} ends before its last pixel; copy or export it again.") from error
    except (RuntimeError, ValueError) as error:
        raise ReadError("E_DECODE", f"{name} cannot be decoded ({syntax_name(dataset)}); export it again.") from error


def check_encoded(dataset: Any, frames: int, name: object) -> None:
    """Reject compressed pixels that no decoder reads or whose size differs from the header.

    Args:
        dataset: an object with pixel data.
        frames: number of frames declared by its header.
        name: name used in error messages.

    Raises:
        ReadError: `E_CODEC`, `E_DECODE` or `E_TRUNCATED`.
    """
    syntax = UID(str(dataset.file_meta.TransferSyntaxUID))
    known = syntax.is_transfer_syntax and not syntax.is_private
    if syntax in _JPEG_XL or not known or (syntax.is_encapsulated and syntax not in _PLUGINS):
        raise ReadError(
            "E_CODEC", f"{name} is compressed with {syntax_name(dataset)}, which is not supported; convert it."
        )
    if "PixelData" not in dataset:
        return
    if not dataset.PixelData:
        raise ReadError("E_NO_PIXELS", f"{name} has empty pixel data; exclude it.")
    wanted = (int(dataset.Rows), int(dataset.Columns), int(dataset.get("SamplesPerPixel") or 1))
    size = prod(wanted) * (-(-int(dataset.BitsAllocated) // 8))
    if not syntax.is_encapsulated:
        _check_plain(dataset, frames, size, name)
        return
    found = 0
    for frame in _whole_frames(dataset, frames, name):
        found += 1
        if syntax == RLELossless:
            if size > _RLE_RATIO * len(frame):
                raise ReadError("E_TRUNCATED", f"{name} has too few bytes for its pixels; copy or export it again.")
            continue
        inside = frame_size(frame)
        if inside is None:
            raise ReadError("E_DECODE", f"{name} holds no {syntax_name(dataset)}; export it again.")
        if inside != wanted:
            sizes, stated = (f"{h} x {w} pixels of {n} samples" for h, w, n in (inside, wanted))
            raise ReadError("E_DECODE", f"{name} holds {sizes} and its header {stated}; export it again.")
        start = codestream(frame)
        if start is not None and not is_whole(frame, start):
            raise ReadError("E_TRUNCATED", f"{name} ends before its last pixel; copy or export it again.")
    if not found:
        raise ReadError("E_NO_PIXELS", f"{name} has pixel data without a frame; exclude it.")
    if found != frames:
        raise ReadError("E_DECODE", f"{name} holds {count(found, 'frame')} and declares {frames}; export it again.")


def _check_plain(dataset: Any, frames: int, size: int, name: object) -> None:
    """Reject uncompressed pixels that are compressed ones, or those of another number of frames.

    Args:
        size: bytes of a frame with all samples of all pixels.
    """
    pixels = dataset.PixelData
    # a JPEG of noise is larger than its pixels, so that its length says nothing
    is_jpeg = bytes(pixels[:3]) == _JPEG and bytes(pixels[-8:]).rstrip(b"\0").endswith(_END)
    if is_jpeg or (len(pixels) < size * frames and bytes(pixels[:4]).startswith((_JPEG, _ITEM))):
        raise ReadError("E_DECODE", f"{name} declares compressed pixels as uncompressed; correct its transfer syntax.")
    named = str(dataset.get("PhotometricInterpretation") or "")
    if named.endswith("_422"):  # one pair of chroma values for two pixels
        if len(pixels) == size * frames:
            raise ReadError("E_DECODE", f"{name} is {named} without subsampled chroma; correct its header.")
        size = size // 3 * 2
    held = len(pixels) // size
    if held > frames:
        raise ReadError("E_DECODE", f"{name} holds {count(held, 'frame')} and declares {frames}; export it again.")


def _whole_frames(dataset: Any, frames: int, name: object) -> Iterator[bytes]:
    pixels, place, streams = dataset.PixelData, 0, 0
    while pixels[place : place + 4] == _ITEM:
        streams += pixels[place + 8 : place + 12].startswith(_STREAMS)
        place += 8 + int.from_bytes(pixels[place + 4 : place + 8], "little")
    if place > len(pixels):
        raise ReadError("E_TRUNCATED", f"{name} ends inside a fragment of its pixels; copy or export it again.")
    if streams > frames == 1:  # without a table, all fragments would count as one frame, of which the first is decoded
        raise ReadError("E_DECODE", f"{name} holds {count(streams, 'frame')} and declares 1; export it again.")
    try:
        yield from _frames(dataset, frames)
    except (ValueError, EOFError) as error:
        if "no fragments" in str(error):
            return
        raise ReadError(
            "E_TRUNCATED", f"{name} ends inside a fragment of its pixels; copy or export it again."
        ) from error


def _frames(dataset: Any, frames: int) -> Iterator[bytes]:
    offsets, lengths = dataset.get("ExtendedOffsetTable"), dataset.get("ExtendedOffsetTableLengths")
    table = (offsets, lengths) if offsets and lengths else None
    yield from generate_frames(dataset.PixelData, number_of_frames=frames, extended_offsets=table)


def frame_size(code: bytes) -> tuple[int, int, int] | None:
    """Return rows, columns and samples declared by a JPEG, JPEG-LS or JPEG 2000 codestream, or None.

    Args:
        code: one compressed frame.
    """
    start = codestream(code)
    if start is not None:
        return jpeg_2000_size(code, start)
    header = jpeg_header(code)
    return None if header is None else (header.rows, header.columns, len(header.components))
