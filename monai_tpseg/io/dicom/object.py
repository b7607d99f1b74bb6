"""A DICOM file as a data set, opened once; `image_check` decides whether it is a readable image."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import pydicom
from pydicom.filereader import read_dataset as read_elements
from pydicom.filereader import read_partial
from pydicom.uid import (
    UID,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from monai_tpseg.io.dicom.deflated import PIXEL_TAGS, StopCondition, check_deflated, inflated_header, zeros_error
from monai_tpseg.io.dicom.single_frame import flatten_single_frame
from monai_tpseg.io.errors import ReadError
from monai_tpseg.io.safety import base_name

__all__ = ["Dataset", "Parsed", "is_dicom", "open_dicom", "parsed_once", "read_dataset"]

Dataset = Any  # pydicom.Dataset: attributes are accessed by keyword

_GROUPS_AT_START = (b"\x02\x00", b"\x08\x00", b"\x00\x08")
_DELIMITER = b"\xfe\xff\xdd\xe0\x00\x00\x00\x00"  # end of encapsulated pixel data
_UNPARSED = (ValueError, LookupError, struct.error, zlib.error, NotImplementedError, RecursionError, TypeError)
"""Exceptions of pydicom for bytes that are not elements: lengths, value representations, nesting, deflated streams."""


class Parsed(NamedTuple):
    """The parsed content of a DICOM file.

    Attributes:
        header: data set without pixels, as stored in the file.
        dataset: data set with pixels, including changes made by its readers; None if only the header was read.
    """

    header: Dataset
    dataset: Dataset | None = None


_parsed: ContextVar[dict[Path, Parsed] | None] = ContextVar("_parsed", default=None)


@contextmanager
def parsed_once(headers: Mapping[Path, Dataset] | None = None) -> Iterator[dict[Path, Parsed]]:
    """Open each DICOM file at most once within the block: parsed content, including pixels, is reused.

    Args:
        headers: headers that are known already, without pixels.

    Yields:
        the parsed content of each file.
    """
    known = {path: Parsed(header) for path, header in (headers or {}).items()}
    token = _parsed.set(known)
    try:
        yield known
    finally:
        _parsed.reset(token)


def is_dicom(path: Path) -> bool:
    """Return whether `path` is DICOM, by its content: the preamble, or a data set with a SOP class."""
    if _parsed.get() is None:
        with path.open("rb") as file:
            return _starts_as_dicom(file)
    try:
        return open_dicom(path) is not None
    except ReadError:
        return True  # reading it reports the error


def open_dicom(path: Path, pixels: bool = True) -> Dataset | None:
    """Return the data set of a file, or None if it is not DICOM; the file is opened once.

    Args:
        path: a file.
        pixels: read the pixel data as well.

    Raises:
        ReadError: see `read_dataset`.
    """
    return _open(path, pixels, _starts_as_dicom)


def read_dataset(path: Path, pixels: bool = True) -> Dataset:
    """Return the data set of one DICOM file.

    Args:
        path: a DICOM file, with or without preamble.
        pixels: read the pixel data as well.

    Raises:
        ReadError: `E_DECODE` or `E_TRUNCATED`, the file cannot be parsed; `E_TOO_LARGE`, its unpacked size is unsafe.
    """
    return _open(path, pixels, lambda file: True)


def _open(path: Path, pixels: bool, is_meant: Callable[[BinaryIO], bool]) -> Dataset | None:
    known = _parsed.get()
    if known is not None and path in known:
        kept = known[path].dataset if pixels else known[path].dataset or known[path].header
        if kept is not None:
            return kept
    with path.open("rb") as file:
        if not is_meant(file):
            return None
        file.seek(0)
        dataset = _parse(file, pixels or known is not None, base_name(path))
    if known is not None:
        known[path] = Parsed(_header_of(dataset), dataset)
    return dataset


def _header_of(dataset: Dataset) -> Dataset:
    """`dataset` without its pixels; elements that were not accessed yet are shared, not copied."""
    header = dataset[: min(PIXEL_TAGS)]
    header.file_meta = dataset.file_meta
    return header


def _starts_as_dicom(file: BinaryIO) -> bool:
    head = file.read(132)
    if head[128:] == b"DICM":
        return True
    if not head.startswith(_GROUPS_AT_START):
        return False
    file.seek(0)
    try:
        header = inflated_header(file, "the file")
        dataset = pydicom.dcmread(header, force=True, stop_before_pixels=True, specific_tags=["SOPClassUID"])
    except ReadError:
        return True  # reading it reports the error
    except Exception:  # pydicom may raise any exception for bytes that are not DICOM
        return False
    return "SOPClassUID" in dataset or "MediaStorageSOPClassUID" in getattr(dataset, "file_meta", {})


def _parse(file: BinaryIO, pixels: bool, name: str) -> Dataset:
    try:
        _check_start(file, name)
        if pixels:
            check_deflated(file, name)
        else:
            file = inflated_header(file, name)
        dataset = read_partial(file, StopCondition(pixels, name), force=True)
        if pixels and "PixelData" not in dataset and _is_encapsulated(dataset):
            file.seek(0)  # possibly only the last delimiter is missing
            dataset = read_partial(BytesIO(file.read() + _DELIMITER), StopCondition(pixels, name), force=True)
    except (ReadError, MemoryError):
        raise
    except EOFError as error:
        raise ReadError("E_TRUNCATED", f"{name} ends inside its header; copy or export it again.") from error
    except OSError as error:
        if error.errno is None:  # raised by pydicom for a truncated or missing sequence item
            raise ReadError("E_DECODE", f"{name} ends inside an item, or has none; copy or export it again.") from error
        raise ReadError("E_READ", f"{name} cannot be read from its disk; copy it to another one.") from error
    except _UNPARSED as error:
        raise ReadError("E_DECODE", f"{name} is not valid DICOM; export it again.") from error
    if not getattr(dataset, "file_meta", None):
        dataset.file_meta = pydicom.dataset.FileMetaDataset()
    if "TransferSyntaxUID" not in dataset.file_meta:
        implicit, little = dataset.original_encoding
        plain = ExplicitVRLittleEndian if little else ExplicitVRBigEndian
        dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else plain
    flatten_single_frame(dataset)
    return dataset


def _is_encapsulated(dataset: Dataset) -> bool:
    syntax = UID(str((getattr(dataset, "file_meta", None) or {}).get("TransferSyntaxUID") or ""))
    return bool(syntax.is_transfer_syntax and syntax.is_encapsulated)


def _check_start(file: BinaryIO, name: str) -> None:
    """Reject a data set of zeros, as in interrupted copies: pydicom takes seconds per megabyte of them."""
    file.seek(128)
    if file.read(4) != b"DICM":
        file.seek(0)
    read_elements(file, False, True, stop_when=lambda tag, vr, length: tag.group != 2)  # the file meta information
    start = file.read(8)
    file.seek(0)
    if start == bytes(8):
        raise zeros_error(name)
