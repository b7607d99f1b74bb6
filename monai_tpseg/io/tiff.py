"""TIFF checks that PIL does not make: one picture per file, and complete strips."""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Mapping
from math import prod
from pathlib import Path
from typing import Any

import imagecodecs
from PIL import TiffImagePlugin

from monai_tpseg.io.errors import ReadError
from monai_tpseg.io.jpeg_scans import check_scans, whole_frame
from monai_tpseg.io.safety import MAX_PIXELS, base_name

__all__ = ["check_one_picture", "check_strips"]

_PLAIN, _LZW, _JPEG, _PACKBITS = 1, 5, 7, 32773
_DEFLATE = (8, 32946)
_UNREAD = frozenset({34887, 50001, 50002})  # LERC, WebP, JPEG XL: unsupported by PIL's libtiff, which reports damage
_JPEG_TABLES, _JPEG_END = 347, b"\xff\xd9"
_CHUNK = 2**12  # bytes
_YCBCR, _SUBSAMPLING = 6, 530  # PhotometricInterpretation: chroma may be subsampled
_IMAGE_DEPTH, _STK_PLANES = 32997, 33629  # several slices in one directory: SGI and MetaMorph
_IMAGEJ = re.compile(r"^(?:images|slices|frames|channels)=(\d+)\s*$", re.M)
_OME = re.compile(r'\bSize(?:Z|T)="(\d+)"')
_TIFFFILE = re.compile(r'^\{"shape": \[([\d, ]+)\]')  # one page may represent all ("truncated")


def check_one_picture(picture: TiffImagePlugin.TiffImageFile, path: Path) -> None:
    """Reject a TIFF with several pictures, in several pages or in one.

    Raises:
        ReadError: `E_FORMAT`, several pages; `E_MOSAIC`, several pictures in one page.
    """
    if picture.is_animated:
        raise ReadError(
            "E_FORMAT", f"{base_name(path)} has several pages; save the page to segment as a separate picture."
        )
    tags = picture.tag_v2
    text = str(tags.get(TiffImagePlugin.IMAGEDESCRIPTION, ""))
    found = (_IMAGEJ if text.startswith("ImageJ=") else _OME).findall(text)
    depth = int(tags.get(_IMAGE_DEPTH, 1))
    shape = _TIFFFILE.match(text)
    if shape is not None:
        depth = max(depth, prod(map(int, shape[1].split(","))) // (picture.width * picture.height * len(_bits(tags))))
    planes = tags.get(_STK_PLANES, ())  # a value for each
    if max([depth, len(planes), *map(int, found)]) > 1:
        raise ReadError(
            "E_MOSAIC", f"{base_name(path)} is a stack of pictures behind one page; save the one to segment separately."
        )


def _bits(tags: Mapping[int, Any]) -> tuple[int, ...]:
    """Bits per sample; old writers give one number for all samples."""
    found = tuple(int(n) for n in tags.get(TiffImagePlugin.BITSPERSAMPLE, (1,)))
    return found if len(found) > 1 else found * int(tags.get(TiffImagePlugin.SAMPLESPERPIXEL, 1))


def check_strips(picture: TiffImagePlugin.TiffImageFile, path: Path) -> None:
    """Reject a TIFF whose strips or tiles are beyond the end of the file, damaged or too short.

    libtiff reports this on stderr, if at all, and skips the checksum of a strip that unpacks to more than needed. LZW,
    PackBits and JPEG have no checksum: damage that keeps the length of a strip is not detected.

    Args:
        picture: opened by PIL, not yet loaded.
        path: the file.

    Raises:
        ReadError: `E_TRUNCATED`, `E_DECODE`, or `E_TOO_LARGE` for tiles beyond a safe size.
    """
    tags, whole = picture.tag_v2, path.stat().st_size
    tiled = TiffImagePlugin.TILEOFFSETS in tags
    offsets = tags.get(TiffImagePlugin.TILEOFFSETS if tiled else TiffImagePlugin.STRIPOFFSETS, ())
    counts = tags.get(TiffImagePlugin.TILEBYTECOUNTS if tiled else TiffImagePlugin.STRIPBYTECOUNTS, ())
    sizes = _sizes(tags, len(offsets), path)
    compression = int(tags.get(TiffImagePlugin.COMPRESSION, _PLAIN))
    if compression in _UNREAD:
        raise ReadError("E_FORMAT", f"{base_name(path)} has an unsupported compression; save it uncompressed.")
    if compression == _PLAIN and len(counts) < len(offsets):
        counts = sizes  # omitted by old writers
    if len(offsets) < _strips(tags):  # PIL leaves the other rows black
        raise ReadError("E_TRUNCATED", f"{base_name(path)} declares more rows than it has; copy or export it again.")
    if not offsets or len(counts) != len(offsets):
        raise ReadError("E_DECODE", f"{base_name(path)} does not give the position of its pixels; export it again.")
    unpack = _UNPACK.get(compression)
    if compression == _JPEG:
        joined = bytes(tags.get(_JPEG_TABLES, b""))
        unpack = lambda packed, size: _decode(joined, packed)  # noqa: E731
    halved = int(tags.get(TiffImagePlugin.PHOTOMETRIC_INTERPRETATION, 0)) == _YCBCR
    if halved and compression != _JPEG and tuple(tags.get(_SUBSAMPLING, (2, 2))) != (1, 1):
        raise ReadError("E_FORMAT", f"{base_name(path)} is YCbCr with subsampled chroma; save it as RGB.")
    with path.open("rb") as file:
        for offset, count, size in zip(offsets, counts, sizes, strict=True):
            if offset + count > whole or (compression == _PLAIN and count < size and not halved):
                raise ReadError("E_TRUNCATED", f"{base_name(path)} ends before its last row; copy or export it again.")
            if unpack is None:
                continue
            file.seek(offset)
            try:
                found = unpack(file.read(count), sizes[0])
            except (zlib.error, RuntimeError, EOFError) as error:
                raise ReadError(
                    "E_DECODE", f"{base_name(path)} has a damaged strip; copy or export it again."
                ) from error
            # some writers pad the last strip
            if found not in (size, sizes[0]) and not halved and compression != _JPEG:
                raise ReadError("E_DECODE", f"{base_name(path)} has a damaged strip; copy or export it again.")


def _sizes(tags: Mapping[int, Any], number: int, path: Path) -> list[int]:
    """Unpacked size of each strip or tile in bytes."""
    width, height = int(tags[TiffImagePlugin.IMAGEWIDTH]), int(tags[TiffImagePlugin.IMAGELENGTH])
    samples = int(tags.get(TiffImagePlugin.SAMPLESPERPIXEL, 1))
    planar = int(tags.get(TiffImagePlugin.PLANAR_CONFIGURATION, 1)) == 2
    bits = int(tags.get(TiffImagePlugin.BITSPERSAMPLE, (1,))[0]) * (1 if planar else samples)
    if TiffImagePlugin.TILEOFFSETS in tags:
        width, rows = (int(tags.get(tag, 0)) for tag in (TiffImagePlugin.TILEWIDTH, TiffImagePlugin.TILELENGTH))
        if width * rows > MAX_PIXELS:
            raise ReadError(
                "E_TOO_LARGE", f"{base_name(path)} has tiles of {rows} x {width} pixels; save it in strips."
            )
        return [-(-width * bits // 8) * rows] * number
    rows = min(int(tags.get(TiffImagePlugin.ROWSPERSTRIP, height)), height) or height
    each = -(-height // rows)  # strips of a plane
    return [-(-width * bits // 8) * min(rows, height - n % each * rows) for n in range(number)]


def _strips(tags: Mapping[int, Any]) -> int:
    """The number of strips or tiles that cover all pixels."""
    width, height = int(tags[TiffImagePlugin.IMAGEWIDTH]), int(tags[TiffImagePlugin.IMAGELENGTH])
    planar = int(tags.get(TiffImagePlugin.PLANAR_CONFIGURATION, 1)) == 2
    planes = int(tags.get(TiffImagePlugin.SAMPLESPERPIXEL, 1)) if planar else 1
    if TiffImagePlugin.TILEOFFSETS in tags:
        across, down = (
            max(1, int(tags.get(tag, 0))) for tag in (TiffImagePlugin.TILEWIDTH, TiffImagePlugin.TILELENGTH)
        )
        return -(-width // across) * -(-height // down) * planes
    return -(-height // (int(tags.get(TiffImagePlugin.ROWSPERSTRIP, 0)) or height)) * planes


def _decode(tables: bytes, packed: bytes) -> int:
    """A JPEG whose tables, if any, are stored separately."""
    code = whole_frame(tables.removesuffix(_JPEG_END) + packed[2:] if tables else packed)
    values = imagecodecs.jpeg8_decode(code)
    check_scans(code, values, imagecodecs.jpeg8_decode)
    return int(values.nbytes)


def _inflate(packed: bytes, size: int) -> int:
    """More bytes than needed are requested, since the checksum follows the last one."""
    stream = zlib.decompressobj()
    found = len(stream.decompress(packed, _room(size)))
    if not stream.eof:
        raise zlib.error("the stream ends early, or not at all")
    return found


def _room(size: int) -> int:
    return 2 * size + _CHUNK  # the last strip may be as long as the others; anything longer is damage


_UNPACK: Mapping[int, Callable[[bytes, int], int]] = {
    **dict.fromkeys(_DEFLATE, _inflate),
    _LZW: lambda packed, size: len(imagecodecs.lzw_decode(packed, out=_room(size))),
    _PACKBITS: lambda packed, size: len(imagecodecs.packbits_decode(packed, out=_room(size))),
}
