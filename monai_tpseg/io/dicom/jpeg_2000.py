"""The header of a JPEG 2000 codestream (ISO/IEC 15444-1, annex A): its size, and whether all tiles are present."""

from __future__ import annotations

__all__ = ["codestream", "is_whole", "jpeg_2000_size", "transforms_colour"]

_SOC_SIZ = b"\xff\x4f\xff\x51"  # start of a codestream, followed by its size
_COD = b"\xff\x52"  # coding style of the tiles
_TILE = b"\xff\x90"  # start of a tile-part
_JP2 = b"\x00\x00\x00\x0cjP  \r\n\x87\n"
_MOST_TILES = 65535


def codestream(code: bytes) -> int | None:
    """Return the offset of the codestream in a frame, 0 or inside the box of a JP2 file, or None."""
    place = 0
    while code.startswith(_JP2) and place + 8 <= len(code) and code[place + 4 : place + 8] != b"jp2c":
        size = _number(code, place, 4)
        if size == 1:
            size = _number(code, place + 8, 8)
        if size < 8:
            return None
        place += size
    if place:
        place += 16 if code[place : place + 4] == b"\x00\x00\x00\x01" else 8
    return place if code[place : place + 4] == _SOC_SIZ else None


def jpeg_2000_size(code: bytes, start: int) -> tuple[int, int, int]:
    """Return rows, columns and samples declared by the codestream at `start`."""
    x1, y1, x0, y0 = (_number(code, start + n, 4) for n in (8, 12, 16, 20))
    return y1 - y0, x1 - x0, _number(code, start + 40, 2)


def transforms_colour(code: bytes, start: int) -> bool:
    """Return whether the codestream at `start` has its own colour transform, which decoders invert."""
    place = start + 2
    while (mark := code[place : place + 2]) not in (_COD, _TILE, b"") and mark[0] == 0xFF:
        place += 2 + _number(code, place + 2, 2)
    return code[place : place + 2] == _COD and _number(code, place + 8, 1) == 1


def is_whole(code: bytes, start: int) -> bool:
    """Return whether each tile has a tile-part in the codestream at `start`, and the last one is complete.

    OpenJPEG fills missing tiles with grey and only warns.
    """
    missing = _tiles(code, start)
    if missing is None:
        return False
    place = start + 2
    while (mark := code[place : place + 2]) not in (_TILE, b""):
        if mark[0] != 0xFF:
            return False
        place += 2 + _number(code, place + 2, 2)
    seen = set()
    while code[place : place + 2] == _TILE:
        seen.add(_number(code, place + 4, 2))
        size = _number(code, place + 6, 4)
        if size == 0:  # up to the end of the codestream
            break
        place += size
        if size < 12 or place > len(code):
            return False
    return len(seen) == missing


def _tiles(code: bytes, start: int) -> int | None:
    """The number of tiles, or None if the header is impossible."""
    x1, y1, width, height, left, top = (_number(code, start + n, 4) for n in (8, 12, 24, 28, 32, 36))
    if not width or not height or x1 <= left or y1 <= top:
        return None
    tiles = -(-(x1 - left) // width) * -(-(y1 - top) // height)
    return tiles if tiles <= _MOST_TILES else None


def _number(code: bytes, place: int, size: int) -> int:
    return int.from_bytes(code[place : place + size], "big")
