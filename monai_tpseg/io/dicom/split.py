"""A folder of DICOM images -> stacks, each of which can be read as one case. Headers only; nothing is left out."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from monai_tpseg.io.dicom.copies import Identity, first_of_each, pixel_digest
from monai_tpseg.io.dicom.object import is_dicom, read_dataset
from monai_tpseg.io.dicom.repeats import KINDS, grouped, most_repeated, number_places, tell_apart
from monai_tpseg.io.dicom.stack import label_orientations, same_spacing
from monai_tpseg.io.errors import ReadError
from monai_tpseg.io.headers import Header, read_header
from monai_tpseg.io.safety import base_name, read_safely

__all__ = ["SamePixels", "Stack", "dicom_files", "find_stacks", "same_pixels", "split_files", "split_headers"]

SamePixels = Callable[[Path, Path], bool]
"""Whether two files of one transfer syntax hold the same pixels."""


class Stack(NamedTuple):
    """DICOM files that are one case: `LoadMedicalImage()(stack.files)` reads them.

    Attributes:
        files: sorted by position; one picture or multi-frame object is a stack of its own.
        reason: why the folder was split here, e.g. `series 1 of 2, echo 2 of 3`, without a text of a header; "" where
            the folder is one stack.
    """

    files: tuple[Path, ...]
    reason: str

    @property
    def localizer(self) -> bool:
        """Whether it only shows where the slices of another stack lie."""
        return "localizer" in self.reason.split(", ")


def find_stacks(folder: str | Path) -> list[Stack]:
    """Split the DICOM images in `folder` into what can be read as one case each.

    A stack has one series, frame of reference, size, pixel spacing, kind of pixels and orientation, each up to
    rounding, and each position once: echoes, phases,
    b-values, acquisitions and repeated slices are stacks of their own. So are localizers, the levels of a whole slide,
    objects without position, multi-frame objects, and files that cannot be parsed, unless all others are one series:
    then they belong to it, and reading it fails with their code. Objects that are no images are no part of any; the
    same object in several files counts once.

    Args:
        folder: its own files count, not those of its sub-folders.

    Returns:
        Stacks in the order of their first file names; an empty list where there is no image.
    """
    return split_files(dicom_files(Path(folder)))


def split_files(files: Sequence[Path]) -> list[Stack]:
    """Split DICOM files, from whatever folders, as `find_stacks` does.

    Args:
        files: what is no DICOM, or not there, is a stack of its own as well: reading it says why.
    """
    return split_headers([read_header(path) for path in files], same_pixels)[0]


def split_headers(headers: Sequence[Header], same: SamePixels) -> tuple[list[Stack], list[Path]]:
    """Split files by what is known of them, and return the stacks and the files that are copies of others.

    Args:
        headers: of the files.
        same: see `SamePixels`.
    """

    def known(one: Header) -> tuple[Path, Identity]:
        return one.path, one.identity

    images = [one for one in headers if one.image]
    slices, copies = first_of_each(images, known, lambda one, other: same(one.path, other.path))
    return _stacks(slices), [one.path for one in copies]


def same_pixels(one: Path, other: Path) -> bool:
    """Say whether two DICOM files hold the same pixels, byte for byte."""
    try:
        first, second = (read_safely(partial(_pixels, path), base_name(path)) for path in (one, other))
    except ReadError:
        return False  # both stay, and reading says what is wrong
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
    levels = [([slides[i] for i in group], "slide") for group in grouped([one.series for one in slides])]
    groups = _split([one for one in good if one.placed], _LEVELS) + levels + single
    if len(groups) == 1 and (not lost or len(groups[0][0]) > 1):
        reason = "localizer" if groups[0][0][0].localizer else ""
        return [Stack((*(one.path for one in groups[0][0]), *lost), reason)]
    stacks = [Stack(tuple(one.path for one in files), reason) for files, reason in groups]
    stacks += [Stack((path,), "unreadable" if len(slices) > 1 else "") for path in lost]
    return sorted(stacks, key=lambda stack: min(stack.files))


def dicom_files(folder: Path) -> list[Path]:
    """Return the visible DICOM files of `folder` itself, sorted, without the index of a disc."""
    paths = sorted(path for path in folder.iterdir() if path.name[0] != "." and path.name != "DICOMDIR")
    return [path for path in paths if path.is_file() and read_safely(partial(is_dicom, path), base_name(path))]


_Labels = Callable[[Sequence[Header]], Sequence[Hashable]]
_Found = list[tuple[list[Header], str]]


def _sizes(slices: Sequence[Header]) -> list[int]:
    """A number for each slice, the same for those of one grid and of one pixel spacing up to rounding."""
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
    """The frame of reference of each slice; where it was lost, that of the others, if they have one in common."""
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
    groups = [[slices[i] for i in group] for group in grouped(labels(slices))]
    return _named(word, groups, lambda group: _split(group, tuple(rest)))


def _named(word: str, groups: list[list[Header]], split: Callable[[list[Header]], _Found]) -> _Found:
    """Split each group further, and put what it is before the reasons that this gives."""
    found = []
    for n, group in enumerate(groups, start=1):
        own = f"{word} {n} of {len(groups)}" if len(groups) > 1 else ""
        if word == "localizer":
            own = word if group[0].localizer else ""
        found += [(files, ", ".join(filter(None, (own, more)))) for files, more in split(group)]
    return found


def _by_position(slices: list[Header]) -> _Found:
    """Slices of one grid -> stacks with each position once."""
    places = _places(slices)
    numbers = number_places(places)
    if most_repeated(numbers) == 1:
        return [([slices[i] for i in np.argsort(places)], "")]
    told = tell_apart(numbers, [one.marks for one in slices])
    if told is None:
        return _named("copy", _copies(slices, numbers), _by_position)
    keyword, groups = told
    return _named(KINDS[keyword], [[slices[i] for i in group] for group in groups], _by_position)


def _places(slices: list[Header]) -> NDArray[np.float64]:
    across = np.asarray(slices[0].orientation).reshape(2, 3)
    places: NDArray[np.float64] = np.array([one.position for one in slices]) @ np.cross(across[0], across[1])
    return places


def _copies(slices: list[Header], numbers: list[int]) -> list[list[Header]]:
    """The first, second, ... slice of each position, by time and number."""
    order = sorted(range(len(slices)), key=lambda i: (slices[i].rank, slices[i].path))
    copies: list[list[Header]] = []
    met: dict[int, int] = {}
    for i in order:
        nth = met[numbers[i]] = met.get(numbers[i], -1) + 1
        if nth == len(copies):
            copies.append([])
        copies[nth].append(slices[i])
    return copies
