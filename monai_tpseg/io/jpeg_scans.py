"""Completeness check of JPEG data: libjpeg fills missing data with grey and reports it, if at all, on stderr.

A picture is decoded again from modified bytes. Bytes appended to a scan change nothing if it is complete, and become
pixels if it ends early. The last bytes of a complete scan are pixels; if removing them changes no pixel, the decoder
had lost its position before because bytes were damaged or lost. In a progressive JPEG and between restart markers the
decoder finds its position again; there the lossless conversion to JPEG XL, which accepts only codes of the standard,
serves as the check.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import imagecodecs
import numpy as np
from numpy.typing import NDArray

__all__ = ["check_scans", "whole_frame"]

_SOS, _EOI = 0xDA, 0xD9
_RESTARTS = frozenset(range(0xD0, 0xD8))
_ALONE = frozenset([0x01, 0xD8]) | _RESTARTS  # markers without a length
_SEQUENTIAL, _PROGRESSIVE = (0xC0, 0xC1, 0xC3), 0xC2
_HUFFMAN = (*_SEQUENTIAL, _PROGRESSIVE)
_CONVERTIBLE = (0xC0, 0xC1, 0xC2)  # to JPEG XL
_TEXT = frozenset([*range(0xE0, 0xF0), 0xFE])  # application segments and comments
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

    Damage of a few bits is not always detected; `benchmarks/jpeg_damage.py` measures how often.

    Args:
        code: codestream from `whole_frame`.
        values: its decoded values.
        decode: decoder of a codestream.

    Raises:
        EOFError: a scan ends before its last pixel.
        RuntimeError: a scan contains more data than its pixels, or codes that the standard does not know.
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
    # libjxl 0.11 refuses a few complete frames that are progressive and have restart markers
    if (frame == _PROGRESSIVE) != any(len(scan) > 1 for scan in scans):
        _check_codes(code)


def _check_codes(code: bytes) -> None:
    """Convert a frame without its texts to JPEG XL, provided that JPEG XL has its kind."""
    bare, done = [], 0
    for marker, start, end in _markers(code):
        if marker in _FRAMES and not _is_convertible(marker, code[start:end]):
            return
        if marker in _TEXT:
            bare.append(code[done:start])
            done = end
    try:
        imagecodecs.jpegxl_encode_jpeg(b"".join([*bare, code[done:]]))
    except imagecodecs.JpegxlError as error:
        raise RuntimeError("a scan holds codes that the standard does not know") from error


def _is_convertible(marker: int, frame: bytes) -> bool:
    """Whether JPEG XL has frames of this kind: 8 bits, grey or three components, sampled fully or half."""
    bits, count, components = frame[4], frame[9], frame[10:]
    factors = {factor for sampling in components[1::3] for factor in divmod(sampling, 16)}
    return marker in _CONVERTIBLE and bits == 8 and count in (1, 3) and factors <= {1, 2}


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
