"""Completeness check of JPEG data: libjpeg fills missing data with grey and reports it, if at all, on stderr.

A picture is decoded again from modified bytes. Bytes appended to a scan change nothing if it is complete, and become
pixels if it ends early. The last bytes of a complete scan are pixels; if removing them changes no pixel, the decoder
had lost its position before because bytes were damaged or lost.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["check_scans", "whole_frame"]

_SOS, _EOI = 0xDA, 0xD9
_RESTARTS = frozenset(range(0xD0, 0xD8))
_ALONE = frozenset([0x01, 0xD8]) | _RESTARTS  # markers without a length
_SEQUENTIAL, _HUFFMAN = (0xC0, 0xC1, 0xC3), (0xC0, 0xC1, 0xC2, 0xC3)
_FRAMES = frozenset([*_HUFFMAN, *range(0xC5, 0xC8), *range(0xC9, 0xCC), *range(0xCD, 0xD0)])
_MARKER = re.compile(rb"\xff+([^\x00\xff])")
_END = b"\xff\xd9"
_MORE = b"\x5a" * 64  # neither a marker nor an empty code
_OTHERS = (b"\x5a", b"\xa5", b"\x33")
_LAST = 8  # bytes that are modified at the end of a scan; with 4, a few complete pictures appear damaged

_Decode = Callable[[bytes], NDArray[Any]]


def whole_frame(code: bytes) -> bytes:
    """Return a codestream up to its end marker, without trailing bytes; a missing end marker is added."""
    end = next((start for marker, start, _ in _markers(code) if marker == _EOI), None)
    return code[:end] + _END if end is not None else code.rstrip(b"\0") + _END


def check_scans(code: bytes, values: NDArray[Any], decode: _Decode) -> None:
    """Reject a Huffman-coded JPEG whose scans end early or are damaged.

    Damage that keeps the length of a scan, or affects a few bits, is not detected; in progressive JPEG and between
    restart markers, only early ends are.

    Args:
        code: codestream from `whole_frame`.
        values: its decoded values.
        decode: decoder of a codestream.

    Raises:
        EOFError: a scan ends before its last pixel.
        RuntimeError: a scan contains more data than its pixels.
    """
    frame = next((marker for marker, _, _ in _markers(code) if marker in _FRAMES), 0)
    if frame not in _HUFFMAN:
        return
    scans = list(_scans(code))
    longer, done = [], 0
    for _, end in (part for scan in scans for part in scan):
        longer += [code[done:end], _MORE]
        done = end
    if not _same(values, b"".join([*longer, code[done:]]), decode):
        raise EOFError("a scan ends before its last pixel")
    if values.min() == values.max():  # too few codes for the test, and nothing to lose
        return
    if frame in _SEQUENTIAL and any(_has_rest(code, *scan[-1], values, decode) for scan in scans if scan):
        raise RuntimeError("a scan holds more than its pixels")


def _has_rest(code: bytes, start: int, end: int, values: NDArray[Any], decode: _Decode) -> bool:
    """Whether the data from `start` to `end` end in bytes that are not pixels, apart from zero padding."""
    end = start + len(code[start:end].rstrip(b"\0"))
    first = end - _LAST
    while first > start and code[first - 1] == 0xFF:  # together with the next byte, it is one byte of data
        first -= 1
    if first <= start:
        return False
    return all(_same(values, code[:first] + other * (end - first) + code[end:], decode) for other in _OTHERS)


def _same(values: NDArray[Any], code: bytes, decode: _Decode) -> bool:
    try:
        return np.array_equal(values, decode(code))
    except (RuntimeError, OSError, ValueError):
        return False


def _markers(code: bytes) -> Iterator[tuple[int, int, int]]:
    """The markers with start and end of their segments; that of a scan without its data."""
    place = code.find(b"\xff\xd8", 0, 64)
    while place >= 0 and (found := _MARKER.search(code, place)) is not None:
        marker, place = found[1][0], found.end()
        size = 0 if marker in _ALONE or marker == _EOI else int.from_bytes(code[place : place + 2], "big")
        yield marker, found.start(), place + size
        if marker == _EOI:
            return
        place += size


def _scans(code: bytes) -> Iterator[list[tuple[int, int]]]:
    """Start and end of the data of each scan, in parts separated by restart markers."""
    parts: list[tuple[int, int]] | None = None
    begin = 0
    for marker, start, end in _markers(code):
        if parts is not None:
            parts.append((begin, start))
            begin = end
            if marker in _RESTARTS:
                continue
            yield parts
            parts = None
        if marker == _SOS:
            parts, begin = [], end
    if parts is not None:
        yield [*parts, (begin, len(code))]
