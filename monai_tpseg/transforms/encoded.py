"""Compressed DICOM pixels before they are decoded: what a codestream says of itself must agree with the header."""

from __future__ import annotations

import subprocess
import zlib
from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO

from pydicom.encaps import generate_frames
from pydicom.filereader import read_dataset
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian, JPEGExtended12Bit, RLELossless

from monai_tpseg.transforms.errors import ReadError
from monai_tpseg.transforms.guard import MAX_BYTES
from monai_tpseg.transforms.isolated import decompress_apart

__all__ = ["check_deflated", "check_encoded", "decoding_plugin", "decompress", "frame_size", "syntax_name"]

_JPEG_XL = frozenset(f"1.2.840.10008.1.2.4.{n}" for n in (110, 111, 112))
_RLE_RATIO = 64  # two bytes stand for 128 at most
_SOC_SIZ = b"\xff\x4f\xff\x51"  # start of a JPEG 2000 codestream, followed by its size
_NO_LENGTH = frozenset([0x01, *range(0xD0, 0xD9)])
_SOF = frozenset([*range(0xC0, 0xC4), *range(0xC5, 0xC8), *range(0xC9, 0xCC), *range(0xCD, 0xD0), 0xF7])
_CHUNK = 2**20

_PLUGINS = {  # pydicom would try GDCM first, which ends the whole process on some damaged streams
    "1.2.840.10008.1.2.4.50": "pillow",
    "1.2.840.10008.1.2.4.51": "pillow",
    "1.2.840.10008.1.2.4.57": "gdcm",  # JPEG lossless: there is no other decoder under a permissive licence
    "1.2.840.10008.1.2.4.70": "gdcm",
    "1.2.840.10008.1.2.4.80": "pyjpegls",
    "1.2.840.10008.1.2.4.81": "pyjpegls",
    "1.2.840.10008.1.2.4.90": "pylibjpeg",
    "1.2.840.10008.1.2.4.91": "pylibjpeg",
    "1.2.840.10008.1.2.4.201": "pylibjpeg",
    "1.2.840.10008.1.2.4.202": "pylibjpeg",
    "1.2.840.10008.1.2.4.203": "pylibjpeg",
    "1.2.840.10008.1.2.5": "pylibjpeg",
}


def syntax_name(dataset: Any) -> str:
    """Return the name of the transfer syntax; one that DICOM does not define is not repeated."""
    syntax = UID(str(dataset.file_meta.TransferSyntaxUID))
    return syntax.name if syntax.is_transfer_syntax and syntax.name != str(syntax) else "an unknown transfer syntax"


def decoding_plugin(dataset: Any) -> str:
    """Return the pydicom plugin that decodes the pixels of `dataset`, empty where they are not compressed."""
    return _PLUGINS.get(str(dataset.file_meta.TransferSyntaxUID), "")


def decompress(datasets: Sequence[Any], frames: int, name: object) -> None:
    """Replace compressed pixels by plain ones, in place; colour becomes RGB.

    Args:
        datasets: objects with pixel data.
        frames: the number of frames that each header declares.
        name: what the message calls them.

    Raises:
        ReadError: see `check_encoded`; `E_DECODE`, the decoder of JPEG lossless gave up.
    """
    for dataset in datasets:
        check_encoded(dataset, frames, name)
    apart = [dataset for dataset in datasets if decoding_plugin(dataset) == "gdcm"]
    try:
        if apart:
            decompress_apart(apart)
    except (RuntimeError, subprocess.TimeoutExpired) as error:
        raise ReadError("E_DECODE", f"{name} cannot be decoded (JPEG lossless); export it again.") from error
    for dataset in datasets:
        if UID(str(dataset.file_meta.TransferSyntaxUID)).is_encapsulated:
            dataset.decompress(decoding_plugin=decoding_plugin(dataset), generate_instance_uid=False)


def check_deflated(file: BinaryIO, name: object) -> None:
    """Refuse a deflated object that unpacks beyond a safe size; pydicom unpacks without a limit.

    Args:
        file: a DICOM file, opened; it is left at its start.
        name: what the message calls it.

    Raises:
        ReadError: `E_TOO_LARGE`.
    """
    file.seek(128)
    if file.read(4) != b"DICM":
        file.seek(0)
    # stands before the pixels' own encoding: plain elements of group 2
    meta = read_dataset(file, False, True, stop_when=lambda tag, vr, length: tag.group != 2)
    if meta.get("TransferSyntaxUID") == DeflatedExplicitVRLittleEndian:
        inflate, size = zlib.decompressobj(-zlib.MAX_WBITS), 0
        while chunk := inflate.unconsumed_tail or file.read(_CHUNK):
            size += len(inflate.decompress(chunk, _CHUNK))
            if size > MAX_BYTES:
                raise ReadError("E_TOO_LARGE", f"{name} unpacks to over {MAX_BYTES >> 30} GiB; store it uncompressed.")
    file.seek(0)


def check_encoded(dataset: Any, frames: int, name: object) -> None:
    """Refuse compressed pixels that no decoder reads or whose size is not that of the header.

    Args:
        dataset: an object with pixel data.
        frames: the number of frames that its header declares.
        name: what the message calls it.

    Raises:
        ReadError: `E_CODEC`, `E_DECODE` or `E_TRUNCATED`.
    """
    syntax = UID(str(dataset.file_meta.TransferSyntaxUID))
    known = syntax.is_transfer_syntax and not syntax.is_private
    if syntax in _JPEG_XL or not known or (syntax.is_encapsulated and syntax not in _PLUGINS):
        raise ReadError("E_CODEC", f"{name} is compressed with {syntax_name(dataset)}, which is not read; convert it.")
    if syntax == JPEGExtended12Bit and int(dataset.BitsStored) > 8:
        raise ReadError(
            "E_CODEC", f"{name} is a JPEG of {int(dataset.BitsStored)} bits, which is not read; convert it."
        )
    if not syntax.is_encapsulated or "PixelData" not in dataset:
        return
    wanted = (int(dataset.Rows), int(dataset.Columns))
    size = wanted[0] * wanted[1] * int(dataset.get("SamplesPerPixel") or 1) * (-(-int(dataset.BitsAllocated) // 8))
    found = 0
    for frame in _frames(dataset, frames):
        found += 1
        if syntax == RLELossless and size > _RLE_RATIO * len(frame):
            raise ReadError("E_TRUNCATED", f"{name} holds too few bytes for its pixels; copy or export it again.")
        inside = None if syntax == RLELossless else frame_size(frame)
        if inside is not None and inside != wanted:
            sizes = f"{inside[0]} x {inside[1]} pixels and its header {wanted[0]} x {wanted[1]}"
            raise ReadError("E_DECODE", f"{name} holds {sizes}; export it again.")
    if found != frames:
        raise ReadError("E_DECODE", f"{name} holds {found} frames and declares {frames}; export it again.")


def _frames(dataset: Any, frames: int) -> Iterator[bytes]:
    offsets, lengths = dataset.get("ExtendedOffsetTable"), dataset.get("ExtendedOffsetTableLengths")
    table = (offsets, lengths) if offsets and lengths else None
    yield from generate_frames(dataset.PixelData, number_of_frames=frames, extended_offsets=table)


def frame_size(code: bytes) -> tuple[int, int] | None:
    """Return rows and columns that a JPEG, JPEG-LS or JPEG 2000 codestream declares, None where it has no such header.

    Args:
        code: one compressed frame.
    """
    start = code.find(_SOC_SIZ, 0, 4096)  # some objects wrap the codestream in a JP2 file
    if start >= 0:
        x1, y1, x0, y0 = (int.from_bytes(code[start + n : start + n + 4], "big") for n in (8, 12, 16, 20))
        return y1 - y0, x1 - x0
    place = code.find(b"\xff\xd8") + 2
    while 2 <= place <= len(code) - 9:
        marker = code[place + 1]
        if code[place] != 0xFF or marker in _NO_LENGTH or marker == 0xFF:
            place += 1 if code[place] != 0xFF or marker == 0xFF else 2
            continue
        if marker in _SOF:
            return int.from_bytes(code[place + 5 : place + 7], "big"), int.from_bytes(
                code[place + 7 : place + 9], "big"
            )
        place += 2 + int.from_bytes(code[place + 2 : place + 4], "big")
    return None
