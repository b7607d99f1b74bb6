"""Surroundings and palettes of the colour modalities: stained tissue, bowel wall, skin. All are pictures, D = 1."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

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
    strands,
)

__all__ = ["COLOUR", "PALETTES", "ColourBackdrop", "Palette"]

Palette = tuple[tuple[float, float, float], tuple[float, float, float], tuple[float, float, float]]
"""RGB in [0, 1] at tone -1, 0 and 1."""

PALETTES: dict[tuple[Modality, str], Palette] = {
    (Modality.PATHOLOGY, "adenocarcinoma"): ((0.30, 0.14, 0.46), (0.76, 0.46, 0.70), (0.97, 0.94, 0.97)),
    (Modality.PATHOLOGY, "colon_polyp"): ((0.42, 0.16, 0.40), (0.80, 0.40, 0.56), (1.00, 0.86, 0.93)),
    (Modality.ENDOSCOPY, "colon_polyp"): ((0.40, 0.10, 0.08), (0.80, 0.38, 0.30), (1.00, 0.80, 0.74)),
    (Modality.ENDOSCOPY, "skin_lesion"): ((0.26, 0.10, 0.05), (0.64, 0.34, 0.22), (0.84, 0.60, 0.48)),
    (Modality.DERMOSCOPY, "skin_lesion"): ((0.20, 0.10, 0.07), (0.70, 0.48, 0.36), (0.88, 0.70, 0.58)),
    (Modality.DERMOSCOPY, "adenocarcinoma"): ((0.34, 0.14, 0.22), (0.80, 0.56, 0.52), (0.95, 0.84, 0.80)),
}


@dataclass(frozen=True)
class ColourBackdrop:
    """Tissue without a lesion.

    Args:
        values: (H, W, 3) RGB in [0, 1].
        allowed: (H, W, 1) where a lesion can be.
        finish: paints what lies over the tissue: hairs, highlights, vignette, noise.
    """

    values: Array
    allowed: Mask
    finish: Callable[[np.random.Generator, Grid, Array], Array]


def _flat(rng: np.random.Generator, grid: Grid, colour: tuple[float, float, float], jitter: float) -> Array:
    """Return (H, W, 3) of one colour that differs a little from picture to picture."""
    tint = np.asarray(colour) * rng.uniform(1 - jitter, 1 + jitter, 3) * rng.uniform(0.94, 1.05)
    return np.ones((*grid.shape[:2], 3)) * tint


def _pathology(rng: np.random.Generator, grid: Grid) -> ColourBackdrop:
    """Pink stroma with fibres, scattered nuclei, white gaps and a crowd of lymphocytes."""
    values = _flat(rng, grid, (0.88, 0.58, 0.74), 0.05)
    values = values * (1 + 0.05 * smooth_noise(rng, grid, 0.15, 2))
    values = blend(values, 0.4 * strands(rng, grid, 0.2, 0.12), (0.72, 0.36, 0.58))
    values = blend(values, dots(rng, grid, 0.055, 0.09), (0.36, 0.18, 0.50))
    values = blend(values, np.asarray(smooth_noise(rng, grid, 0.4) > 1.7), (0.96, 0.93, 0.96))
    crowd = ellipse(grid, (rng.uniform(-0.9, 0.9), rng.choice([-0.85, 0.85])), (0.25, 0.2)) < 1
    values = blend(values, crowd * dots(rng, grid, 0.03, 0.3), (0.28, 0.16, 0.50))
    return ColourBackdrop(values, inside_frame(grid), _camera)


def _endoscopy(rng: np.random.Generator, grid: Grid) -> ColourBackdrop:
    """Bowel wall: folds, fine vessels, the dark lumen, round corners."""
    values = _flat(rng, grid, (0.78, 0.43, 0.34), 0.07)
    lumen = (rng.uniform(-0.6, 0.6) * grid.half_height, rng.choice([-1, 1]) * rng.uniform(0.6, 0.8) * grid.half_width)
    distance = ellipse(grid, lumen, (1, 1)) + 0.05 * smooth_noise(rng, grid, 0.4)
    folds = np.sin(distance * rng.uniform(9, 13) + rng.uniform(0, 6))
    values = values * (1 + 0.1 * np.clip(folds, -0.4, 1) + 0.05 * smooth_noise(rng, grid, 0.35))
    values = blend(values, 0.45 * strands(rng, grid, 0.3, 0.06), (0.55, 0.18, 0.15))
    values = values * (1 - 0.85 * np.exp(-((distance / 0.3) ** 3)))
    corner = (np.abs(grid.y) / grid.half_height) ** 6 + (np.abs(grid.x) / grid.half_width) ** 6
    values = np.where(corner < 1.25, values, 0.02)
    return ColourBackdrop(values, (corner < 1.0) & (distance > 0.34) & inside_frame(grid), _endoscope)


def _endoscope(rng: np.random.Generator, grid: Grid, values: Array) -> Array:
    """Specular highlights in small groups."""
    spots = dots(rng, grid, 0.05, 0.02) * (smooth_noise(rng, grid, 0.4) > 0)
    lit = values.mean(axis=2, keepdims=True) > 0.12
    return _camera(rng, grid, blend(values, spots * lit, (1.0, 0.98, 0.95)))


def _dermoscopy(rng: np.random.Generator, grid: Grid) -> ColourBackdrop:
    """Skin with pores and a reddish patch, dark corners of the tube."""
    values = _flat(rng, grid, (0.86, 0.66, 0.56), 0.06)
    values = values * (1 + 0.03 * smooth_noise(rng, grid, 0.08) + 0.04 * smooth_noise(rng, grid, 0.6))
    values = blend(values, 0.35 * dots(rng, grid, 0.3, 0.15), (0.76, 0.42, 0.40))
    return ColourBackdrop(values, inside_frame(grid), _dermatoscope)


def _dermatoscope(rng: np.random.Generator, grid: Grid, values: Array) -> Array:
    """Hairs, a few bubbles, a vignette."""
    for _ in range(rng.integers(3, 9)):
        angle, offset, bow = rng.uniform(0, np.pi), rng.uniform(-0.9, 0.9), rng.uniform(-0.25, 0.25)
        along = np.cos(angle) * grid.x + np.sin(angle) * grid.y
        across = np.cos(angle) * grid.y - np.sin(angle) * grid.x + bow * along**2 - offset
        length = np.abs(along - rng.uniform(-0.5, 0.5)) < rng.uniform(0.4, 0.9)
        values = blend(values, 0.85 * np.exp(-((across / 0.018) ** 2)) * length, (0.16, 0.10, 0.08))
    bubble = np.abs(ellipse(grid, (rng.uniform(-0.9, 0.9), rng.uniform(-0.9, 0.9)), (0.1, 0.1)) - 1) < 0.15
    values = blend(values, np.asarray(0.6 * bubble, dtype=np.float64), (0.98, 0.95, 0.92))
    corner = np.hypot(grid.y / grid.half_height, grid.x / grid.half_width)
    shade = rng.uniform(0.5, 0.95) * np.clip((corner - rng.uniform(0.95, 1.1)) / 0.2, 0, 1)
    return _camera(rng, grid, values * (1 - shade))


def _camera(rng: np.random.Generator, grid: Grid, values: Array) -> Array:
    return np.asarray(values + 0.015 * rng.standard_normal(values.shape))


COLOUR: dict[Modality, Callable[[np.random.Generator, Grid], ColourBackdrop]] = {
    Modality.PATHOLOGY: _pathology,
    Modality.ENDOSCOPY: _endoscopy,
    Modality.DERMOSCOPY: _dermoscopy,
}
