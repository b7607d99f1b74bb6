"""Surroundings of the grey modalities: organs, layers, and things that a threshold takes for a lesion."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from monai_tpseg.catalogue import Modality
from monai_tpseg.testing.phantoms.textures import (
    Array,
    Grid,
    Mask,
    blend,
    dots,
    ellipse,
    inside_frame,
    smooth_noise,
    speckle,
    strands,
)

__all__ = ["GREY", "Backdrop", "make_backdrop"]


@dataclass(frozen=True)
class Backdrop:
    """An organ without a lesion.

    Args:
        values: (H, W, D), 0 black to 1 white on the modality's display.
        allowed: (H, W, D) where a lesion can be.
        level: display value of a lesion with tone 0.
        gain: display value per unit of tone.
        finish: adds what the scanner adds after the tissue: speckle, noise, burnt-in marks.
    """

    values: Array
    allowed: Mask
    level: float
    gain: float
    finish: Callable[[np.random.Generator, Grid, Array], Array]


def make_backdrop(rng: np.random.Generator, grid: Grid, modality: Modality) -> Backdrop:
    """Return the surroundings of one scene of a grey `modality` (a key of `GREY`)."""
    return GREY[modality](rng, grid)


def _oct(rng: np.random.Generator, grid: Grid) -> Backdrop:
    """A retina: vitreous, bright and dark layers, pigment epithelium, fading choroid, vessel shadows."""
    bend = rng.uniform(-0.2, 0.2) * grid.x**2 + rng.uniform(-0.15, 0.15) * grid.x + rng.uniform(-0.1, 0.1)
    wave = 0.04 * smooth_noise(rng, grid, 0.6)[:1]
    top, bottom = -0.52 + bend + wave, 0.5 + bend - wave
    depth = (grid.y - top) / (bottom - top)  # 0 inner limiting membrane, 1 pigment epithelium
    layers = 0.5 + 0.16 * np.sin(2 * np.pi * (2.2 * depth + rng.uniform(0, 1))) + 0.05 * smooth_noise(rng, grid, 0.2, 2)
    choroid = 0.62 * np.exp(-np.clip(depth - 1.1, 0, None) * 2.2) + 0.06 * smooth_noise(rng, grid, 0.1)
    values = np.where(depth < 0, 0.07, np.where(depth < 1, layers, choroid))
    values = blend(values, np.exp(-(((depth - 1.04) / 0.05) ** 2)), 0.97)
    values = blend(values, np.exp(-(((depth - 0.03) / 0.035) ** 2)), 0.8)
    for _ in range(rng.integers(1, 4)):  # vessel shadows
        column = rng.uniform(-0.9, 0.9) * grid.half_width
        values = values * (1 - 0.5 * np.exp(-(((grid.x - column) / 0.03) ** 2)) * (depth > 0.15))
    allowed = (depth > 0.07) & (depth < 0.96) & inside_frame(grid)
    return Backdrop(values, allowed, 0.5, rng.uniform(0.36, 0.44), _oct_finish)


def _oct_finish(rng: np.random.Generator, grid: Grid, values: Array) -> Array:
    return np.asarray(values * speckle(rng, grid, 0.28) + 0.02 * rng.standard_normal(grid.shape))


def _mri(rng: np.random.Generator, grid: Grid) -> Backdrop:
    """A head: scalp, skull, grey and white matter, ventricles, bright vessels."""
    ry, rx = rng.uniform(0.86, 0.95) * grid.half_height, rng.uniform(0.76, 0.88) * grid.half_width
    head = ellipse(grid, (rng.uniform(-0.03, 0.03), rng.uniform(-0.03, 0.03)), (ry, rx)) + 0.1 * grid.z**2
    head = head + 0.01 * smooth_noise(rng, grid, 0.4)
    matter = 0.45 + 0.07 * np.tanh(2 * smooth_noise(rng, grid, 0.22))
    matter = blend(matter, 0.6 * strands(rng, grid, 0.3, 0.08) * (head > 0.55), 0.22)  # sulci
    spread = rng.uniform(0.12, 0.18)
    for side in (-1, 1):
        ventricle = ellipse(grid, (-0.05, side * spread), (rng.uniform(0.2, 0.32), rng.uniform(0.06, 0.1)))
        matter = blend(matter, ventricle < 1, 0.14)
    matter = blend(matter, dots(rng, grid, 0.07, 0.012), 0.85)  # vessels
    values = np.where(head < 0.86, matter, np.where(head < 0.93, 0.1, np.where(head < 1, 0.85, 0.02)))
    values = values * (1 + 0.12 * grid.x * rng.uniform(-1, 1) + 0.1 * grid.y * rng.uniform(-1, 1))  # coil
    return Backdrop(values, (head < 0.83) & inside_frame(grid), 0.45, rng.uniform(0.36, 0.46), _mri_finish)


def _mri_finish(rng: np.random.Generator, grid: Grid, values: Array) -> Array:
    """Blur and Rician noise."""
    blurred = ndimage.gaussian_filter(values, (0.4, 0.4, 0))
    real, imaginary = (0.025 * rng.standard_normal(grid.shape) for _ in range(2))
    return np.asarray(np.hypot(blurred + real, imaginary))


def _ultrasound(rng: np.random.Generator, grid: Grid) -> Backdrop:
    """Tissue under a probe: skin line, fascia, a vessel, echoes that fade with depth."""
    tissue = 0.46 + 0.06 * smooth_noise(rng, grid, 0.25, 2) + 0.05 * smooth_noise(rng, grid, 0.06, 2)
    tissue = blend(tissue, 0.75 * strands(rng, grid, 0.6, 0.07, 3), 0.8)  # fascia
    vessel = ellipse(
        grid, (rng.uniform(-0.4, 0.6), rng.choice([-1, 1]) * rng.uniform(0.6, 0.8) * grid.half_width), (0.09, 0.12)
    )
    tissue = blend(tissue, vessel < 1, 0.08)
    skin = grid.y + grid.half_height - rng.uniform(0.06, 0.12) - 0.03 * np.cos(2 * grid.x)
    tissue = blend(tissue, np.exp(-((skin / 0.05) ** 2)), 0.95)
    fade = np.exp(-rng.uniform(0.05, 0.3) * np.clip(grid.y + grid.half_height - 0.4, 0, None))
    return Backdrop(
        tissue * fade, (skin > 0.12) & inside_frame(grid), 0.44, rng.uniform(0.38, 0.48), _ultrasound_finish
    )


def _ultrasound_finish(rng: np.random.Generator, grid: Grid, values: Array) -> Array:
    """Speckle, then the scanner's marks on the lower edge: bars like burnt-in text and a depth scale."""
    out = values * speckle(rng, grid, 0.42)
    step = max(1, grid.side // 48)
    row, column = grid.shape[0] - 5 * step, int(rng.integers(step, max(step + 1, grid.shape[1] // 2)))
    letters = rng.random((4, 14, 1)) < 0.55
    letters[:, 3::4] = False
    marks = np.kron(letters, np.ones((step, step, 1), dtype=bool))
    region = out[row : row + marks.shape[0], column : column + marks.shape[1]]
    region[marks[: region.shape[0], : region.shape[1], 0]] = 0.95
    out[:: max(4, grid.side // 8), -2 * step :] = 0.9
    return np.asarray(out)


def _ct(rng: np.random.Generator, grid: Grid) -> Backdrop:
    """A chest in the lung window [-1350, 150] HU: lungs with vessels, heart, fat, ribs, spine."""
    hy, hx = grid.half_height, grid.half_width
    body = ellipse(grid, (0, 0), (0.97 * hy, 0.98 * hx))
    values = np.where(body < 0.93, 0.925 + 0.01 * smooth_noise(rng, grid, 0.2), np.where(body < 1, 0.83, 0.233))
    lungs = np.zeros(grid.shape, dtype=bool)
    for side in (-1, 1):
        center = (rng.uniform(-0.06, 0.06), side * rng.uniform(0.45, 0.49) * hx)
        radii = (rng.uniform(0.68, 0.76) * hy, rng.uniform(0.37, 0.41) * hx)
        lungs |= ellipse(grid, center, radii) + 0.05 * smooth_noise(rng, grid, 0.4) + 0.06 * grid.z**2 < 1
    heart = ellipse(grid, (rng.uniform(-0.1, 0.1), rng.uniform(0.05, 0.2)), (0.38, rng.uniform(0.24, 0.32)))
    lungs &= (heart > 1) & (body < 0.9)
    lung = 0.36 + 0.015 * smooth_noise(rng, grid, 0.15)
    lung = blend(lung, dots(rng, grid, 0.045, 0.025), 0.85)  # vessels cut across
    lung = blend(lung, 0.8 * strands(rng, grid, 0.4, 0.03), 0.7)  # vessels along the plane
    values = np.where(lungs, lung, values)
    spine = ellipse(grid, (0.78 * hy, 0), (0.13, 0.16))
    values = blend(values, spine < 1, 1.25)
    around = np.arctan2(np.broadcast_to(grid.y, grid.shape), np.broadcast_to(grid.x, grid.shape))
    ribs = (np.abs(body - 0.91) < 0.025) & (np.sin(9 * around + 3 * grid.z + rng.uniform(0, 6)) > 0.3) & ~lungs
    return Backdrop(blend(values, ribs, 1.3), lungs & inside_frame(grid), 0.44, rng.uniform(0.22, 0.26), _ct_finish)


def _ct_finish(rng: np.random.Generator, grid: Grid, values: Array) -> Array:
    blurred = ndimage.gaussian_filter(values, (0.35, 0.35, 0))
    return np.asarray(blurred + 0.012 * rng.standard_normal(grid.shape))


GREY: dict[Modality, Callable[[np.random.Generator, Grid], Backdrop]] = {
    Modality.OCT: _oct,
    Modality.MRI: _mri,
    Modality.ULTRASOUND: _ultrasound,
    Modality.CT: _ct,
}
