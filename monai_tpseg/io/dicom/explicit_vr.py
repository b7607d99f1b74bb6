"""Data sets with many nested items, written as pydicom writes them, byte for byte, in less time.

pydicom corrects ambiguous value representations of an item, and of all items in it, each time it writes an item: an
item at depth n is visited n times. Here they are corrected once, from the root, and equal elements are encoded once.
"""

from __future__ import annotations

import struct
from io import BytesIO
from pathlib import Path
from typing import Any

from pydicom.charset import convert_encodings
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset
from pydicom.filebase import DicomIO
from pydicom.filewriter import correct_ambiguous_vr, write_data_element

__all__ = ["save_explicit"]

_HEADER = struct.Struct("<HH2s2xL")  # group, element, value representation and length of a sequence
_UNDEFINED = b"\xff\xff\xff\xff"
_ITEM, _ITEM_END = b"\xfe\xff\x00\xe0", b"\xfe\xff\x0d\xe0\x00\x00\x00\x00"
_TEXTS = ("AE", "CS", "LO", "SH", "UI")  # value representations of short texts, which recur


def save_explicit(dataset: Dataset, path: Path) -> None:
    """Write a data set in Explicit VR Little Endian; the file equals that of `dataset.save_as(path)`.

    Args:
        dataset: a data set with file meta information and Specific Character Set.
        path: output file.
    """
    correct_ambiguous_vr(dataset, True)
    charset, encoder = dataset.SpecificCharacterSet, _Encoder()
    encoded = Dataset()
    for element in dataset:
        if _is_nested(element):
            items = encoder.items(element, charset)
            encoded[element.tag] = RawDataElement(element.tag, "SQ", len(items), items, 0, False, True)
        else:
            encoded[element.tag] = element
    encoded.file_meta, encoded.preamble = dataset.file_meta, dataset.preamble
    encoded.set_original_encoding(False, True, convert_encodings(charset))  # raw elements are written as they are
    encoded.save_as(path)


def _is_nested(element: DataElement) -> bool:
    return element.VR == "SQ" and not element.is_undefined_length


class _Encoder:
    """Encodes elements in Explicit VR Little Endian."""

    def __init__(self) -> None:
        self._known: dict[tuple[int, str, str, Any], bytes] = {}

    def items(self, sequence: DataElement, charset: Any) -> bytes:
        """Return the encoded items of a sequence."""
        parts: list[bytes] = []
        for item in sequence.value:
            content = self._item(item, item.get("SpecificCharacterSet", charset))
            if getattr(item, "is_undefined_length_sequence_item", False):
                parts += (_ITEM, _UNDEFINED, content, _ITEM_END)
            else:
                parts += (_ITEM, len(content).to_bytes(4, "little"), content)
        return b"".join(parts)

    def _item(self, item: Dataset, charset: Any) -> bytes:
        parts: list[bytes] = []
        for element in item:
            if _is_nested(element):
                items = self.items(element, charset)
                parts += (_HEADER.pack(element.tag.group, element.tag.element, b"SQ", len(items)), items)
            elif element.tag.element or element.tag.group <= 6:  # no group lengths (PS3.5 7.2)
                parts.append(self._element(element, charset))
        return b"".join(parts)

    def _element(self, element: DataElement, charset: Any) -> bytes:
        if element.VR not in _TEXTS or not isinstance(element.value, str):
            return _bytes(element, charset)
        key = int(element.tag), element.VR, element.value, str(charset)
        if key not in self._known:
            self._known[key] = _bytes(element, charset)
        return self._known[key]


def _bytes(element: DataElement, charset: Any) -> bytes:
    buffer = BytesIO()
    file = DicomIO(buffer)
    file.is_implicit_VR, file.is_little_endian = False, True
    write_data_element(file, element, charset)
    return buffer.getvalue()
