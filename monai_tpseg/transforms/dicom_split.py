"""A folder of DICOM images -> stacks, each of which can be read as one case. Headers only; nothing is left out."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydicom.uid import VLWholeSlideMicroscopyImageStorage

from monai_tpseg.transforms.dicom import Dataset, frame_count, is_dicom, is_image, read_dataset
from monai_tpseg.transforms.dicom_repeats import (
    KINDS,
    Marks,
    grouped,
    marks_of,
    most_repeated,
    number_places,
    tell_apart,
)
from monai_tpseg.transforms.dicom_stack import has_positions, is_localizer, label_orientations
from monai_tpseg.transforms.dicom_values import intensity_of
from monai_tpseg.transforms.errors import ReadError
from monai_tpseg.transforms.guard import base_name, guarded

__all__ = ["Stack", "dicom_files", "find_stacks", "split_files"]


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
        """Whether it only shows where the slices of another stack of the folder lie."""
        return "localizer" in self.reason.split(", ")


class _Slice(NamedTuple):
    """What decides to which stack a file belongs."""

    path: Path
    readable: bool = False
    placed: bool = False  # a single frame with a position
    slide: bool = False  # a level of a whole slide
    series: str = ""
    localizer: bool = False
    kind: Hashable = None  # size, pixel spacing, photometric interpretation
    orientation: tuple[float, ...] = ()
    position: tuple[float, ...] = ()
    marks: Marks = ()
    rank: tuple[float, ...] = ()  # orders copies


def find_stacks(folder: str | Path) -> list[Stack]:
    """Split the DICOM images in `folder` into what can be read as one case each.

    A stack has one series, size, pixel spacing, kind of pixels and orientation, and each position once: echoes, phases,
    b-values, acquisitions and copies are stacks of their own. So are localizers, the levels of a whole slide, objects
    without position, multi-frame objects, and files that cannot be parsed, unless all others are one stack: then they
    belong to it, and reading it fails with their code. Objects that are no images are no part of any.

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
    slices = [found for path in files if (found := _header(path)) is not None]
    lost = [one.path for one in slices if not one.readable]
    single = [([one], "no position") for one in slices if one.readable and not one.placed and not one.slide]
    slides = [one for one in slices if one.slide]
    levels = [([slides[i] for i in group], "slide") for group in grouped([one.series for one in slides])]
    groups = _split([one for one in slices if one.placed], _LEVELS) + levels + single
    if len(groups) == 1:
        return [Stack((*(one.path for one in groups[0][0]), *lost), "")]
    stacks = [Stack(tuple(one.path for one in files), reason) for files, reason in groups]
    stacks += [Stack((path,), "unreadable" if len(slices) > 1 else "") for path in lost]
    return sorted(stacks, key=lambda stack: min(stack.files))


def dicom_files(folder: Path) -> list[Path]:
    """Return the visible DICOM files of `folder` itself, sorted, without the index of a disc."""
    paths = sorted(path for path in folder.iterdir() if path.name[0] != "." and path.name != "DICOMDIR")
    return [path for path in paths if path.is_file() and guarded(partial(is_dicom, path), base_name(path))]


def _header(path: Path) -> _Slice | None:
    """None for an object that is no image."""
    try:
        return guarded(lambda: _parse(path), base_name(path))
    except ReadError:
        return _Slice(path)


def _parse(path: Path) -> _Slice | None:
    dataset = read_dataset(path, pixels=False)
    if not is_image(dataset):
        return None
    if not dataset.get("Rows") or not dataset.get("Columns"):  # damaged: it cannot be said where it belongs
        return _Slice(path)
    if dataset.get("SOPClassUID") == VLWholeSlideMicroscopyImageStorage:
        return _Slice(path, True, slide=True, series=str(dataset.get("SeriesInstanceUID")))
    single = frame_count(dataset, base_name(path)) == 1 and has_positions(dataset)
    if not single or "ImagePositionPatient" not in dataset or "PixelSpacing" not in dataset:
        return _Slice(path, True)
    return _Slice(
        path,
        readable=True,
        placed=True,
        series=str(dataset.get("SeriesInstanceUID")),
        localizer=is_localizer(dataset),
        kind=_kind(dataset),
        orientation=tuple(float(x) for x in dataset.ImageOrientationPatient),
        position=tuple(float(x) for x in dataset.ImagePositionPatient),
        marks=marks_of(dataset),
        rank=tuple(float(dataset.get(word) or 0) for word in ("TriggerTime", "AcquisitionNumber", "InstanceNumber")),
    )


def _kind(dataset: Dataset) -> Hashable:
    spacing = tuple(round(float(edge), 4) for edge in dataset.PixelSpacing)
    photometric = str(dataset.get("PhotometricInterpretation"))
    return int(dataset.get("Rows") or 0), int(dataset.get("Columns") or 0), spacing, photometric, intensity_of(dataset)


_Labels = Callable[[Sequence[_Slice]], Sequence[Hashable]]
_Found = list[tuple[list[_Slice], str]]

_LEVELS: tuple[tuple[str, _Labels], ...] = (
    ("series", lambda slices: [one.series for one in slices]),
    ("localizer", lambda slices: [one.localizer for one in slices]),
    ("size", lambda slices: [one.kind for one in slices]),
    ("orientation", lambda slices: label_orientations([one.orientation for one in slices])),
)


def _split(slices: list[_Slice], levels: tuple[tuple[str, _Labels], ...]) -> _Found:
    if not slices:
        return []
    if not levels:
        return _by_position(slices)
    (word, labels), *rest = levels
    groups = [[slices[i] for i in group] for group in grouped(labels(slices))]
    return _named(word, groups, lambda group: _split(group, tuple(rest)))


def _named(word: str, groups: list[list[_Slice]], split: Callable[[list[_Slice]], _Found]) -> _Found:
    """Split each group further, and put what it is before the reasons that this gives."""
    found = []
    for n, group in enumerate(groups, start=1):
        own = f"{word} {n} of {len(groups)}" if len(groups) > 1 else ""
        if word == "localizer":
            own = word if group[0].localizer else ""
        found += [(files, ", ".join(filter(None, (own, more)))) for files, more in split(group)]
    return found


def _by_position(slices: list[_Slice]) -> _Found:
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


def _places(slices: list[_Slice]) -> NDArray[np.float64]:
    across = np.asarray(slices[0].orientation).reshape(2, 3)
    places: NDArray[np.float64] = np.array([one.position for one in slices]) @ np.cross(across[0], across[1])
    return places


def _copies(slices: list[_Slice], numbers: list[int]) -> list[list[_Slice]]:
    """The first, second, ... slice of each position, by time and number."""
    order = sorted(range(len(slices)), key=lambda i: (slices[i].rank, slices[i].path))
    copies: list[list[_Slice]] = []
    met: dict[int, int] = {}
    for i in order:
        nth = met[numbers[i]] = met.get(numbers[i], -1) + 1
        if nth == len(copies):
            copies.append([])
        copies[nth].append(slices[i])
    return copies
