"""Whether the compressed data of a JPEG are whole: libjpeg fills what it lacks with grey, and tells stderr at most.

A picture is decoded again from changed bytes. Bytes put behind the last ones of a scan change nothing in a whole one,
and become pixels in one that ends early. The last bytes of a scan are pixels of a whole one; where pixels stay as they
are without them, the decoder lost its place before, as bytes were damaged or lost.
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
_MORE = b"\x5a" * 64  # no marker, and no code of nothing
_OTHERS = (b"\x5a", b"\xa5", b"\x33")
_LAST = 8  # bytes that are changed at the end of a scan; with 4, a few whole pictures look damaged

_Decode = Callable[[bytes], NDArray[Any]]


def whole_frame(code: bytes) -> bytes:
    """Return a codestream up to its end, without what stands behind it; an end that is missing is added."""
    end = next((start for marker, start, _ in _markers(code) if marker == _EOI), None)
    return code[:end] + _END if end is not None else code.rstrip(b"\0") + _END


def check_scans(code: bytes, values: NDArray[Any], decode: _Decode) -> None:
    """Refuse a JPEG of Huffman codes whose scans end early or are damaged.

    Damage that leaves the length of a scan as it was is not seen, nor is one of a few bits; of a progressive JPEG and
    between restart markers only data that end early are.

    Args:
        code: of `whole_frame`.
        values: what it decodes to.
        decode: decodes a codestream.

    Raises:
        EOFError: a scan ends before its last pixel.
        RuntimeError: a scan holds more than its pixels.
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
    if values.min() == values.max():  # too few codes to tell pixels from no pixels, and nothing to lose
        return
    if frame in _SEQUENTIAL and any(_has_rest(code, *scan[-1], values, decode) for scan in scans if scan):
        raise RuntimeError("a scan holds more than its pixels")


def _has_rest(code: bytes, start: int, end: int, values: NDArray[Any], decode: _Decode) -> bool:
    """Whether the last bytes of the data from `start` to `end` are no pixels; zeros that fill them up do not count."""
    end = start + len(code[start:end].rstrip(b"\0"))
    first = end - _LAST
    while first > start and code[first - 1] == 0xFF:  # with what follows it, it is one byte of data
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
    """The markers with where each begins and where what belongs to it ends, that of a scan without its data."""
    place = code.find(b"\xff\xd8", 0, 64)
    while place >= 0 and (found := _MARKER.search(code, place)) is not None:
        marker, place = found[1][0], found.end()
        size = 0 if marker in _ALONE or marker == _EOI else int.from_bytes(code[place : place + 2], "big")
        yield marker, found.start(), place + size
        if marker == _EOI:
            return
        place += size


def _scans(code: bytes) -> Iterator[list[tuple[int, int]]]:
    """Of each scan, where its data begin and end, in parts that restart markers divide."""
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
