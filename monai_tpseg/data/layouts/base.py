"""Parts of all layouts: pairs of a picture and its mask, found in a folder or written from one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from PIL import Image

from monai_tpseg.files import complete
from monai_tpseg.suffixes import PICTURE_SUFFIXES

__all__ = [
    "DatasetContent",
    "Layout",
    "LayoutError",
    "Pair",
    "Source",
    "direct_source",
    "find_folder",
    "find_pair_of_folders",
    "pair_up",
    "write_mask",
    "write_picture",
]

_DEPTH = 4  # levels below the source at which a folder is looked for; archives unpack into one or two of their name


class LayoutError(ValueError):
    """A tree that is not laid out as the data set is published; the message is one line."""


@dataclass(frozen=True)
class Pair:
    """One picture and its mask.

    Args:
        name: unique in its data set, parts separated by `/`.
        image: file of the picture.
        label: file of the mask.
        set: the part of the data set that it belongs to.
        patient: "" where the layout does not tell.
        section: list of the published split, "" where there is none.
        fold: number of the published fold from 1, 0 where there is none.
    """

    name: str
    image: Path
    label: Path
    set: str
    patient: str = ""
    section: str = ""
    fold: int = 0


class Source(NamedTuple):
    """Something that pairs are read from.

    Args:
        name: for messages.
        read: maps the folder for files that have to be written to the pairs; raises `ReadError` for damaged content.
    """

    name: str
    read: Callable[[Path], list[Pair]]


class DatasetContent(NamedTuple):
    """The content of a data set on disk.

    Args:
        sources: sources of pairs.
        unpaired: names of pictures without a mask and masks without a picture.
        remarks: remarks for the summary.
    """

    sources: list[Source]
    unpaired: Sequence[str] = ()
    remarks: Sequence[str] = ()


@dataclass(frozen=True)
class Layout:
    """The layout of a published data set.

    Args:
        name: name on the command line.
        task: task of all its pictures.
        title: usual name of the data set.
        find: searches a folder; raises `LayoutError`.
        sets: part of the data set -> pictures in training and validation according to the paper. A set with both is
            divided by a seeded draw where no published split is used.
        paper_split: `official`, the paper's sizes are those of the published split; `seeded`, the paper does not say
            which pictures, so they are drawn by seed.
        with_empty: whether the paper's sizes count the pictures without lesion.
        remarks: on every summary.
    """

    name: str
    task: str
    title: str
    find: Callable[[Path], DatasetContent]
    sets: Mapping[str, tuple[int, int]]
    paper_split: Literal["official", "seeded"] = "seeded"
    with_empty: bool = False
    remarks: Sequence[str] = field(default_factory=tuple)

    @property
    def counts(self) -> tuple[int, int]:
        """Pictures in training and validation according to the paper's Table 1; (0, 0) for data of one's own."""
        return sum(n for n, _ in self.sets.values()), sum(n for _, n in self.sets.values())


def direct_source(pair: Pair) -> Source:
    """Return the source of a pair whose files serve as they are."""
    return Source(pair.name, lambda folder: [pair])


def find_folder(root: Path, name: str) -> Path | None:
    """Return the folder called `name`, whatever its case: `root` itself, or the uppermost one in it."""
    return next((path for path in _folders(root) if path.name.casefold() == name.casefold()), None)


def find_pair_of_folders(root: Path, choices: Sequence[tuple[str, str]]) -> tuple[Path, Path] | None:
    """Return the first two folders, side by side, whose names are one of `choices`, whatever their case."""
    for path in _folders(root):
        inside = {child.name.casefold(): child for child in path.iterdir() if child.is_dir()}
        for first, second in choices:
            if first.casefold() in inside and second.casefold() in inside:
                return inside[first.casefold()], inside[second.casefold()]
    return None


def _folders(root: Path) -> Iterator[Path]:
    level = [root]
    for _ in range(_DEPTH + 1):
        yield from level
        below = (child for folder in level for child in sorted(folder.iterdir()))
        level = [child for child in below if child.is_dir() and child.name[0] != "." and child.name != "__MACOSX"]


def pictures(folder: Path) -> list[Path]:
    """Return the pictures of a folder by their suffix, in the order of their names."""
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in PICTURE_SUFFIXES and path.name[0] != ".")


def pair_up(
    images: Iterable[Path],
    masks: Iterable[Path],
    set_name: str,
    *,
    section: str = "",
    prefix: str = "",
    mask_stem: Callable[[str], str] = lambda stem: stem,
    patient: Callable[[str], str] = lambda stem: "",
) -> DatasetContent:
    """Pair pictures with masks by the stem of their names.

    Args:
        images: files of pictures.
        masks: files of masks.
        set_name: see `Pair`.
        section: see `Pair`.
        prefix: prefix of the stem in the name of a pair.
        mask_stem: maps the stem of a mask to that of its picture.
        patient: maps the stem of a picture to its patient.
    """
    by_stem = {mask_stem(mask.stem): mask for mask in masks}
    sources, unpaired = [], []
    for image in images:
        mask = by_stem.pop(image.stem, None)
        if mask is None:
            unpaired.append(f"{prefix}{image.name}")
            continue
        sources.append(direct_source(Pair(prefix + image.stem, image, mask, set_name, patient(image.stem), section)))
    return DatasetContent(sources, unpaired + [f"{prefix}{mask.name}" for mask in by_stem.values()])


def merge_contents(parts: Iterable[DatasetContent]) -> DatasetContent:
    """Return several finds as one."""
    listed = list(parts)
    return DatasetContent(*(([item for part in listed for item in part[field]]) for field in range(3)))  # type: ignore[arg-type]


def write_picture(values: Any, path: Path) -> Path:
    """Write a picture as PNG and return its path.

    Args:
        values: uint8 (H, W) or (H, W, 3); or float in [0, 1] (H, W), which becomes 16 bits grey.
        path: the file; folders are made.
    """
    array = np.asarray(values)
    if array.dtype != np.uint8:
        array = np.rint(array * 65535).astype(np.uint16)
    with complete(path) as part:
        Image.fromarray(np.ascontiguousarray(array)).save(part, format="PNG")
    return path


def write_mask(mask: Any, path: Path) -> Path:
    """Write a mask, (H, W) with lesion above 0, as PNG of {0, 255} and return its path."""
    return write_picture((np.asarray(mask) > 0).astype(np.uint8) * 255, path)
