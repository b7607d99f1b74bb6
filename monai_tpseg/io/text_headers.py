"""Text headers of NRRD and MetaImage, as the libraries behind ITK parse them: Teem and MetaIO."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from monai_tpseg.io.safety import MAX_TEXT_HEADER
from monai_tpseg.suffixes import METAIMAGE_SUFFIXES

__all__ = ["TextHeader", "in_any_case", "is_true", "read_text_header"]

# MetaIO: names are case-sensitive; "=", ":", blanks and tabs separate them from values
_META_LINE = re.compile(r"[ \t]*(?P<name>\w+)[ \t]*[=:][ \t=:]*(?P<value>[^\r\n]*)\r?\n?")
_META_LAST = "ElementDataFile"
# Teem: names may be written with or without spaces, in any case
_NRRD_LINE = re.compile(r"^(?P<name>[a-z ]+): +(?P<value>.*?)[ \t]*\r?$", re.M | re.I)
_NRRD_END = re.compile(r"\r?\n\r?\n")


class TextHeader(NamedTuple):
    """Header of an NRRD or MetaImage file.

    Attributes:
        fields: name -> value; names of NRRD in lower case and without spaces, those of MetaImage as in the file.
        end: offset of what follows the header, in bytes.
    """

    fields: dict[str, str]
    end: int


def read_text_header(path: Path) -> TextHeader:
    """Return the header of an NRRD or MetaImage file, by its suffix."""
    with path.open("rb") as file:
        head = file.read(MAX_TEXT_HEADER)
    text = head.decode("latin-1")  # one character per byte
    return _of_metaimage(text) if path.name.lower().endswith(METAIMAGE_SUFFIXES) else _of_nrrd(text)


def in_any_case(fields: Mapping[str, str], name: str) -> str:
    """Return the value of a name that ITK does not read, whatever its case, or ""."""
    return next((value for key, value in fields.items() if key.lower() == name.lower()), "")


def is_true(value: str) -> bool:
    """Return whether a value of MetaImage means true: `True`, `T`, `1`."""
    return value[:1] in ("T", "t", "1")


def _of_metaimage(text: str) -> TextHeader:
    fields: dict[str, str] = {}
    place = 0
    while place < len(text):
        found = _META_LINE.match(text, place)
        if found is None:  # a line without a value
            place = (text.find("\n", place) + 1) or len(text)
            continue
        fields[found["name"]] = _text(found["value"].strip())
        place = found.end()
        if found["name"] == _META_LAST:  # voxels may follow
            break
    return TextHeader(fields, place)


def _of_nrrd(text: str) -> TextHeader:
    blank = _NRRD_END.search(text)
    fields = {
        found["name"].replace(" ", "").lower(): _text(found["value"])
        for found in _NRRD_LINE.finditer(text[: blank.start()] if blank is not None else text)
    }
    return TextHeader(fields, blank.end() if blank is not None else len(text))


def _text(value: str) -> str:
    """Bytes that are not UTF-8 become lone surrogates, as in file names."""
    return value.encode("latin-1").decode("utf-8", "surrogateescape")
