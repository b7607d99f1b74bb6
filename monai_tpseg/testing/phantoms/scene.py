"""Put two lesions of different tasks into one picture or volume."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from monai_tpseg.catalogue import TASK_NAMES, Modality, get_task
from monai_tpseg.testing.phantoms.backdrops import GREY, make_backdrop
from monai_tpseg.testing.phantoms.colours import COLOUR, PALETTES, Palette
from monai_tpseg.testing.phantoms.lesion_shapes import Stamp, stamp_lesion
from monai_tpseg.testing.phantoms.textures import Array, Grid, Mask, blend

__all__ = [
    "FIELD_OF_VIEW",
    "LUNG_WINDOW",
    "PARTNERS",
    "Phantom",
    "PhantomVolume",
    "display",
    "make_phantom",
    "make_volume",
]

PARTNERS: dict[str, str] = {
    "wet_amd": "brain_tumor",
    "brain_tumor": "lung_infection",
    "lung_infection": "wet_amd",
    "thyroid_nodule": "breast_lesion",
    "breast_lesion": "thyroid_nodule",
    "colon_polyp": "skin_lesion",
    "skin_lesion": "adenocarcinoma",
    "adenocarcinoma": "colon_polyp",
}
"""Whose lesion is the distractor in the pictures of a task; every task is a distractor once."""

LUNG_WINDOW = (-1350.0, 150.0)
"""HU shown as black and white in CT pictures."""

FIELD_OF_VIEW: dict[Modality, float] = {
    Modality.OCT: 6.0,
    Modality.MRI: 220.0,
    Modality.ULTRASOUND: 60.0,
    Modality.CT: 360.0,
}
"""Millimetres across the longer side of a grey picture."""

MR_WHITE = 1200.0
"""MR value of full white, in the scanner's arbitrary units, before the scanner's gain."""

_SMALLEST = 32  # pixels: below it a lesion has no texture


@dataclass(frozen=True, eq=False)
class Phantom:
    """A synthetic picture with two lesions.

    Args:
        task: name of the task whose modality the picture has.
        image: uint8, (H, W, 3) RGB for pathology, endoscopy and dermoscopy, (H, W) for the others.
        label: (H, W) bool, the lesion of `task`.
        other_task: name of the task of the distractor.
        other_label: (H, W) bool, the distractor, apart from `label`.
    """

    task: str
    image: NDArray[np.uint8]
    label: Mask
    other_task: str
    other_label: Mask


@dataclass(frozen=True, eq=False)
class PhantomVolume:
    """A synthetic volume with two lesions; rows run to posterior, columns to the patient's left, slices to superior.

    Args:
        task: name of a task of a grey modality.
        values: (H, W, D) float32, whole numbers: HU for CT, arbitrary units for MR, 0 to 255 for the others.
        label: (H, W, D) bool, the lesion of `task`, absent in the first and the last slice.
        other_task: name of the task of the distractor.
        other_label: (H, W, D) bool, the distractor, apart from `label`.
        spacing: mm between rows, columns and slices.
    """

    task: str
    values: NDArray[np.float32]
    label: Mask
    other_task: str
    other_label: Mask
    spacing: tuple[float, float, float]

    @property
    def origin(self) -> tuple[float, float, float]:
        """Centre of the first voxel in mm, DICOM axes (left, posterior, superior); the volume is centred on 0."""
        rows, columns, slices = self.values.shape
        dr, dc, ds = self.spacing
        return (-(columns - 1) / 2 * dc, -(rows - 1) / 2 * dr, -(slices - 1) / 2 * ds)


def make_phantom(task: str, seed: int, size: int | tuple[int, int] = 96) -> Phantom:
    """Return the picture of `task` with number `seed`; equal arguments give equal pictures.

    Args:
        task: a task name.
        seed: 0 or more.
        size: the side, or rows and columns, in pixels; 32 or more.

    Raises:
        ValueError: the task is unknown, the seed negative or the size too small.

    >>> make_phantom("skin_lesion", seed=1, size=(64, 80)).image.shape
    (64, 80, 3)
    """
    modality = get_task(task).modality
    if task not in PARTNERS:
        raise ValueError(f"No phantom is drawn for task {task!r}; there are those of {', '.join(PARTNERS)}.")
    rows, columns = (size, size) if isinstance(size, int) else size
    grid, rng = _checked_grid((rows, columns, 1)), _generator(task, seed, "picture")
    if modality in COLOUR:
        image, stamps = _colour_scene(rng, grid, task)
    else:
        values, stamps = _grey_scene(rng, grid, task)
        image = _to_bytes(display(_to_units(rng, values, modality), modality)[:, :, 0])
    return Phantom(task, image, stamps[0].mask[:, :, 0], stamps[1].task, stamps[1].mask[:, :, 0])


def make_volume(
    task: str,
    seed: int,
    shape: tuple[int, int, int] = (64, 64, 12),
    spacing: tuple[float, float, float] | None = None,
) -> PhantomVolume:
    """Return the volume of `task` with number `seed`; its slices look like the pictures of the task.

    Args:
        task: name of an OCT, MR, ultrasound or CT task.
        seed: 0 or more.
        shape: rows, columns (32 or more) and slices (6 or more).
        spacing: mm between rows, columns and slices, > 0; without it the modality's `FIELD_OF_VIEW` is covered.

    Raises:
        ValueError: the task is unknown or of a colour modality, the seed negative, the shape too small or the
            spacing not positive.
    """
    modality = get_task(task).modality
    if modality in COLOUR:
        names = ", ".join(name for name in TASK_NAMES if get_task(name).modality in GREY)
        raise ValueError(f"Task {task!r} has colour pictures and no volumes; choose one of {names}.")
    if shape[2] < 6:
        raise ValueError(f"A phantom volume needs at least 6 slices, got {shape[2]}.")
    if spacing is None:
        field = FIELD_OF_VIEW[modality]
        pixel = round(field / max(shape[:2]), 4)
        spacing = (pixel, pixel, round(0.3 * field / shape[2], 4))
    if min(spacing) <= 0:
        raise ValueError(f"Spacing must be positive millimetres, got {spacing}.")
    grid, rng = _checked_grid(shape), _generator(task, seed, "volume")
    values, (own, other) = _grey_scene(rng, grid, task)
    units = _to_units(rng, values, modality).astype(np.float32)
    return PhantomVolume(task, units, own.mask, other.task, other.mask, spacing)


def display(values: Array | NDArray[np.float32], modality: Modality) -> Array:
    """Return grey values as a picture shows them, in [0, 1].

    Args:
        values: any shape; HU for CT, arbitrary units for MR, 0 to 255 for OCT and ultrasound.
        modality: CT uses `LUNG_WINDOW`, MR its percentiles 0.5 and 99.5, the others their full range.
    """
    low, high = 0.0, 255.0
    if modality is Modality.CT:
        low, high = LUNG_WINDOW
    elif modality is Modality.MRI:
        low, high = (float(value) for value in np.percentile(values, (0.5, 99.5)))
    return np.asarray(np.clip((values - low) / max(high - low, 1e-9), 0, 1), dtype=np.float64)


def _checked_grid(shape: tuple[int, int, int]) -> Grid:
    if min(shape[:2]) < _SMALLEST:
        raise ValueError(f"A phantom needs at least {_SMALLEST} x {_SMALLEST} pixels, got {shape[0]} x {shape[1]}.")
    return Grid(shape)


def _generator(task: str, seed: int, kind: str) -> np.random.Generator:
    if seed < 0:
        raise ValueError(f"A phantom's seed must be 0 or more, got {seed}.")
    return np.random.default_rng([seed, TASK_NAMES.index(task), ("picture", "volume").index(kind)])


def _stamps(rng: np.random.Generator, grid: Grid, task: str, allowed: Mask) -> tuple[Stamp, Stamp]:
    """Return the lesion of `task` and its distractor, apart from each other."""
    enlarge = rng.uniform(1.8, 2.2) if task == "adenocarcinoma" else 1.0  # a tumour section fills its picture
    own = stamp_lesion(rng, grid, task, allowed, np.zeros(grid.shape, dtype=bool), enlarge)
    return own, stamp_lesion(rng, grid, PARTNERS[task], allowed, own.mask)


def _grey_scene(rng: np.random.Generator, grid: Grid, task: str) -> tuple[Array, tuple[Stamp, Stamp]]:
    """Return (H, W, D) display values, 0 black to 1 white (bone is above 1), and the two lesions."""
    backdrop = make_backdrop(rng, grid, get_task(task).modality)
    stamps = _stamps(rng, grid, task, backdrop.allowed)
    values = backdrop.values
    for stamp in stamps:
        level = backdrop.level + backdrop.gain * stamp.tone
        values = blend(values, stamp.alpha, level) * stamp.shadow
    return backdrop.finish(rng, grid, values), stamps


def _colour_scene(rng: np.random.Generator, grid: Grid, task: str) -> tuple[NDArray[np.uint8], tuple[Stamp, Stamp]]:
    """Return (H, W, 3) RGB and the two lesions."""
    modality = get_task(task).modality
    backdrop = COLOUR[modality](rng, grid)
    stamps = _stamps(rng, grid, task, backdrop.allowed)
    values = backdrop.values
    for stamp in stamps:
        colour = _tone_to_colour(stamp.tone, PALETTES[modality, stamp.task]) * rng.uniform(0.94, 1.06)
        values = blend(values, stamp.alpha, colour) * stamp.shadow
    return _to_bytes(backdrop.finish(rng, grid, values)), stamps


def _tone_to_colour(tone: Array, palette: Palette) -> Array:
    """Return (H, W, 3) for (H, W, 1) tones."""
    channels = [np.interp(tone[:, :, 0], (-1.0, 0.0, 1.0), channel) for channel in zip(*palette, strict=True)]
    return np.stack(channels, axis=-1)


def _to_units(rng: np.random.Generator, values: Array, modality: Modality) -> Array:
    """Return display values in the modality's own units, rounded as a scanner stores them."""
    if modality is Modality.CT:
        low, high = LUNG_WINDOW
        return np.asarray(np.round(np.clip(low + values * (high - low), -1024, 3071)))
    if modality is Modality.MRI:
        gain = rng.uniform(0.7, 1.4)
        return np.asarray(np.round(np.clip(values * MR_WHITE * gain, 0, 4095)))
    return np.asarray(np.round(np.clip(values, 0, 1) * 255))


def _to_bytes(values: Array) -> NDArray[np.uint8]:
    return np.round(np.clip(values, 0, 1) * 255).astype(np.uint8)
