"""Length and checksum of the voxels of NIfTI, NRRD and MetaImage, which libraries do not verify."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from monai_tpseg.io.errors import ReadError
from monai_tpseg.io.safety import base_name
from monai_tpseg.io.text_headers import in_any_case, is_true, read_text_header
from monai_tpseg.suffixes import METAIMAGE_SUFFIXES

__all__ = [
    "GZIP",
    "check_length",
    "check_surplus",
    "gzip_voxels",
    "metaimage_scale",
    "metaimage_voxels",
    "nrrd_encoding",
]

GZIP = b"\x1f\x8b"
"""First bytes of a gzip stream."""

_CHUNK = 2**20
_EITHER = zlib.MAX_WBITS | 32  # zlib detects zlib and gzip itself
_NRRD_ENCODINGS = frozenset({"raw", "gzip", "gz", "txt", "text", "ascii", "hex"})


def gzip_voxels(image: Any, path: Path) -> NDArray[Any]:
    """Return the voxels of a `.nii.gz` after verifying length and checksum of its stream.

    nibabel reads only the bytes of the voxels and never reaches the checksum.

    Args:
        image: opened by nibabel.
        path: the file.

    Returns:
        the value of `image.dataobj`: scaled, in the shape of the header.

    Raises:
        ReadError: `E_DECODE`, the stream contains far more than its header declares.
        OSError, EOFError, zlib.error: the stream is damaged or ends early.
    """
    with gzip.open(path) as stream:
        opened = type(image).from_stream(stream)
        voxels: NDArray[Any] = np.asanyarray(opened.dataobj)
        size = voxels.size * opened.get_data_dtype().itemsize
        more = 0
        while chunk := stream.read(_CHUNK):
            more += len(chunk)
            check_surplus(more, size, path)
    return voxels


def check_surplus(more: int, size: int, path: Path) -> None:
    """Reject a file with data for a second volume; less is taken for padding or notes of the writing program.

    Args:
        more: bytes or values after the voxels.
        size: bytes or values of the voxels.
        path: the file.

    Raises:
        ReadError: `E_DECODE`.
    """
    if more >= size:  # a wrong size or type: MET_LONG, of 4 bytes, with 8; or a series declared as one volume
        raise ReadError("E_DECODE", f"{base_name(path)} contains far more voxels than it declares; export it again.")


def metaimage_voxels(path: Path, data: Path, dtype: np.dtype[Any], count: int) -> NDArray[Any] | None:
    """Return the voxels of a compressed MetaImage after verifying its stream, or None if it is not compressed.

    ITK reports a damaged stream on stderr and returns arbitrary memory. It does the same for an intact stream without
    `CompressedDataSize`.

    Args:
        path: the header.
        data: the file of the voxels, `path` itself if they follow the header.
        dtype: type of a voxel component.
        count: total number of components of all voxels.

    Returns:
        (count,) in the order of the file.

    Raises:
        ReadError: `E_TRUNCATED`, the stream ends early; `E_DECODE`, its checksum or length is wrong.
    """
    header = read_text_header(path)
    fields = header.fields
    if not is_true(fields.get("CompressedData", "")):
        return None
    big = any(is_true(fields.get(key, "")) for key in ("ElementByteOrderMSB", "BinaryDataByteOrderMSB"))
    stored = dtype.newbyteorder(">" if big else "<")
    start = header.end if path == data else _skipped_bytes(fields, "HeaderSize")
    found = b"".join(_inflated(path, data, start, count * stored.itemsize))
    return np.frombuffer(found, stored).astype(dtype)


def _inflated(path: Path, data: Path, start: int, size: int) -> Iterator[bytes]:
    """Unpack `size` bytes of a zlib or gzip stream from `start`."""
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
    """Return slope and offset of a MetaImage, which ITK ignores.

    Raises:
        ReadError: `E_FORMAT`, slope or offset is unusable.
    """
    fields = read_text_header(path).fields
    found = []
    for key, absent in (("ElementToIntensityFunctionSlope", 1.0), ("ElementToIntensityFunctionOffset", 0.0)):
        text = in_any_case(fields, key)
        try:
            value = float(text) if text else absent
        except ValueError:
            value = np.nan
        if not np.isfinite(value) or (absent == 1 and value == 0):
            raise ReadError("E_FORMAT", f"{base_name(path)} has an unusable scale factor; correct its header.")
        found.append(value)
    return found[0], found[1]


def nrrd_encoding(path: Path) -> str:
    """Return the encoding of the voxels of an NRRD.

    Raises:
        ReadError: `E_FORMAT`, ITK does not support the encoding.
    """
    encoding = read_text_header(path).fields.get("encoding", "raw").lower()
    if encoding not in _NRRD_ENCODINGS:
        raise ReadError("E_FORMAT", f"{base_name(path)} has an unsupported compression; save it raw or with gzip.")
    return encoding


def check_length(path: Path, data: Path, count: int, size: int) -> None:
    """Reject voxels of NRRD or MetaImage that are fewer than the header declares, or twice as many or more.

    A damaged stream is left to ITK, and MetaImage in zlib to `metaimage_voxels`.

    Args:
        path: the header.
        data: the file of the voxels, `path` itself if they follow the header.
        count: total number of components of all voxels.
        size: bytes per component.

    Raises:
        ReadError: `E_TRUNCATED`, `E_DECODE`.
    """
    header = read_text_header(path)
    fields, start = header.fields, header.end if path == data else 0
    of_meta = path.name.lower().endswith(METAIMAGE_SUFFIXES)
    skipped = fields.get("HeaderSize") if of_meta else fields.get("byteskip", fields.get("lineskip"))
    if of_meta:
        start += 0 if path == data else _skipped_bytes(fields, "HeaderSize")
        encoding = "raw" if is_true(fields.get("BinaryData", "")) else "text"
    else:
        start += _skipped_bytes(fields, "byteskip")
        encoding = nrrd_encoding(path)
    found = _count(data, start, encoding, count, size)
    if found is None:
        return
    if found < count:
        raise ReadError("E_TRUNCATED", f"{base_name(path)} ends before its last voxel; copy or export it again.")
    if skipped is None:  # otherwise a part of a larger file
        check_surplus(found - count, count, path)


def _count(data: Path, start: int, encoding: str, count: int, size: int) -> int | None:
    """The number of components after `start`, if not of a damaged stream; of a compressed one, up to 2 * `count`."""
    if encoding == "raw":
        return (data.stat().st_size - start) // size
    if encoding in ("gzip", "gz"):
        return _count_packed(data, start, count, size)
    with data.open("rb") as file:
        file.seek(start)
        words = file.read().split()
    return sum(map(len, words)) // (2 * size) if encoding == "hex" else len(words)


def _count_packed(data: Path, start: int, count: int, size: int) -> int | None:
    with data.open("rb") as file:
        file.seek(max(start, data.stat().st_size - 4))
        if int.from_bytes(file.read(4), "little") == (count * size) % 2**32:  # gzip ends with the unpacked length
            return count
        file.seek(start)
        unpacked = 0
        try:
            with gzip.open(file) as stream:
                while unpacked < 2 * count * size and (chunk := stream.read(_CHUNK)):
                    unpacked += len(chunk)
        except EOFError:
            return unpacked // size if unpacked < count * size else None
        except (OSError, zlib.error):
            return None
    return unpacked // size


def _skipped_bytes(fields: Mapping[str, str], name: str) -> int:
    """Bytes before the voxels; -1, for voxels at the end of the file, counts as 0."""
    try:
        return max(int(fields.get(name, "")), 0)
    except ValueError:
        return 0
