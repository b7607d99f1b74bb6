"""The pixels of a PNG: PIL skips their checksums, and fills missing rows with black."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from monai_tpseg.io.errors import ReadError
from monai_tpseg.io.safety import base_name

__all__ = ["check_png"]

_SIGNATURE = 8  # bytes
_SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # per pixel, by colour type
_PASSES = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))
"""Interlaced pictures: first row and column of each part, and the steps to the next."""
_CHUNK = 2**20


class _Header(NamedTuple):
    width: int
    height: int
    depth: int
    colour: int
    compression: int
    filtering: int
    interlaced: int


def check_png(path: Path) -> None:
    """Reject a PNG whose pixels are fewer than declared, or fail a checksum.

    Args:
        path: a PNG that PIL can open.

    Raises:
        ReadError: `E_TRUNCATED`, rows are missing; `E_DECODE`, the stream or a checksum is wrong.
    """
    with path.open("rb") as file:
        file.seek(_SIGNATURE)
        missing: int | None = None
        inflate = zlib.decompressobj()
        for kind, data in _chunks(file, path):
            if kind == b"IHDR":
                missing = _size(_Header(*struct.unpack(">IIBBBBB", data[:13])))
            elif kind == b"IDAT" and missing is not None:
                missing -= _inflated(inflate, data, path)
                if missing < -_CHUNK:  # far more than its pixels, which PIL ignores
                    return
    if missing is None or missing > 0:
        raise ReadError("E_TRUNCATED", f"{base_name(path)} ends before its last row; copy or export it again.")


def _chunks(file: BinaryIO, path: Path) -> Iterator[tuple[bytes, bytes]]:
    """The chunks up to the end of the picture; those of pixels fit their checksums."""
    while len(head := file.read(8)) == 8:
        size, kind = struct.unpack(">I4s", head)
        if kind not in (b"IHDR", b"IDAT"):
            if kind == b"IEND":
                return
            file.seek(size + 4, 1)
            continue
        data, stated = file.read(size), file.read(4)
        if len(data) == size and len(stated) == 4 and zlib.crc32(kind + data).to_bytes(4, "big") != stated:
            raise ReadError("E_DECODE", f"{base_name(path)} does not fit its checksum; copy or export it again.")
        yield kind, data


def _inflated(inflate: zlib._Decompress, data: bytes, path: Path) -> int:
    """The number of bytes that a chunk unpacks to."""
    size = 0
    try:
        while data:
            size += len(inflate.decompress(data, _CHUNK))
            data = inflate.unconsumed_tail
    except zlib.error as error:
        raise ReadError("E_DECODE", f"{base_name(path)} is damaged; copy or export it again.") from error
    return size


def _size(header: _Header) -> int:
    """Unpacked size in bytes; each row begins with its filter."""
    bits = header.depth * _SAMPLES.get(header.colour, 1)
    parts = _PASSES if header.interlaced else ((0, 0, 1, 1),)
    sizes = (
        (-(-(header.height - top) // down), -(-(header.width - left) // across)) for top, left, down, across in parts
    )
    return sum(rows * (1 + -(-columns * bits // 8)) for rows, columns in sizes if rows > 0 and columns > 0)
