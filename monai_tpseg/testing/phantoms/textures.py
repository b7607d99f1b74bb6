"""Coordinates and random textures that every scene is built from; all arrays are (H, W, D), a picture has D = 1."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

__all__ = ["Array", "Grid", "Mask", "blend", "dots", "ellipse", "inside_frame", "smooth_noise", "speckle", "strands"]

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Grid:
    """Coordinates of a scene, 0 at its centre, in units of half its shorter side; `z` runs over [-1, 1].

    Args:
        shape: rows, columns, slices; one slice makes a picture.
    """

    shape: tuple[int, int, int]

    @property
    def side(self) -> int:
        """The shorter side in pixels."""
        return min(self.shape[:2])

    @property
    def y(self) -> Array:
        """(H, 1, 1) downwards."""
        rows = self.shape[0]
        return ((np.arange(rows) - (rows - 1) / 2) * 2 / self.side)[:, None, None]

    @property
    def x(self) -> Array:
        """(1, W, 1) to the right."""
        columns = self.shape[1]
        return ((np.arange(columns) - (columns - 1) / 2) * 2 / self.side)[None, :, None]

    @property
    def z(self) -> Array:
        """(1, 1, D) in [-1, 1], 0 in a picture."""
        slices = self.shape[2]
        return ((np.arange(slices) - (slices - 1) / 2) * 2 / slices)[None, None, :]

    @property
    def half_height(self) -> float:
        """`y` of the lower edge, at least 1."""
        return self.shape[0] / self.side

    @property
    def half_width(self) -> float:
        """`x` of the right edge, at least 1."""
        return self.shape[1] / self.side


def smooth_noise(rng: np.random.Generator, grid: Grid, scale: float, squash: float = 1.0) -> Array:
    """Return (H, W, D) noise with mean 0, deviation 1 and a correlation length of `scale` half sides.

    Args:
        rng: source of randomness.
        grid: the scene.
        scale: correlation length in half sides, > 0.
        squash: the height is divided by it (> 1: horizontal streaks).
    """
    pixels = max(scale * grid.side / 4, 0.45)
    depth = scale * grid.shape[2] / 2 if grid.shape[2] > 1 else 0.0
    noise = ndimage.gaussian_filter(rng.standard_normal(grid.shape), (pixels / squash, pixels, depth), mode="wrap")
    noise -= noise.mean()
    return np.asarray(noise / max(float(noise.std()), 1e-9))


def dots(rng: np.random.Generator, grid: Grid, scale: float, share: float) -> Array:
    """Return (H, W, D) in [0, 1]: soft round dots of size `scale` half sides that cover about `share` of the scene."""
    noise = smooth_noise(rng, grid, scale)
    level = np.quantile(noise, 1 - share)
    return np.asarray(np.clip(0.5 + 2.5 * (noise - level), 0, 1))


def strands(rng: np.random.Generator, grid: Grid, scale: float, width: float, squash: float = 1.0) -> Array:
    """Return (H, W, D) in [0, 1]: a net of thin bright lines (vessels, septa, fascia), `width` in deviations."""
    return np.asarray(np.exp(-((smooth_noise(rng, grid, scale, squash) / width) ** 2)))


def speckle(rng: np.random.Generator, grid: Grid, strength: float) -> Array:
    """Return an (H, W, D) factor with mean near 1: fully developed speckle, wider than tall, as a probe makes it."""
    sigma = (0.45, 0.8, 0.0)
    waves = [ndimage.gaussian_filter(rng.standard_normal(grid.shape), sigma) for _ in range(2)]
    amplitude = np.sqrt(waves[0] ** 2 + waves[1] ** 2)
    return np.asarray(1 + strength * (amplitude / max(float(amplitude.mean()), 1e-9) - 1))


def ellipse(grid: Grid, center: tuple[float, float], radii: tuple[float, float]) -> Array:
    """Return (H, W, 1): the distance to `center` (y, x) in units of `radii` (y, x); below 1 is inside."""
    return np.asarray(np.hypot((grid.y - center[0]) / radii[0], (grid.x - center[1]) / radii[1]))


def inside_frame(grid: Grid, margin: float = 0.06) -> Mask:
    """Return (H, W, D): everything but a margin in half sides."""
    inside = (np.abs(grid.y) < grid.half_height - margin) & (np.abs(grid.x) < grid.half_width - margin)
    return np.broadcast_to(inside, grid.shape)


def blend(values: Array, weight: Array | Mask, target: Array | float | tuple[float, float, float]) -> Array:
    """Return `values` moved towards `target`, a grey level or a colour, by `weight` in [0, 1]; they broadcast."""
    return np.asarray(values + weight * (np.asarray(target, dtype=np.float64) - values))
