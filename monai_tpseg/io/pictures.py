"""Reader of PNG, JPEG, TIFF and BMP, with rows and columns as image viewers show them."""

from __future__ import annotations

import struct
import zlib
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, TiffImagePlugin, UnidentifiedImageError

from monai_tpseg.io.errors import ReadError
from monai_tpseg.io.jpeg_scans import check_scans, whole_frame
from monai_tpseg.io.loaded import Array, Source
from monai_tpseg.io.meta_keys import EXIF, FORMAT, PHOTOMETRIC
from monai_tpseg.io.png import check_png
from monai_tpseg.io.safety import DEFLATE_RATIO, MAX_PIXELS, base_name
from monai_tpseg.io.tiff import check_one_picture, check_strips
from monai_tpseg.suffixes import PICTURE_SUFFIXES

__all__ = ["PICTURE_MODES", "is_picture", "picture_format", "read_picture"]


_FORMATS = ("PNG", "JPEG", "TIFF", "BMP")  # JPEG includes the MPO of cameras
_BITMAP_HEADERS = (12, 16, 40, 52, 56, 64, 108, 124)  # permitted sizes of the second header of a BMP, bytes
_PIXELS_PER_BYTE = {  # upper limits: 1 bit per block of a JPEG with subsampled chroma, 1 bit per pixel deflated
    "JPEG": 400,
    "MPO": 400,
    "PNG": 8 * DEFLATE_RATIO,
}
_EXIF_ORIENTATION = 0x0112
_SIXTEEN_BIT = ("I;16", "I;16B", "I;16L", "I;16N")
_GREY = ("1", "L", "LA", "La")
_COLOUR = ("P", "PA", "RGB", "RGBA", "RGBX", "RGBa", "CMYK", "YCbCr", "LAB", "HSV")

_MAGIC_NUMBERS = {
    b"\x89PNG": ("PNG", ".png"),
    b"\xff\xd8\xff": ("JPEG", ".jpg"),
    b"II*\x00": ("TIFF", ".tif"),
    b"MM\x00*": ("TIFF", ".tif"),
    b"II+\x00": ("TIFF", ".tif"),
    b"MM\x00+": ("TIFF", ".tif"),
}  # first bytes, name and suffix of a format; a BMP has two letters only, see `picture_format`

PICTURE_MODES = (*_GREY, *_COLOUR, *_SIXTEEN_BIT, "I", "F")
"""Supported PIL modes; F for labels only."""


def is_picture(path: Path) -> bool:
    """Return whether `path` is a picture, by its first bytes or its suffix."""
    with path.open("rb") as file:
        head = file.read(18)
    return picture_format(head) is not None or path.suffix.lower() in PICTURE_SUFFIXES


def picture_format(head: bytes) -> tuple[str, str] | None:
    """Return the name of the format and its suffix, by the first 18 bytes of a file, or None if it is no picture."""
    if head.startswith(b"BM") and int.from_bytes(head[14:18], "little") in _BITMAP_HEADERS:  # text may begin with BM
        return "BMP", ".bmp"
    return next((found for magic, found in _MAGIC_NUMBERS.items() if head.startswith(magic)), None)


def read_picture(path: Path, label: bool = False) -> Source:
    """Read one picture as displayed: EXIF orientation and palette applied, alpha dropped.

    Args:
        path: a PNG, JPEG, TIFF or BMP file.
        label: keep values as stored (palette: the indices when they are 0 and 1) instead of scaling to 0 to 255.

    Returns:
        `array` (1, H, W) for grey or (3, H, W) for colour, values 0 to 255, `display`.

    Raises:
        ReadError: `E_TRUNCATED`, `E_DECODE`, `E_FORMAT` or `E_TOO_LARGE`.
    """
    try:
        # an open file instead of its name: PIL would memory-map a plain TIFF and ignore its orientation
        with path.open("rb") as file, Image.open(file, formats=_FORMATS) as picture:
            _check_size(picture, path)
            _check_pages(picture, path)
            if picture.format == "PNG":
                check_png(path)
            grey = _grey_scale(picture, path)
            orientation = int(picture.getexif().get(_EXIF_ORIENTATION, 1))
            _widen_palette(picture)
            picture.load()
            _check_palette(picture, path)
            if picture.format in ("JPEG", "MPO"):
                _check_jpeg(picture, path)
            upright = ImageOps.exif_transpose(picture)  # that of a TIFF was applied by load()
    except UnidentifiedImageError as error:
        if _is_empty(path):
            raise ReadError(
                "E_DECODE", f"{base_name(path)} declares no rows or no columns; copy or export it again."
            ) from error
        raise ReadError(
            "E_FORMAT", f"{base_name(path)} is not a readable PNG, JPEG, TIFF or BMP; convert it."
        ) from error
    except Image.DecompressionBombError as error:
        raise ReadError(
            "E_TOO_LARGE", f"{base_name(path)} is too large to read at once; split it into tiles."
        ) from error
    except (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error) as error:
        if isinstance(error, ReadError) or getattr(error, "errno", None) is not None:  # error of the disk
            raise
        if "truncated" in str(error).lower() and "chunk" in str(error).lower():  # of a PNG, not its pixels
            raise ReadError("E_DECODE", f"{base_name(path)} has a damaged header; copy or export it again.") from error
        if any(
            word in str(error).lower()
            for word in ("truncated", "ends before", "not enough", "unexpected end", "incomplete")
        ):
            raise ReadError(
                "E_TRUNCATED", f"{base_name(path)} ends before its last row; copy or export it again."
            ) from error
        raise ReadError("E_DECODE", f"{base_name(path)} is damaged; copy or export it again.") from error
    values = _label_values(upright, path, grey) if label else _values(upright, path, grey)
    orientation = orientation if 1 <= orientation <= 8 else 1
    return Source(values, "display", meta={FORMAT: "picture", EXIF: orientation, PHOTOMETRIC: upright.mode})


def _check_size(picture: Image.Image, path: Path) -> None:
    if picture.width * picture.height > MAX_PIXELS:
        size = f"{picture.height} x {picture.width}"
        raise ReadError(
            "E_TOO_LARGE", f"{base_name(path)} has {size} pixels, too many to read at once; split it into tiles."
        )
    if picture.width * picture.height > _PIXELS_PER_BYTE.get(str(picture.format), np.inf) * path.stat().st_size:
        raise ReadError(
            "E_TRUNCATED", f"{base_name(path)} declares more pixels than it contains; copy or export it again."
        )


def _is_empty(path: Path) -> bool:
    """Whether the header of a PNG, BMP or TIFF declares no rows or no columns, which PIL calls unknown formats."""
    with path.open("rb") as file:
        head = file.read(32)
        if head.startswith(b"\x89PNG"):
            return head[12:16] == b"IHDR" and 0 in struct.unpack(">II", head[16:24])
        if head.startswith(b"BM"):
            return 0 in struct.unpack("<ii", head[18:26].ljust(8, b"\1"))
        if not head.startswith((b"II*\0", b"MM\0*")):
            return False
        try:
            directory = TiffImagePlugin.ImageFileDirectory_v2(head[:8])
            file.seek(directory.next)
            directory.load(file)
            return 0 in [directory.get(tag) for tag in (TiffImagePlugin.IMAGEWIDTH, TiffImagePlugin.IMAGELENGTH)]
        except (OSError, SyntaxError, ValueError, KeyError, struct.error):
            return False


def _check_pages(picture: Image.Image, path: Path) -> None:
    if isinstance(picture, TiffImagePlugin.TiffImageFile):
        check_one_picture(picture, path)
        check_strips(picture, path)
    # an MPO of a camera contains the photograph first, then its previews
    elif getattr(picture, "is_animated", False) and picture.format != "MPO":
        raise ReadError("E_FORMAT", f"{base_name(path)} is animated; save the frame to segment as a separate picture.")


def _check_jpeg(picture: Image.Image, path: Path) -> None:
    try:
        check_scans(whole_frame(path.read_bytes()), np.asarray(picture), _decoded)
    except RuntimeError as error:
        raise ReadError("E_DECODE", f"{base_name(path)} is damaged; copy or export it again.") from error


def _decoded(code: bytes) -> NDArray[Any]:
    with Image.open(BytesIO(code), formats=("JPEG",)) as picture:
        return np.asarray(picture)


def _check_palette(picture: Image.Image, path: Path) -> None:
    """PIL makes pixels without a colour black."""
    if picture.mode in ("P", "PA"):
        colours = 0 if picture.palette is None else len(picture.palette.palette) // len(picture.palette.mode)
        if int(np.asarray(picture).reshape(*picture.size[::-1], -1)[..., 0].max()) >= colours:
            raise ReadError("E_DECODE", f"{base_name(path)} lacks colours of its palette; copy or export it again.")


def _widen_palette(picture: Image.Image) -> None:
    """TIFF palettes have 16 bits, of which PIL uses the high byte; some writers store 8-bit colours in the low byte."""
    if isinstance(picture, TiffImagePlugin.TiffImageFile) and picture.mode == "P":
        colours = picture.tag_v2.get(TiffImagePlugin.COLORMAP, ())
        if colours and max(colours) <= 255:
            count = len(colours) // 3
            picture.putpalette([colours[n + channel * count] for n in range(count) for channel in range(3)])


class _GreyScale(NamedTuple):
    """Properties of TIFF with more than 8 bits that PIL ignores."""

    white: int = 65535  # the largest value
    inverted: bool = False  # 0 is white


def _grey_scale(picture: Image.Image, path: Path) -> _GreyScale:
    """Reject a TIFF whose values PIL misreads, and return how to scale pixels of more than 8 bits."""
    if not isinstance(picture, TiffImagePlugin.TiffImageFile):
        return _GreyScale()
    tags = picture.tag_v2
    bits = max(int(n) for n in tags.get(TiffImagePlugin.BITSPERSAMPLE, (1,)))
    signed = 2 in tags.get(TiffImagePlugin.SAMPLEFORMAT, (1,))
    planes = tags.get(TiffImagePlugin.PLANAR_CONFIGURATION, 1) == 2 and tags.get(TiffImagePlugin.SAMPLESPERPIXEL, 1) > 1
    if (signed and bits <= 8) or (planes and bits > 8):
        what = "signed bytes" if signed else f"planes of {bits} bits"
        raise ReadError("E_FORMAT", f"{base_name(path)} holds {what}; save it as a PNG with 8 or 16 bits.")
    inverted = tags.get(TiffImagePlugin.PHOTOMETRIC_INTERPRETATION) == 0
    return _GreyScale(2**bits - 1 if 8 < bits < 16 else 65535, inverted)


def _wide(picture: Image.Image, path: Path, grey: _GreyScale) -> Array:
    """Scale values of more than 8 bits to 0 to 255, (1, H, W)."""
    wide = _planes(picture)
    if wide.min() < 0 or wide.max() > grey.white:
        found = f"values from {wide.min():.0f} to {wide.max():.0f}"
        raise ReadError("E_FORMAT", f"{base_name(path)} has {found}; save it as unsigned 8 or 16 bits.")
    values: Array = (grey.white - wide if grey.inverted else wide) * np.float32(255 / grey.white)
    return values


def _values(picture: Image.Image, path: Path, grey: _GreyScale) -> Array:
    """Return (1 or 3, H, W) in 0 to 255."""
    if picture.mode in (*_SIXTEEN_BIT, "I"):
        return _wide(picture, path, grey)
    if picture.mode in _GREY:
        return _planes(picture.convert("L"))
    if picture.mode in _COLOUR:
        return _planes(picture.convert("RGB"))
    raise ReadError("E_FORMAT", f"{base_name(path)} has pixels of kind {picture.mode!r}; save it with 8 or 16 bits.")


def _label_values(picture: Image.Image, path: Path, grey: _GreyScale) -> Array:
    """Return (1 or 3, H, W) as stored; 16-bit values are scaled to 0 to 255 only if they exceed it."""
    if picture.mode == "P":
        indices = _planes(picture)
        if indices.max() <= 1:
            return indices
    values = _planes(picture) if picture.mode in (*_SIXTEEN_BIT, "I", "F") else _values(picture, path, grey)
    return values / np.float32(257) if 255 < values.max() <= 65535 else values


def _planes(picture: Image.Image) -> Array:
    """(H, W) or (H, W, 3) -> (1 or 3, H, W) float32."""
    array = np.asarray(picture)
    planes = array[None] if array.ndim == 2 else np.moveaxis(array, -1, 0)
    return planes.astype(np.float32, order="C")
