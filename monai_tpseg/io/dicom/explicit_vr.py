"""Data sets with many nested items, written as pydicom writes them, byte for byte, in less time.

pydicom corrects ambiguous value representations of an item, and of all items in it, each time it writes an item: an
item at depth n is visited n times. Here they are corrected once, from the root, if there are any, and equal short texts
are encoded once per process.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from typing import Any

from pydicom.charset import convert_encodings
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset
from pydicom.filebase import DicomIO
from pydicom.filewriter import correct_ambiguous_vr, write_data_element
from pydicom.valuerep import AMBIGUOUS_VR

__all__ = ["save_explicit"]

_HEADER = struct.Struct("<HH2s2xL")  # group, element, value representation and length of a sequence
_UNDEFINED = b"\xff\xff\xff\xff"
_ITEM, _ITEM_END = b"\xfe\xff\x00\xe0", b"\xfe\xff\x0d\xe0\x00\x00\x00\x00"
_TEXTS = ("AE", "CS", "LO", "SH", "UI")  # value representations of short texts, which recur
_KEPT = 8192  # encoded texts
_CHARSET = 0x00080005


def save_explicit(dataset: Dataset, path: Path) -> None:
    """Write a data set in Explicit VR Little Endian; the file equals that of `dataset.save_as(path)`.

    Args:
        dataset: a data set with file meta information and Specific Character Set.
        path: output file.
    """
    if _is_ambiguous(dataset):
        correct_ambiguous_vr(dataset, True)
    charset = dataset.SpecificCharacterSet
    encoded = Dataset()
    for element in dataset:
        if _is_nested(element):
            items = _items(element, charset)
            encoded[element.tag] = RawDataElement(element.tag, "SQ", len(items), items, 0, False, True)
        else:
            encoded[element.tag] = element
    encoded.file_meta, encoded.preamble = dataset.file_meta, dataset.preamble
    encoded.set_original_encoding(False, True, convert_encodings(charset))  # raw elements are written as they are
    encoded.save_as(path)


def _is_ambiguous(item: Dataset) -> bool:
    """Whether an element of an item, or of items in it, has several possible value representations."""
    for element in _elements(item):
        if element.VR == "SQ":
            if any(map(_is_ambiguous, element.value)):
                return True
        elif element.VR in AMBIGUOUS_VR:
            return True
    return False


def _elements(item: Dataset) -> Iterator[DataElement]:
    """The elements in the order of their tags; faster than iterating over the item, which looks each of them up."""
    for element in sorted(item.values(), key=_tag):
        yield element if isinstance(element, DataElement) else item[element.tag]  # a raw one is parsed by access


def _tag(element: DataElement | RawDataElement) -> int:
    return int(element.tag)  # pydicom compares its own tags in Python


def _is_nested(element: DataElement) -> bool:
    return element.VR == "SQ" and not element.is_undefined_length


def _items(sequence: DataElement, charset: Any) -> bytes:
    """Return the encoded items of a sequence."""
    parts: list[bytes] = []
    for item in sequence.value:
        content = _item(item, charset)
        if getattr(item, "is_undefined_length_sequence_item", False):
            parts += (_ITEM, _UNDEFINED, content, _ITEM_END)
        else:
            parts += (_ITEM, len(content).to_bytes(4, "little"), content)
    return b"".join(parts)


def _item(item: Dataset, charset: Any) -> bytes:
    parts: list[bytes] = []
    for element in _elements(item):
        group, number = divmod(int(element.tag), 0x10000)
        if element.tag == _CHARSET:  # before all texts of the item
            charset = element.value
        if _is_nested(element):
            items = _items(element, charset)
            parts += (_HEADER.pack(group, number, b"SQ", len(items)), items)
        elif number or group <= 6:  # no group lengths (PS3.5 7.2)
            parts.append(_element(element, charset))
    return b"".join(parts)


def _element(element: DataElement, charset: Any) -> bytes:
    if element.VR not in _TEXTS or not isinstance(element.value, str):
        return _bytes(element, charset)
    charsets = (charset,) if isinstance(charset, str) else tuple(charset or ())
    return _text(int(element.tag), element.VR, str(element.value), charsets)


@lru_cache(_KEPT)
def _text(tag: int, representation: str, value: str, charsets: tuple[str, ...]) -> bytes:
    return _bytes(DataElement(tag, representation, value, already_converted=True), list(charsets))


def _bytes(element: DataElement, charset: Any) -> bytes:
    buffer = BytesIO()
    file = DicomIO(buffer)
    file.is_implicit_VR, file.is_little_endian = False, True
    write_data_element(file, element, charset)
    return buffer.getvalue()
