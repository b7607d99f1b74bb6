"""Limits on the elements that pydicom reads and on the size of deflated objects; pydicom itself has none."""

from __future__ import annotations

import zlib
from io import BytesIO
from typing import BinaryIO

from pydicom.filereader import read_dataset
from pydicom.tag import BaseTag
from pydicom.uid import DeflatedExplicitVRLittleEndian

from monai_tpseg.io.errors import ReadError
from monai_tpseg.io.safety import MAX_BYTES

__all__ = ["MAX_HEADER", "PIXEL_TAGS", "StopCondition", "check_deflated", "inflated_header", "zeros_error"]

MAX_HEADER = 2**26
"""Maximum unpacked size of the elements before the pixels, in bytes."""

PIXEL_TAGS = frozenset({0x7FE00008, 0x7FE00009, 0x7FE00010})
"""Tags of the pixel data elements."""

_CHUNK = 2**20
_MOST_ELEMENTS = 2**16  # elements at the top level of a data set: real ones have hundreds
_FIRST, _MORE = 2**16, 8  # bytes of a header that are unpacked first, and the growth factor of each further attempt


class StopCondition:
    """Stop condition for pydicom: before pixels that are not needed, and at content that no data set can have.

    Args:
        pixels: whether the pixels are needed.
        name: name of the file in error messages.
    """

    def __init__(self, pixels: bool, name: object) -> None:
        self.pixels, self.name, self.count, self.stopped = pixels, name, 0, False

    def __call__(self, tag: BaseTag, _vr: str | None, _length: int) -> bool:
        """Return whether to stop before an element.

        Raises:
            ReadError: `E_DECODE`, zeros in place of elements, or far too many elements.
        """
        self.count += 1
        if tag == 0:
            raise zeros_error(self.name)
        if self.count > _MOST_ELEMENTS:
            raise ReadError("E_DECODE", f"{self.name} has over {_MOST_ELEMENTS} elements; export it again.")
        self.stopped = not self.pixels and tag in PIXEL_TAGS
        return self.stopped


def zeros_error(name: object) -> ReadError:
    """Return the error for a data set that continues with zeros."""
    return ReadError("E_DECODE", f"{name} contains zeros in place of its elements; copy or export it again.")


def check_deflated(file: BinaryIO, name: object) -> None:
    """Reject a deflated object whose unpacked size is unsafe.

    Args:
        file: an open DICOM file; its position is reset to the start.
        name: name used in error messages.

    Raises:
        ReadError: `E_TOO_LARGE`.
    """
    if _is_deflated(file):
        inflate, size = zlib.decompressobj(-zlib.MAX_WBITS), 0
        while chunk := inflate.unconsumed_tail or file.read(_CHUNK):
            size += len(inflate.decompress(chunk, _CHUNK))
            if size > MAX_BYTES:
                raise ReadError("E_TOO_LARGE", f"{name} unpacks to over {MAX_BYTES >> 30} GiB; store it uncompressed.")
    file.seek(0)


def inflated_header(file: BinaryIO, name: object) -> BinaryIO:
    """Return a file to read the header from: an inflated excerpt of a deflated object, otherwise `file` at its start.

    Args:
        file: an open DICOM file.
        name: name of the file in error messages.

    Raises:
        ReadError: `E_TOO_LARGE`, the unpacked size of the elements before the pixels is unsafe.
    """
    if not _is_deflated(file):
        file.seek(0)
        return file
    begin = file.tell()
    inflate, found, wanted = zlib.decompressobj(-zlib.MAX_WBITS), bytearray(), _FIRST
    while True:
        while len(found) < wanted and (chunk := inflate.unconsumed_tail or file.read(_FIRST)):
            found += inflate.decompress(chunk, wanted - len(found))
        if len(found) < wanted or _reaches(found, StopCondition(False, name)):
            break
        if wanted >= MAX_HEADER:
            raise ReadError("E_TOO_LARGE", f"{name} has a header that unpacks to over {MAX_HEADER >> 20} MiB.")
        wanted = min(wanted * _MORE, MAX_HEADER)
    file.seek(0)
    stored = zlib.compressobj(0, wbits=-zlib.MAX_WBITS)  # not compressed, but as pydicom expects it
    return BytesIO(file.read(begin) + stored.compress(bytes(found)) + stored.flush())


def _is_deflated(file: BinaryIO) -> bool:
    """Leaves `file` after group 2, which is never deflated."""
    file.seek(128)
    if file.read(4) != b"DICM":
        file.seek(0)
    meta = read_dataset(file, False, True, stop_when=lambda tag, vr, length: tag.group != 2)
    return bool(meta.get("TransferSyntaxUID") == DeflatedExplicitVRLittleEndian)


def _reaches(found: bytearray, fence: StopCondition) -> bool:
    try:
        read_dataset(BytesIO(found), False, True, stop_when=fence)
    except ReadError:
        raise
    except Exception:  # it ends inside an element: more is needed
        return False
    return fence.stopped
