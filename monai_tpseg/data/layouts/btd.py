"""BTD, the brain tumour data set of figshare 1512427: one MATLAB 7.3 file a slice, or the PNG copy of it."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from monai.utils import optional_import
from numpy.typing import NDArray

from monai_tpseg.data.layouts.base import (
    DatasetContent,
    Layout,
    LayoutError,
    Pair,
    Source,
    find_pair_of_folders,
    merge_contents,
    pair_up,
    pictures,
    write_mask,
    write_picture,
)
from monai_tpseg.io import ReadError
from monai_tpseg.keys import IMAGE
from monai_tpseg.transforms import load_pipeline
from monai_tpseg.words import how_to_install

__all__ = ["BTD", "LAST_TRAINING"]

LAST_TRAINING = 2298
"""The four published archives hold the slices 1-766, 767-1532, 1533-2298 and 2299-3064; the paper's sizes, 2298 and
766, are those of the first three and the last."""

_SLICE = re.compile(r"^\d+$")


def _find(root: Path) -> DatasetContent:
    slices = sorted((p for p in root.rglob("*.mat") if _SLICE.match(p.stem)), key=lambda path: int(path.stem))
    if slices:
        folds = _folds(root)
        known = [] if folds else ["No cvind.mat: --folds 5 cannot use the published folds."]
        return DatasetContent([_source(path, folds.get(int(path.stem), 0)) for path in slices], remarks=known)
    folders = find_pair_of_folders(root, [("images", "masks")])
    if folders is None:
        raise LayoutError(f"No 1.mat, 2.mat, ... nor images and masks in '{root}'; give the unpacked archives.")
    parts = []
    for section in ("training", "validation"):
        images, masks = ([p for p in pictures(folder) if _section(p) == section] for folder in folders)
        parts.append(pair_up(images, masks, "btd", section=section))
    note = "These are pictures made from the MATLAB files: their patients and the published folds are not known."
    return merge_contents(parts)._replace(remarks=[note])


def _section(path: Path) -> str:
    if not _SLICE.match(path.stem):
        raise LayoutError(f"'{path.name}' is not named by its slice number, such as 1.png, which determines the split.")
    return "training" if int(path.stem) <= LAST_TRAINING else "validation"


def _folds(root: Path) -> dict[int, int]:
    """Number of a slice -> its published fold, 1 to 5, in which patients stay together."""
    path = next(iter(sorted(root.rglob("cvind.mat"))), None)
    if path is None:
        return {}
    try:
        with _h5py().File(path, "r") as file:
            values = np.asarray(file["cvind"]).reshape(-1)
    except (OSError, KeyError) as error:
        raise LayoutError(f"'{path}' is damaged or not the published one; download it again.") from error
    return {number: int(fold) for number, fold in enumerate(values, start=1)}


def _source(path: Path, fold: int) -> Source:
    return Source(path.name, partial(_write, path, fold))


def _write(path: Path, fold: int, files: Path) -> list[Pair]:
    image, mask, patient = _read(path)
    pixels = MetaTensor(torch.from_numpy(image[None].astype(np.float32)))
    shown = load_pipeline("mri", "physical", network=False)({IMAGE: pixels})[IMAGE][0].numpy()
    picture = write_picture(shown, files / "images" / f"{path.stem}.png")
    label = write_mask(mask, files / "labels" / f"{path.stem}.png")
    return [Pair(path.stem, picture, label, "btd", patient, _section(path), fold)]


def _read(path: Path) -> tuple[NDArray[Any], NDArray[Any], str]:
    """Return image (H, W), mask (H, W) and patient; MATLAB stores columns first, so both are transposed."""
    try:
        with _h5py().File(path, "r") as file:
            data = file["cjdata"]
            image, mask = np.asarray(data["image"]).T, np.asarray(data["tumorMask"]).T
            patient = "".join(chr(int(code)) for code in np.asarray(data["PID"]).reshape(-1))
    except (OSError, KeyError, ValueError) as error:
        raise ReadError(
            "E_DECODE", f"{path.name} is damaged or not a slice of this data set; download it again."
        ) from error
    if image.ndim != 2 or image.shape != mask.shape:
        raise ReadError("E_SHAPE_MISMATCH", f"{path.name} has an image of {image.shape} and a mask of {mask.shape}.")
    return image, mask, patient.strip()


def _h5py() -> Any:
    h5py, there = optional_import("h5py")
    if not there:
        raise LayoutError(f"MATLAB 7.3 files need h5py: {how_to_install('data')}.")
    return h5py


BTD = Layout(
    "btd",
    "brain_tumor",
    "BTD (figshare 1512427)",
    _find,
    {"btd": (2298, 766)},
    "official",
    with_empty=True,
    remarks=(
        "The split follows the four archives and ignores patients; --folds 5 uses the published folds by patient.",
    ),
)
