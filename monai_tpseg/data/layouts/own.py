"""A folder of pictures and a folder of masks, as people have them."""

from __future__ import annotations

import re
from pathlib import Path

from monai_tpseg.data.layouts.base import DatasetContent, Layout, LayoutError, Pair, direct_source
from monai_tpseg.io.kinds import MASK_ENDING
from monai_tpseg.suffixes import READABLE_SUFFIXES
from monai_tpseg.words import count

__all__ = ["own_layout"]


def own_layout(images: Path, masks: Path, task: str, patient_regex: str = "") -> Layout:
    """Return the layout of one's own folders.

    A mask belongs to the picture of the same path below its folder, but for the suffix and an ending such as `_mask`.

    Args:
        images: folder of pictures, with any folders in it.
        masks: folder of masks, laid out likewise; it may be the same, if the masks have such an ending.
        task: task of all pictures.
        patient_regex: searched in a picture's path below `images`; its first group, or the whole match, is the patient.

    Raises:
        LayoutError: the expression is none.
    """
    try:
        expression = re.compile(patient_regex) if patient_regex else None
    except re.error as error:
        raise LayoutError(f"--patient-regex {patient_regex!r} is not a regular expression ({error}).") from error

    def find(_root: Path) -> DatasetContent:
        return _pairs(images, masks, expression)

    return Layout("folders", task, f"{images.name} and {masks.name}", find, {"folders": (0, 0)}, with_empty=True)


def _pairs(images: Path, masks: Path, expression: re.Pattern[str] | None) -> DatasetContent:
    pictures, labels = _files(images), _files(masks)
    if images.resolve() == masks.resolve():
        pictures = {key: path for key, path in pictures.items() if not MASK_ENDING.search(key)}
        labels = {key: path for key, path in labels.items() if MASK_ENDING.search(key)}
    by_key = {MASK_ENDING.sub("", key): path for key, path in labels.items()}
    if not pictures or not by_key:
        raise LayoutError(
            f"No {'masks' if pictures else 'pictures'} in '{masks if pictures else images}'; name another."
        )
    paired = [key for key in pictures if key in by_key]
    lone = [pictures[key].name for key in pictures if key not in by_key]
    lone += [path.name for key, path in by_key.items() if key not in pictures]
    without = 0
    sources = []
    for key in paired:
        patient = _patient(pictures[key].relative_to(images).as_posix(), expression)
        without += expression is not None and not patient
        sources.append(direct_source(Pair(key, pictures[key], by_key[key], "folders", patient)))
    remarks = [f"--patient-regex finds no patient in {without} of {count(len(paired), 'path')}."] if without else []
    return DatasetContent(sources, lone, remarks)


def _files(folder: Path) -> dict[str, Path]:
    """Path below the folder without suffix -> file."""
    if not folder.is_dir():
        raise LayoutError(f"No folder at '{folder}'; check the path.")
    found = {}
    for path in sorted(folder.rglob("*")):
        suffix = next((s for s in READABLE_SUFFIXES if path.name.lower().endswith(s)), None)
        if suffix is not None and path.is_file() and path.name[0] != ".":
            found[path.relative_to(folder).as_posix()[: -len(suffix)]] = path
    return found


def _patient(path: str, expression: re.Pattern[str] | None) -> str:
    match = expression.search(path) if expression else None
    if match is None:
        return ""
    return next((group for group in match.groups() if group), match[0])
