"""The eight lesions as shapes and tones that do not depend on the picture they are painted into.

A lesion is known by its outline, rim and texture; its mean grey value overlaps with the tissue around it. The same
code paints a lesion into its own modality and, as a distractor, into another one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from monai_tpseg.testing.phantoms.textures import Array, Grid, Mask, dots, smooth_noise, strands

__all__ = ["OUTLINES", "Outline", "Stamp", "stamp_lesion"]


@dataclass(frozen=True)
class Outline:
    """How a lesion is bounded: radius in half sides, width / height, roughness of the border and its length scale.

    `turn` is the largest rotation in radians, `flat` > 1 presses the lower half (a pocket that lies on a layer).
    """

    radius: tuple[float, float]
    aspect: tuple[float, float]
    rough: float
    scale: float
    turn: float
    flat: float = 1.0


OUTLINES: dict[str, Outline] = {
    "wet_amd": Outline((0.20, 0.30), (1.9, 2.6), 0.08, 0.30, 0.15, 1.8),
    "brain_tumor": Outline((0.24, 0.36), (0.9, 1.2), 0.12, 0.30, 3.14),
    "adenocarcinoma": Outline((0.26, 0.36), (0.9, 1.4), 0.18, 0.35, 3.14),
    "thyroid_nodule": Outline((0.24, 0.34), (1.25, 1.6), 0.03, 0.40, 0.35),
    "colon_polyp": Outline((0.26, 0.40), (0.9, 1.15), 0.04, 0.40, 3.14),
    "lung_infection": Outline((0.24, 0.34), (0.8, 1.3), 0.25, 0.30, 3.14),
    "breast_lesion": Outline((0.24, 0.34), (0.9, 1.3), 0.22, 0.12, 0.40),
    "skin_lesion": Outline((0.26, 0.40), (1.0, 1.4), 0.18, 0.30, 3.14),
}


@dataclass(frozen=True)
class Stamp:
    """One lesion, ready to be painted.

    Args:
        task: whose lesion it is.
        mask: (H, W, D) where it is.
        alpha: (H, W, D) in [0, 1], how much of the tissue it replaces.
        tone: (H, W, D), -1 darkest, 0 the level of the tissue, 1 brightest.
        shadow: (H, W, D) factor on everything, 1 outside the shadow.
    """

    task: str
    mask: Mask
    alpha: Array
    tone: Array
    shadow: Array


@dataclass(frozen=True)
class _Field:
    """The distance field of one lesion: `f` (0 centre, 1 border), `u` and `v` (x and y in radii)."""

    f: Array
    u: Array
    v: Array


def stamp_lesion(
    rng: np.random.Generator, grid: Grid, task: str, allowed: Mask, taken: Mask, enlarge: float = 1.0
) -> Stamp:
    """Return a lesion of `task` at a random place inside `allowed` and clear of `taken`.

    Args:
        rng: source of randomness.
        grid: the scene.
        task: a key of `OUTLINES`.
        allowed: (H, W, D) the organ that can hold it.
        taken: (H, W, D) pixels of another lesion.
        enlarge: factor on the radius.

    Raises:
        ValueError: the scene has no room for a lesion.
    """
    taken = ndimage.binary_dilation(taken, np.ones((3, 3, 1)), iterations=max(1, grid.side // 40)) & allowed
    free = allowed & ~taken
    places = np.argwhere(free)
    if not len(places):
        raise ValueError(f"A scene of {grid.shape[:2]} has no room for a lesion; make it larger.")
    inside = 0.85 if task == "lung_infection" else 0.97  # haze ends at the pleura, others keep their outline
    for attempt in range(160):
        field = _outline(rng, grid, OUTLINES[task], places[rng.integers(len(places))], enlarge * 0.985**attempt)
        whole = field.f < 1
        mask = _largest_part(whole & allowed)
        if mask.any() and mask.sum() >= inside * whole.sum() and not (mask & taken).any():
            return _paint(rng, grid, task, field, mask)
    raise ValueError(f"A scene of {grid.shape[:2]} has no room for a lesion; make it larger.")


def _outline(rng: np.random.Generator, grid: Grid, outline: Outline, place: Array, factor: float) -> _Field:
    radius = rng.uniform(*outline.radius) * factor
    stretch = np.sqrt(rng.uniform(*outline.aspect))
    angle = rng.uniform(-outline.turn, outline.turn)
    dy, dx = grid.y - grid.y.ravel()[place[0]], grid.x - grid.x.ravel()[place[1]]
    u = (np.cos(angle) * dx + np.sin(angle) * dy) / (radius * stretch)
    v = (np.cos(angle) * dy - np.sin(angle) * dx) / (radius / stretch)
    v = np.where(v > 0, v * outline.flat, v)
    # A lesion covers about the middle half of a volume and is gone at both ends. Its slices shrink, but each keeps a
    # rim and a core, so that it looks like a picture.
    w = (grid.z - rng.uniform(-0.2, 0.2)) / rng.uniform(0.42, 0.55) if grid.shape[2] > 1 else grid.z
    shrink = np.sqrt(np.clip(1 - w**2, 0.1, 1))
    noise = smooth_noise(rng, grid, outline.scale)
    f = np.hypot(u, v) / shrink + outline.rough * np.clip(noise, -1.5, 1.5)
    f = np.where(np.abs(w) < 1, f, 9.0)
    return _Field(np.maximum(f, 0), np.broadcast_to(u, grid.shape), np.broadcast_to(v, grid.shape))


def _largest_part(mask: Mask) -> Mask:
    parts, count = ndimage.label(mask)
    if count < 2:
        return mask
    return np.asarray(parts == 1 + np.argmax(np.bincount(parts.ravel())[1:]))


def _paint(rng: np.random.Generator, grid: Grid, task: str, field: _Field, mask: Mask) -> Stamp:
    tone = _TONES[task](rng, grid, field)
    softness = 1.2 if task == "lung_infection" else 0.6  # pixels: haze fades out, a capsule ends
    alpha = np.clip(ndimage.gaussian_filter(mask.astype(float), (softness, softness, 0)), 0, 1)
    shadow = _shadow(grid, mask) if task == "breast_lesion" else np.ones(grid.shape)
    return Stamp(task, mask, alpha, tone * rng.uniform(0.85, 1.1), shadow)


def _shadow(grid: Grid, mask: Mask) -> Array:
    """Return the acoustic shadow under `mask`, fading with depth: a factor in (0.4, 1]."""
    # (H, W, D) -> rows since the last lesion row above
    rows = np.arange(grid.shape[0])[:, None, None]
    last = np.maximum.accumulate(np.where(mask, rows, -10 * grid.shape[0]), axis=0)
    dark = 0.55 * np.exp(-(rows - last) / (0.35 * grid.side)) * (last >= 0) * ~mask
    return np.asarray(1 - ndimage.gaussian_filter(dark, (0.5, 1.2, 0)))


def _wet_amd(rng: np.random.Generator, grid: Grid, field: _Field) -> Array:
    """Clear fluid, dark and even, crossed by a few septa."""
    septa = strands(rng, grid, 0.35, 0.12) * (np.abs(field.u) < 0.8)
    return np.asarray(-0.95 + 0.75 * septa)


def _brain_tumor(rng: np.random.Generator, grid: Grid, field: _Field) -> Array:
    """A bright enhancing ring around a dark core."""
    ring = np.exp(-(((field.f - 0.8) / 0.22) ** 2))
    return np.asarray(-0.55 + 1.5 * ring + 0.12 * smooth_noise(rng, grid, 0.1))


def _adenocarcinoma(rng: np.random.Generator, grid: Grid, field: _Field) -> Array:
    """Crowded dark nuclei with a few open lumina."""
    lumina = dots(rng, grid, 0.16, 0.06)
    return np.asarray(0.1 - 0.95 * dots(rng, grid, 0.055, 0.5) * (1 - lumina) + 0.75 * lumina)


def _thyroid_nodule(rng: np.random.Generator, grid: Grid, field: _Field) -> Array:
    """Darker than the gland and even, in a bright capsule."""
    rim = np.exp(-(((field.f - 0.93) / 0.1) ** 2))
    return np.asarray(-0.58 + 1.4 * rim + 0.08 * smooth_noise(rng, grid, 0.15))


def _colon_polyp(rng: np.random.Generator, grid: Grid, field: _Field) -> Array:
    """A dome lit from the upper left, with a highlight and a dark far side."""
    r2 = field.u**2 + field.v**2
    height = np.sqrt(np.clip(1.1 - r2, 0.02, None))
    light = 0.75 * height - 0.75 * field.v / (1 + r2)
    spot = np.exp(-((field.u + 0.2) ** 2 + (field.v + 0.4) ** 2) / 0.025)
    return np.asarray(1.05 * (light - 0.5) + 1.1 * spot)


def _lung_infection(rng: np.random.Generator, grid: Grid, field: _Field) -> Array:
    """Mottled bright haze."""
    return np.asarray(0.55 + 0.22 * smooth_noise(rng, grid, 0.12) + 0.3 * strands(rng, grid, 0.12, 0.2))


def _breast_lesion(rng: np.random.Generator, grid: Grid, field: _Field) -> Array:
    """Dark and uneven, without a capsule; the border and the shadow below give it away."""
    return np.asarray(-0.7 + 0.14 * smooth_noise(rng, grid, 0.12))


def _skin_lesion(rng: np.random.Generator, grid: Grid, field: _Field) -> Array:
    """Mottled pigment, darker in clumps, paler at the border."""
    return np.asarray(-0.6 + 0.2 * smooth_noise(rng, grid, 0.2) + 0.3 * np.clip(field.f - 0.6, 0, 0.5))


_TONES: dict[str, Callable[[np.random.Generator, Grid, _Field], Array]] = {
    "wet_amd": _wet_amd,
    "brain_tumor": _brain_tumor,
    "adenocarcinoma": _adenocarcinoma,
    "thyroid_nodule": _thyroid_nodule,
    "colon_polyp": _colon_polyp,
    "lung_infection": _lung_infection,
    "breast_lesion": _breast_lesion,
    "skin_lesion": _skin_lesion,
}
