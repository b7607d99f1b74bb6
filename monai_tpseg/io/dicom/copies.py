"""Copies of a DICOM object, recognised by identity and not by file name, count once."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

from pydicom.uid import UID

from monai_tpseg.io.dicom.attributes import as_text, numbers
from monai_tpseg.io.dicom.object import Dataset
from monai_tpseg.io.dicom.repeats import marks_of

__all__ = ["Identity", "first_of_each", "identity_of", "pixel_digest"]

_PLACE = {"ImagePositionPatient": 3, "ImageOrientationPatient": 6}
_WORDS = ("SOPInstanceUID", "SOPClassUID", "SeriesInstanceUID", "Rows", "Columns", "NumberOfFrames", "InstanceNumber")
_Found = TypeVar("_Found")


class Identity(NamedTuple):
    """Identity of an object.

    Attributes:
        key: digest of UID, series, size, position and time; empty without a UID. The UID alone is not sufficient:
            careless anonymisation gives all objects of a series the same one.
        syntax: transfer syntax of the pixels; a copy may have another one.
    """

    key: bytes
    syntax: str

    @property
    def plain(self) -> bool:
        """Whether the pixels are uncompressed."""
        return not (UID(self.syntax).is_transfer_syntax and UID(self.syntax).is_encapsulated)


def identity_of(dataset: Dataset) -> Identity:
    """Return the identity of an object."""
    syntax = str(dataset.file_meta.get("TransferSyntaxUID") or "")
    if not dataset.get("SOPInstanceUID"):
        return Identity(b"", syntax)
    found = {word: numbers(dataset, word, count) for word, count in _PLACE.items()}
    place = [as_text(dataset, word) if x is None else [round(n, 4) for n in x] for word, x in found.items()]
    parts = (*(as_text(dataset, word) for word in _WORDS), place, marks_of(dataset))
    return Identity(hashlib.blake2b(repr(parts).encode(errors="replace"), digest_size=16).digest(), syntax)


def first_of_each(
    objects: Sequence[_Found],
    identity: Callable[[_Found], tuple[Path, Identity]],
    same_pixels: Callable[[_Found, _Found], bool],
) -> tuple[list[_Found], list[_Found]]:
    """Return the objects without copies, in their order, and the copies.

    Of several files of one object, the uncompressed one with the shortest name is kept. Files in the same transfer
    syntax are copies only if their pixels are equal; otherwise all are kept, whatever their UIDs.

    Args:
        objects: the objects to search.
        identity: returns the file and the identity of an object.
        same_pixels: returns whether two files in the same transfer syntax have equal pixels; called only for likely
            copies.
    """
    groups: dict[bytes, list[int]] = {}
    for index, one in enumerate(objects):
        groups.setdefault(identity(one)[1].key, []).append(index)
    copies: set[int] = set()
    for key, members in groups.items():
        if key and len(members) > 1:
            copies |= _copies(objects, members, identity, same_pixels)
    kept = [one for index, one in enumerate(objects) if index not in copies]
    return kept, [objects[index] for index in sorted(copies)]


def _copies(
    objects: Sequence[_Found],
    members: Sequence[int],
    identity: Callable[[_Found], tuple[Path, Identity]],
    same_pixels: Callable[[_Found, _Found], bool],
) -> set[int]:
    def rank(index: int) -> tuple[bool, int, Path]:
        path, known = identity(objects[index])
        return not known.plain, len(path.name), path

    kept: list[int] = []
    copies: set[int] = set()
    for index in sorted(members, key=rank):
        syntax = identity(objects[index])[1].syntax
        like = (objects[one] for one in kept)
        if any(identity(one)[1].syntax != syntax or same_pixels(one, objects[index]) for one in like):
            copies.add(index)
        else:
            kept.append(index)
    return copies


def pixel_digest(dataset: Dataset) -> str:
    """Return a digest of the stored pixels of an object."""
    digest = hashlib.sha256()
    for keyword in ("PixelData", "FloatPixelData", "DoubleFloatPixelData"):
        digest.update(bytes(dataset.get(keyword) or b""))
    return digest.hexdigest()
