"""Splitting a folder of DICOM images into stacks, each readable as one case, by headers alone."""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from monai_tpseg.io.dicom.copies import Identity, first_of_each, pixel_digest
from monai_tpseg.io.dicom.object import is_dicom, read_dataset
from monai_tpseg.io.dicom.repeats import KINDS, distinguishing_attribute, group_equal, most_repeated, number_places
from monai_tpseg.io.dicom.stack import label_orientations, same_spacing
from monai_tpseg.io.errors import ReadError
from monai_tpseg.io.headers import Header, read_header
from monai_tpseg.io.safety import base_name, read_safely

__all__ = [
    "SamePixels",
    "Stack",
    "dicom_files",
    "find_stacks",
    "same_pixels",
    "split_files",
    "split_headers",
    "with_lost_slices",
]

_DIGITS = re.compile(r"\d+")

SamePixels = Callable[[Path, Path], bool]
"""Whether two files of one transfer syntax have equal pixels."""


class Stack(NamedTuple):
    """DICOM files that are one case: `LoadMedicalImage()(stack.files)` reads them.

    Attributes:
        files: files sorted by position; a picture or a multi-frame object is a separate stack.
        reason: reason for the split, e.g. `series 1 of 2, echo 2 of 3`, without header text; "" if the folder is one
            stack.
    """

    files: tuple[Path, ...]
    reason: str

    @property
    def localizer(self) -> bool:
        """Whether it is a localizer of other stacks."""
        return "localizer" in self.reason.split(", ")


def find_stacks(folder: str | Path) -> list[Stack]:
    """Split the DICOM images in `folder` into stacks, each readable as one case.

    All slices of a stack have the same series, frame of reference, size, pixel spacing, pixel format and orientation,
    up to rounding, and different positions: echoes, phases, b-values, acquisitions and repeated slices are separate
    stacks. So are localizers, the levels of a whole slide, objects without position and multi-frame objects. Files
    that cannot be parsed are separate stacks too, unless all others are one series: then they belong to it, and
    reading it fails with their code. Non-image objects belong to no stack; copies of an object count once.

    Args:
        folder: folder whose files are split; sub-folders are not searched.

    Returns:
        Stacks in the order of their first file names; an empty list if there is no image.
    """
    return split_headers(with_lost_slices([read_header(path) for path in _visible_files(Path(folder))]), same_pixels)[0]


def split_files(files: Sequence[Path]) -> list[Stack]:
    """Split DICOM files of any folders as `find_stacks` does.

    Args:
        files: paths; missing and non-DICOM files become separate stacks, whose reading reports the error.
    """
    return split_headers([read_header(path) for path in files], same_pixels)[0]


def split_headers(headers: Sequence[Header], same: SamePixels) -> tuple[list[Stack], list[Path]]:
    """Split files by their headers, and return the stacks and the files that are copies of others.

    Args:
        headers: headers of the files.
        same: see `SamePixels`.
    """

    def known(one: Header) -> tuple[Path, Identity]:
        return one.path, one.identity

    images = [one for one in headers if one.image]
    slices, copies = first_of_each(images, known, lambda one, other: same(one.path, other.path))
    return _stacks(slices), [one.path for one in copies]


def same_pixels(one: Path, other: Path) -> bool:
    """Return whether two DICOM files have the same pixel bytes."""
    try:
        first, second = (read_safely(partial(_pixels, path), base_name(path)) for path in (one, other))
    except ReadError:
        return False  # both are kept, and reading reports the error
    return first == second


def _pixels(path: Path) -> str:
    return pixel_digest(read_dataset(path))


def _stacks(slices: list[Header]) -> list[Stack]:
    lost = [one.path for one in slices if not one.readable]
    good = [one for one in slices if one.readable]
    single = [
        ([one], "localizer" if one.localizer else "no position") for one in good if not one.placed and not one.slide
    ]
    slides = [one for one in good if one.slide]
    levels = [([slides[i] for i in group], "slide") for group in group_equal([one.series for one in slides])]
    groups = _split([one for one in good if one.placed], _LEVELS) + levels + single
    if len(groups) == 1 and (not lost or len(groups[0][0]) > 1):
        reason = "localizer" if groups[0][0][0].localizer else ""
        return [Stack((*(one.path for one in groups[0][0]), *lost), reason)]
    stacks = [Stack(tuple(one.path for one in files), reason) for files, reason in groups]
    stacks += [Stack((path,), "unreadable" if len(slices) > 1 else "") for path in lost]
    return sorted(stacks, key=lambda stack: min(stack.files))


def dicom_files(folder: Path) -> list[Path]:
    """Return the visible DICOM files and lost slices of `folder`, sorted, without its sub-folders and a DICOMDIR."""
    paths = _visible_files(folder)
    dicom = {path for path in paths if read_safely(partial(is_dicom, path), base_name(path))}
    lost = _named_alike(dicom, [path for path in paths if path not in dicom])
    return [path for path in paths if path in dicom or (path in lost and not read_header(path).kind)]


def with_lost_slices(headers: Sequence[Header]) -> list[Header]:
    """Return the DICOM headers of a folder, and those of lost slices with their code.

    An interrupted copy leaves files that are empty or contain something else. At the end of a stack, nothing else would
    betray them. A file of no known format counts as one if only the digits of its name distinguish it from DICOM files.

    Args:
        headers: headers of all files of a folder.
    """
    lost = _named_alike(
        {one.path for one in headers if one.kind == "dicom"}, [one.path for one in headers if not one.kind]
    )
    marked = [
        one._replace(kind="dicom", code=one.code or ("E_DECODE" if one.size else "E_TRUNCATED"))
        if one.path in lost
        else one
        for one in headers
    ]
    return [one for one in marked if one.kind == "dicom"]


def _named_alike(dicom: set[Path], others: Sequence[Path]) -> set[Path]:
    patterns = {_DIGITS.sub("0", path.name) for path in dicom}
    return {path for path in others if _DIGITS.sub("0", path.name) in patterns}


def _visible_files(folder: Path) -> list[Path]:
    paths = sorted(path for path in folder.iterdir() if path.name[0] != "." and path.name != "DICOMDIR")
    return [path for path in paths if path.is_file()]


_Labels = Callable[[Sequence[Header]], Sequence[Hashable]]
_Found = list[tuple[list[Header], str]]


def _sizes(slices: Sequence[Header]) -> list[int]:
    """A number per slice, equal for slices with the same matrix and pixel spacing up to rounding."""
    kinds: list[Header] = []
    labels = []
    for one in slices:
        like = (
            n
            for n, kind in enumerate(kinds)
            if kind.grid == one.grid and same_spacing(kind.spacing, one.spacing, one.grid[:2])
        )
        label = next(like, len(kinds))
        if label == len(kinds):
            kinds.append(one)
        labels.append(label)
    return labels


def _spaces(slices: Sequence[Header]) -> list[str]:
    """The frame of reference of each slice; if it was removed, that of the others, if they share one."""
    known = {one.frame_of_reference for one in slices} - {""}
    return [one.frame_of_reference if len(known) > 1 else "" for one in slices]


_LEVELS: tuple[tuple[str, _Labels], ...] = (
    ("series", lambda slices: [one.series for one in slices]),
    ("localizer", lambda slices: [one.localizer for one in slices]),
    ("frame of reference", _spaces),
    ("size", _sizes),
    ("orientation", lambda slices: label_orientations([one.orientation for one in slices])),
)


def _split(slices: list[Header], levels: tuple[tuple[str, _Labels], ...]) -> _Found:
    if not slices:
        return []
    if not levels:
        return _by_position(slices)
    (word, labels), *rest = levels
    groups = [[slices[i] for i in group] for group in group_equal(labels(slices))]
    return _named(word, groups, lambda group: _split(group, tuple(rest)))


def _named(word: str, groups: list[list[Header]], split: Callable[[list[Header]], _Found]) -> _Found:
    """Split each group further, and add the reason of the group to those of its parts."""
    found = []
    for n, group in enumerate(groups, start=1):
        own = f"{word} {n} of {len(groups)}" if len(groups) > 1 else ""
        if word == "localizer":
            own = word if group[0].localizer else ""
        found += [(files, ", ".join(filter(None, (own, more)))) for files, more in split(group)]
    return found


def _by_position(slices: list[Header]) -> _Found:
    """Split slices of one grid into stacks without repeated positions."""
    places = _places(slices)
    numbers = number_places(places)
    if most_repeated(numbers) == 1:
        return [([slices[i] for i in np.argsort(places)], "")]
    told = distinguishing_attribute(numbers, [one.marks for one in slices])
    if told is None:
        return _named("copy", _copies(slices, numbers), _by_position)
    keyword, groups = told
    return _named(KINDS[keyword], [[slices[i] for i in group] for group in groups], _by_position)


def _places(slices: list[Header]) -> NDArray[np.float64]:
    across = np.asarray(slices[0].orientation).reshape(2, 3)
    places: NDArray[np.float64] = np.array([one.position for one in slices]) @ np.cross(across[0], across[1])
    return places


def _copies(slices: list[Header], numbers: list[int]) -> list[list[Header]]:
    """The first, second, ... slice at each position, by time and instance number."""
    order = sorted(range(len(slices)), key=lambda i: (slices[i].rank, slices[i].path))
    copies: list[list[Header]] = []
    met: dict[int, int] = {}
    for i in order:
        nth = met[numbers[i]] = met.get(numbers[i], -1) + 1
        if nth == len(copies):
            copies.append([])
        copies[nth].append(slices[i])
    return copies
