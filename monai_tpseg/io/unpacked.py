"""Compressed voxels of NIfTI and MetaImage, unpacked to their end: a checksum counts only for who reads that far."""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from monai_tpseg.io.errors import ReadError
from monai_tpseg.io.safety import base_name

__all__ = ["check_length", "gzip_voxels", "metaimage_scale", "metaimage_voxels", "nrrd_encoding"]

_HEADER = 2**16  # bytes that the text header of NRRD and MetaImage fits in
_CHUNK = 2**20
_MORE = 2**24  # bytes that a stream may hold behind its voxels, e.g. notes of the program that wrote it
_EITHER = zlib.MAX_WBITS | 32  # zlib tells zlib and gzip apart by itself
_NRRD_ENCODINGS = frozenset({"raw", "gzip", "gz", "txt", "text", "ascii", "hex"})


def gzip_voxels(image: Any, path: Path) -> NDArray[Any]:
    """Return the voxels of a `.nii.gz` whose stream is whole, length and checksum included.

    nibabel reads as many bytes as there are voxels and never meets the checksum behind them.

    Args:
        image: as nibabel opened it.
        path: the file.

    Returns:
        what `image.dataobj` would give: scaled, in the shape of the header.

    Raises:
        ReadError: `E_DECODE`, the stream holds far more than its header declares.
        OSError, EOFError, zlib.error: the stream is damaged or ends early.
    """
    with gzip.open(path) as stream:
        voxels: NDArray[Any] = np.asanyarray(type(image).from_stream(stream).dataobj)
        _read_to_the_end(stream, path)
    return voxels


def _read_to_the_end(stream: Any, path: Path) -> None:
    more = 0
    while chunk := stream.read(_CHUNK):
        more += len(chunk)
        if more > _MORE:
            raise ReadError(
                "E_DECODE", f"{base_name(path)} contains far more data than its header declares; export it again."
            )


def metaimage_voxels(path: Path, data: Path, dtype: np.dtype[Any], count: int) -> NDArray[Any] | None:
    """Return the voxels of a compressed MetaImage whose stream is whole; None where it is not compressed.

    ITK reports a damaged stream on stderr and hands out whatever was in memory. It also does so with a whole stream
    whose `CompressedDataSize` is not given.

    Args:
        path: the header.
        data: the file that holds the voxels, `path` itself where they follow the header.
        dtype: of a voxel's component.
        count: of components, all voxels together.

    Returns:
        (count,) in the order of the file.

    Raises:
        ReadError: `E_TRUNCATED`, the stream ends early; `E_DECODE`, its checksum is wrong or its length another.
    """
    with path.open("rb") as file:
        head = file.read(_HEADER)
    if not _is_true(_field(head, b"CompressedData")):
        return None
    big = any(_is_true(_field(head, key)) for key in (b"ElementByteOrderMSB", b"BinaryDataByteOrderMSB"))
    stored = dtype.newbyteorder(">" if big else "<")
    found = b"".join(_inflated(path, data, _start(head, path == data), count * stored.itemsize))
    return np.frombuffer(found, stored).astype(dtype)


def _inflated(path: Path, data: Path, start: int, size: int) -> Iterator[bytes]:
    """The `size` bytes that a zlib or gzip stream from `start` on unpacks to."""
    inflate, left = zlib.decompressobj(_EITHER), size
    with data.open("rb") as file:
        file.seek(start)
        while not inflate.eof:
            packed = inflate.unconsumed_tail or file.read(_CHUNK)
            if not packed:
                raise ReadError(
                    "E_TRUNCATED", f"{base_name(path)} ends before its last voxel; copy or export it again."
                )
            try:
                chunk = inflate.decompress(packed, min(left, _CHUNK) + 1)
            except zlib.error as error:
                raise ReadError(
                    "E_DECODE", f"{base_name(path)} has a damaged stream of voxels; export it again."
                ) from error
            left -= len(chunk)
            if left < 0:
                break
            yield chunk
    if left:
        raise ReadError(
            "E_DECODE", f"{base_name(path)} contains more or fewer voxels than it declares; export it again."
        )


def metaimage_scale(path: Path) -> tuple[float, float]:
    """Return slope and offset from stored values to those that a MetaImage means; ITK leaves them out.

    Raises:
        ReadError: `E_FORMAT`, one is no usable number.
    """
    with path.open("rb") as file:
        head = file.read(_HEADER)
    found = []
    for key, absent in ((b"ElementToIntensityFunctionSlope", 1.0), (b"ElementToIntensityFunctionOffset", 0.0)):
        text = _field(head[: _start(head, own=True)], key)
        try:
            value = float(text) if text else absent
        except ValueError:
            value = np.nan
        if not np.isfinite(value) or (absent == 1 and value == 0):
            raise ReadError("E_FORMAT", f"{base_name(path)} has an unusable scale factor; correct its header.")
        found.append(value)
    return found[0], found[1]


def _field(head: bytes, key: bytes) -> bytes:
    found = re.search(rb"^" + key + rb" *= *(.*?) *\r?$", head, re.M | re.I)
    return found[1] if found is not None else b""


def _is_true(value: bytes) -> bool:
    """As ITK takes it: `True`, `T`, `1`."""
    return value[:1] in (b"T", b"t", b"1")


def _start(head: bytes, own: bool) -> int:
    """Where the voxels begin: behind the header's last line, or behind `HeaderSize` bytes of a file of their own."""
    if own:
        found = re.search(rb"^ElementDataFile[^\n]*\n", head, re.M | re.I)
        return found.end() if found is not None else len(head)
    size = _field(head, b"HeaderSize")
    return int(size) if size.isdigit() else 0


def nrrd_encoding(path: Path) -> str:
    """Return how the voxels of an NRRD are encoded.

    Raises:
        ReadError: `E_FORMAT`, in a way that ITK does not read.
    """
    with path.open("rb") as file:
        head = file.read(_HEADER)
    found = re.search(rb"^encoding: *(.*?) *\r?$", head, re.M | re.I)
    encoding = found[1].decode("latin-1").lower() if found is not None else "raw"
    if encoding not in _NRRD_ENCODINGS:
        raise ReadError("E_FORMAT", f"{base_name(path)} has an unsupported compression; save it raw or with gzip.")
    return encoding


def check_length(path: Path, data: Path, count: int, size: int) -> None:
    """Refuse uncompressed voxels of NRRD or MetaImage that end before their header says.

    Args:
        path: the header.
        data: the file that holds the voxels, `path` itself where they follow the header.
        count: of numbers, all voxels together.
        size: bytes that a number takes.

    Raises:
        ReadError: `E_TRUNCATED`.
    """
    with path.open("rb") as file:
        start = _header_end(file) if path == data else 0
        file.seek(0)
        head = file.read(_HEADER)
    skipped = re.search(rb"^byte skip: *(\d+)", head, re.M | re.I) if head.startswith(b"NRRD") else None
    start += int(skipped[1]) if skipped is not None else 0
    as_text = not head.startswith(b"NRRD") and not _is_true(_field(head, b"BinaryData"))
    found = len(data.read_bytes()[start:].split()) if as_text else (data.stat().st_size - start) // size
    if found < count:
        raise ReadError("E_TRUNCATED", f"{base_name(path)} ends before its last voxel; copy or export it again.")
    if path == data and found >= 2 * count and not _field(head, b"HeaderSize"):  # e.g. MET_LONG, of 4 bytes, with 8
        raise ReadError("E_DECODE", f"{base_name(path)} contains far more voxels than it declares; export it again.")


def _header_end(file: BinaryIO) -> int:
    """Behind the empty line of an NRRD, or the line of a MetaImage that names its data."""
    head = file.read(_HEADER)
    if not head.startswith(b"NRRD"):
        return _start(head, own=True)
    found = re.search(rb"\r?\n\r?\n", head)
    return found.end() if found is not None else len(head)
