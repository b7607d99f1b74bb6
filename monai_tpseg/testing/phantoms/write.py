"""Write phantoms as PNG and NIfTI, and whole sample data sets with their data list."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import nibabel
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from monai_tpseg.catalogue import TASK_NAMES, Modality, get_task
from monai_tpseg.keys import IMAGE, LABEL, TASK
from monai_tpseg.testing.phantoms.dicom import write_dicom_series
from monai_tpseg.testing.phantoms.scene import PhantomVolume, make_phantom, make_volume
from monai_tpseg.testing.phantoms.textures import Mask
from monai_tpseg.words import choose

__all__ = ["SPLITS", "DemoCases", "phantom_seed", "write_dataset", "write_demo_cases", "write_nifti", "write_png"]

SPLITS: tuple[str, ...] = ("training", "validation", "demo")
"""The parts of a data set; each has seeds of its own."""

_SEEDS_A_SPLIT = 100_000


class DemoCases(NamedTuple):
    """The files that `write_demo_cases` made, and the task of each.

    Args:
        picture, picture_label: PNG of `picture_task`.
        volume, volume_label: NIfTI of `volume_task`.
        series, series_label: folder of a CT DICOM series and NIfTI label of `series_task`.
    """

    picture: Path
    picture_label: Path
    picture_task: str
    volume: Path
    volume_label: Path
    volume_task: str
    series: Path
    series_label: Path
    series_task: str


def write_png(array: NDArray[np.uint8] | Mask, path: str | Path) -> Path:
    """Write a picture or a mask as PNG and return its path.

    Args:
        array: uint8 (H, W) or (H, W, 3), or a bool mask (H, W) that becomes {0, 255}.
        path: the file; its folder must exist.

    Raises:
        ValueError: the array is neither uint8 nor bool.
    """
    if array.dtype not in (np.uint8, np.bool_):
        raise ValueError(f"A PNG needs a uint8 or bool array, got {array.dtype}.")
    pixels = array.astype(np.uint8) * 255 if array.dtype == np.bool_ else array
    Image.fromarray(np.ascontiguousarray(pixels)).save(path, format="PNG")
    return Path(path)


def write_nifti(volume: PhantomVolume, path: str | Path) -> tuple[Path, Path]:
    """Write a volume and its label as NIfTI; return both paths, the label's ending in `_label.nii.gz`.

    The file's axes are columns, rows, slices, as scanners' converters write them; the affine is in RAS millimetres.

    Args:
        volume: CT and MR become int16, the others uint8.
        path: a name that ends in `.nii` or `.nii.gz`; its folder must exist.

    Raises:
        ValueError: the name ends otherwise.
    """
    path = Path(path)
    suffix = next((end for end in (".nii.gz", ".nii") if path.name.endswith(end)), None)
    if suffix is None:
        raise ValueError(f"A NIfTI name must end in .nii or .nii.gz, got {path.name!r}.")
    label_path = path.with_name(path.name[: -len(suffix)] + "_label" + suffix)
    wide = get_task(volume.task).modality in (Modality.CT, Modality.MRI)
    _save_nifti(volume.values.astype(np.int16 if wide else np.uint8), volume, path)
    _save_nifti(volume.label.astype(np.uint8), volume, label_path)
    return path, label_path


def _save_nifti(array: NDArray[Any], volume: PhantomVolume, path: Path) -> None:
    # DICOM axes (left, posterior, superior) -> RAS: the first two change sign
    rows, columns, slices = volume.spacing
    left, posterior, superior = volume.origin
    affine = np.diag([-columns, -rows, slices, 1.0])
    affine[:3, 3] = -left, -posterior, superior
    image = nibabel.Nifti1Image(np.ascontiguousarray(array.transpose(1, 0, 2)), affine)  # (H, W, D) -> (W, H, D)
    image.set_qform(affine, code=1)
    image.set_sform(affine, code=1)
    image.header.set_xyzt_units("mm")
    nibabel.save(image, path)


def phantom_seed(split: str, seed: int, number: int) -> int:
    """Return the seed of phantom `number` of a split; two splits, and two data sets, never share one.

    Args:
        split: one of `SPLITS`.
        seed: of the data set, 0 or more.
        number: 0 to 99,999.

    Raises:
        ValueError: the split is unknown or a number out of range.
    """
    if split not in SPLITS:
        raise ValueError(f"Unknown split {split!r}; {choose(split, SPLITS)}.")
    if seed < 0:
        raise ValueError(f"A data set's seed must be 0 or more, got {seed}.")
    if not 0 <= number < _SEEDS_A_SPLIT:
        raise ValueError(f"A phantom's number must be 0 to {_SEEDS_A_SPLIT - 1}, got {number}.")
    return (seed * len(SPLITS) + SPLITS.index(split)) * _SEEDS_A_SPLIT + number


def write_dataset(
    root: str | Path,
    seed: int = 0,
    train_per_task: int = 24,
    val_per_task: int = 6,
    size: int | tuple[int, int] = 96,
    both_tasks: float = 0.5,
) -> Path:
    """Write pictures of all tasks, their labels and `datalist.json`; return the path of the data list.

    Each picture holds two lesion kinds. A share of the pictures is listed twice, the second time with the other
    task and its label, so that a network has to use the task and cannot decide from the modality alone.

    Args:
        root: made if absent; the data list's paths are relative to it.
        seed: of the data set, 0 or more; other seeds give other pictures.
        train_per_task: training pictures per task.
        val_per_task: validation pictures per task.
        size: as in `make_phantom`.
        both_tasks: share of the pictures that are listed for both tasks, 0 to 1.

    Raises:
        ValueError: an argument is out of range.
    """
    if not 0 <= both_tasks <= 1:
        raise ValueError(f"both_tasks is a share from 0 to 1, got {both_tasks}.")
    if min(train_per_task, val_per_task) < 0:
        raise ValueError(f"Pictures a task must be 0 or more, got {train_per_task} and {val_per_task}.")
    root = Path(root)
    for folder in ("images", "labels"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    datalist: dict[str, list[dict[str, str]]] = {}
    for split, count, first in (("training", train_per_task, 0), ("validation", val_per_task, train_per_task)):
        datalist[split] = []
        for task in TASK_NAMES:
            for number in range(count):
                twice = int((number + 1) * both_tasks) > int(number * both_tasks)
                name = f"{task}_{first + number:04d}"
                datalist[split] += _write_picture(root, name, task, phantom_seed(split, seed, number), size, twice)
    path = root / "datalist.json"
    path.write_text(json.dumps(datalist, indent=1) + "\n", encoding="utf-8")
    return path


def _write_picture(
    root: Path, name: str, task: str, seed: int, size: int | tuple[int, int], twice: bool
) -> list[dict[str, str]]:
    """Write one picture with one or two labels; return its one or two items."""
    phantom = make_phantom(task, seed, size)
    image = f"images/{name}.png"
    write_png(phantom.image, root / image)
    labels = [(phantom.task, f"labels/{name}.png", phantom.label)]
    if twice:
        labels.append((phantom.other_task, f"labels/{name}_{phantom.other_task}.png", phantom.other_label))
    for _, label, mask in labels:
        write_png(mask, root / label)
    return [{IMAGE: image, LABEL: label, TASK: asked} for asked, label, _ in labels]


def write_demo_cases(root: str | Path, seed: int = 0) -> DemoCases:
    """Write a picture, a NIfTI volume and a CT DICOM series with their labels, unlike any of `write_dataset(seed)`.

    Args:
        root: made if absent.
        seed: 0 or more, of the data set that the network was trained on.
    """
    root = Path(root)
    root.mkdir(parents=True, exist_ok=True)
    number = phantom_seed("demo", seed, 0)
    phantom = make_phantom("skin_lesion", number, size=(96, 128))
    picture = write_png(phantom.image, root / "skin_lesion.png")
    picture_label = write_png(phantom.label, root / "skin_lesion_label.png")
    volume, volume_label = write_nifti(make_volume("brain_tumor", number), root / "brain_tumor.nii.gz")
    chest = make_volume("lung_infection", number)
    series = write_dicom_series(chest, root / "lung_infection_series", number)
    series_label = root / "lung_infection_series_label.nii.gz"
    _save_nifti(chest.label.astype(np.uint8), chest, series_label)
    return DemoCases(
        *(picture, picture_label, "skin_lesion"),
        *(volume, volume_label, "brain_tumor"),
        *(series, series_label, "lung_infection"),
    )
