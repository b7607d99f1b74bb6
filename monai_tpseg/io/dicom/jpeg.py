"""DICOM pixels in JPEG, lossy with 8 or 12 bits or lossless with 2 to 16, decoded by libjpeg-turbo via imagecodecs."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from pydicom.pixels import convert_color_space
from pydicom.uid import ExplicitVRLittleEndian

from monai_tpseg.io.jpeg_scans import check_scans, whole_frame

__all__ = ["JpegHeader", "colours_disagree", "decode_jpeg", "jpeg_header", "replace_jpeg"]

_NO_LENGTH = frozenset([0x01, *range(0xD0, 0xD9)])
_FRAMES = frozenset([*range(0xC0, 0xC4), *range(0xC5, 0xC8), *range(0xC9, 0xCC), *range(0xCD, 0xD0), 0xF7])
_APP0, _APP14 = 0xE0, 0xEE


class JpegHeader(NamedTuple):
    """Header of a JPEG or JPEG-LS codestream.

    Attributes:
        rows, columns: size in pixels.
        precision: bits per sample.
        components: identifiers (numbers) of its components.
        adobe: colour transform of an Adobe marker, 0 none, 1 YCbCr, 2 YCCK; None without the marker.
        jfif: whether it has a JFIF marker, which implies YCbCr.
    """

    rows: int
    columns: int
    precision: int
    components: tuple[int, ...]
    adobe: int | None
    jfif: bool


def jpeg_header(code: bytes) -> JpegHeader | None:
    """Return the header of `code`, one frame, or None if it is not JPEG or JPEG-LS."""
    place = code.find(b"\xff\xd8", 0, 64) + 2
    adobe, jfif = None, False
    while 2 <= place <= len(code) - 9:
        marker = code[place + 1]
        if code[place] != 0xFF or marker in _NO_LENGTH or marker == 0xFF:
            place += 1 if code[place] != 0xFF or marker == 0xFF else 2
            continue
        size = int.from_bytes(code[place + 2 : place + 4], "big")
        body = code[place + 4 : place + 2 + size]
        if marker in _FRAMES:
            if len(body) < 6:
                return None
            rows, columns = int.from_bytes(body[1:3], "big"), int.from_bytes(body[3:5], "big")
            return JpegHeader(rows, columns, body[0], tuple(body[6 : 6 + 3 * body[5] : 3]), adobe, jfif)
        if marker == _APP14 and body[:5] == b"Adobe" and len(body) >= 12:
            adobe = body[11]
        jfif = jfif or (marker == _APP0 and body[:4] == b"JFIF")
        place += 2 + size
    return None


def _is_ybr(header: JpegHeader, photometric: str) -> bool:
    """Whether three components are luminance and chroma; the codestream takes precedence over the DICOM header.

    An Adobe marker of "no transform" is the exception: DICOM writers also use it with YBR.
    """
    if header.adobe:
        return True
    if bytes(header.components) in (b"RGB", b"rgb") and not (header.jfif and photometric == "RGB"):
        return False
    return header.jfif or photometric != "RGB"


def colours_disagree(code: bytes, photometric: str) -> bool:
    """Return whether a frame of three components and its header state different colour spaces, so that readers differ.

    Args:
        code: the codestream of one frame.
        photometric: (0028,0004) of its object.
    """
    header = jpeg_header(code)
    if header is None or len(header.components) != 3:
        return False
    said = {photometric != "RGB"}
    said |= {header.adobe != 0} if header.adobe is not None else set()
    said |= {True} if header.jfif else set()
    said |= {False} if bytes(header.components) in (b"RGB", b"rgb") else set()
    return len(said) > 1


def decode_jpeg(code: bytes, photometric: str) -> NDArray[Any]:
    """Return one frame, (H, W) or (H, W, 3), uint8 or uint16; colour as RGB.

    Args:
        code: the codestream.
        photometric: (0028,0004) of its object.

    Raises:
        ValueError: the frame is not JPEG, or does not have one or three components.
        EOFError: the frame ends before its last pixel.
        RuntimeError: the frame is damaged.
    """
    header = jpeg_header(code)
    if header is None or len(header.components) not in (1, 3):
        raise ValueError("no JPEG of one or three components")
    colour = len(header.components) == 3
    # equal input and output colour spaces: the decoder converts nothing
    space = "YCBCR" if colour else None
    decode = partial(imagecodecs.jpeg8_decode, colorspace=space, outcolorspace=space)
    whole = whole_frame(code)
    values: NDArray[Any] = decode(whole)
    check_scans(whole, values, decode)
    if colour and _is_ybr(header, photometric):
        if values.dtype != np.uint8:
            raise ValueError("luminance and chroma of more than 8 bits")
        values = convert_color_space(values, "YBR_FULL", "RGB")
    return values


def replace_jpeg(dataset: Any, frames: Sequence[bytes]) -> None:
    """Decompress the JPEG pixels of `dataset` in place, colour to RGB.

    Args:
        dataset: an object in a JPEG transfer syntax.
        frames: its codestreams.

    Raises:
        ValueError, EOFError, RuntimeError: see `decode_jpeg`.
    """
    photometric = str(dataset.get("PhotometricInterpretation") or "")
    wide = int(dataset.BitsAllocated) > 8
    found = []
    for code in frames:
        values = decode_jpeg(code, photometric)
        if values.dtype != np.uint8 and not wide:
            raise ValueError("more bits than its object has room for")
        if not int(dataset.get("PixelRepresentation") or 0):  # lossy streams may slightly exceed the range
            values = np.minimum(values, 2 ** int(dataset.BitsStored) - 1)
        found.append(values.astype("<u2" if wide else np.uint8))
    pixels = b"".join(values.tobytes() for values in found)
    dataset.PixelData = pixels + b"\0" * (len(pixels) % 2)
    dataset["PixelData"].VR = "OW"
    dataset["PixelData"].is_undefined_length = False
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    if found[0].ndim == 3:
        dataset.PhotometricInterpretation, dataset.PlanarConfiguration = "RGB", 0
    if wide:
        dataset.BitsAllocated = 16
    for keyword in ("ExtendedOffsetTable", "ExtendedOffsetTableLengths"):
        if keyword in dataset:
            delattr(dataset, keyword)
