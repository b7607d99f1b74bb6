"""Volumes of a training list as pictures: TP-Seg learns from slices."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path

from monai_tpseg.catalogue import get_task
from monai_tpseg.data.datalists import Case
from monai_tpseg.data.layouts.base import write_mask, write_picture
from monai_tpseg.io.meta_keys import INTENSITY
from monai_tpseg.keys import IMAGE, LABEL, PATIENT, TASK
from monai_tpseg.studies.annotated import SLICES
from monai_tpseg.suffixes import PICTURE_SUFFIXES
from monai_tpseg.transforms import LoadMedicalImage, load_pipeline, match_label

__all__ = ["slices_as_pictures"]


def slices_as_pictures(case: Case, modalities: Mapping[str, str], folder: Path) -> Iterator[Case]:
    """Yield a case as it is, or the slices of a volume that show lesion, and half as many of the others.

    An entry that lists `slices`, those that a person has looked at, gives these alone.

    Slices are written as the task's pipeline shows them, grey values of 16 bits, and belong to one patient.

    Args:
        case: with absolute paths.
        modalities: modalities of tasks beyond the catalogue.
        folder: for the files of slices; made when needed.

    Raises:
        ReadError: image or mask cannot be read, or do not fit.
    """
    if str(case[IMAGE]).lower().endswith(PICTURE_SUFFIXES):
        yield case
        return
    image = LoadMedicalImage()(case[IMAGE])
    if image.ndim == 3:
        yield case
        return
    masks = match_label(LoadMedicalImage("label")(case[LABEL]), image).as_tensor()[0]
    modality = get_task(case[TASK], modalities).modality
    shown = load_pipeline(modality, image.meta[INTENSITY], network=False)({IMAGE: image[:1]})[IMAGE].as_tensor()[0]
    stem = hashlib.sha256(f"{case[IMAGE]} {case[TASK]}".encode()).hexdigest()[:16]
    for number in case.get(SLICES) or _chosen(masks.flatten(0, 1).any(0).tolist()):
        files = {
            IMAGE: write_picture(shown[..., number].numpy(), folder / "images" / f"{stem}_{number:04d}.png"),
            LABEL: write_mask(masks[..., number].numpy(), folder / "masks" / f"{stem}_{number:04d}.png"),
        }
        kept = {key: value for key, value in case.items() if key != SLICES}
        yield {PATIENT: stem, **kept, **{key: str(path.absolute()) for key, path in files.items()}}


def _chosen(lesion: list[bool]) -> list[int]:
    """Numbers of all slices with lesion and, evenly spread, of half as many without."""
    with_lesion = [number for number, there in enumerate(lesion) if there]
    without = [number for number, there in enumerate(lesion) if not there]
    wanted = min(len(without), len(with_lesion) // 2)
    return sorted([*with_lesion, *(without[i * len(without) // wanted] for i in range(wanted))])
