"""A picture for visual review: the lesion as contour and translucent fill, one tile or a montage of slices."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

from monai_tpseg.defaults import CAPTION_HEIGHT, LESION_COLOUR
from monai_tpseg.lesions import label_lesions

__all__ = ["draw_overlay", "montage_slices"]

_INNER, _OUTER = (255, 64, 255), (255, 160, 0)  # magenta and orange: contours with a promise
_FILL = 0.25  # share of the lesion colour inside
_FILLED = [int(np.float32((1 - _FILL) * n + _FILL * one).round()) for one in LESION_COLOUR for n in range(256)]
_CONTOUR = 2  # pixels
_RING = (255, 214, 0)  # yellow: around a lesion, and not to be taken for its outline
_TINY = 8  # pixels of a tile: a lesion of no more than that on both sides gets a ring
_RADIUS = 12  # of the ring, pixels
_RINGS = 50  # at most in one tile: more are noise
_COLUMNS = 4  # tiles in a row
_LETTERS = 14, 20  # pixels: on one tile; on several, which pages show smaller
_TILE = 320  # long side of a slice, pixels
_PICTURE = (320, 1024)  # bounds of the long side of a picture, pixels
_WIDTH = 320  # the least width that holds a caption, pixels


def montage_slices(mask: NDArray[Any], count: int = 12, lesions: NDArray[np.int32] | None = None) -> list[int]:
    """Return up to `count` slices through the largest connected lesion, evenly spaced if it spans more.

    Args:
        mask: (H, W, D); an empty one gives slices spread over the volume.
        count: maximum number of slices.
        lesions: of the mask, see `label_lesions`; by default numbered here if needed.
    """
    depth = mask.shape[-1]
    if depth <= count:
        return list(range(depth))
    along = np.flatnonzero(((label_lesions(mask) if lesions is None else lesions) == 1).any(axis=(0, 1)))
    if not len(along):
        return _spread(0, depth - 1, count)
    first, last = int(along[0]), int(along[-1])
    if last - first + 1 >= count:
        return _spread(first, last, count)
    start = min(max((first + last + 1 - count) // 2, 0), depth - count)
    return list(range(start, start + count))


def draw_overlay(
    image: NDArray[Any],
    mask: NDArray[Any],
    title: str,
    spacing: Sequence[float] | None = None,
    lesions: NDArray[np.int32] | None = None,
    contours: Sequence[NDArray[Any]] = (),
) -> Image.Image:
    """Draw the lesion on a picture, or on a montage of slices: outline and translucent fill.

    A lesion of a few pixels survives downscaling and is marked with a yellow ring.

    Args:
        image: (3, H, W) or (3, H, W, D) in 0..1.
        mask: (H, W) or (H, W, D) in {0, 1}.
        title: text above the picture, e.g. the name of the task.
        spacing: millimetres between rows and columns (and slices), for the aspect; None takes square pixels.
        lesions: see `montage_slices`.
        contours: the inner and the outer one, of the shape of `mask`; each gets an outline, no fill.

    Returns:
        An RGB picture.

    Raises:
        ValueError: image and mask differ in size.
    """
    if image.shape[1:] != mask.shape:
        raise ValueError(f"Image {image.shape[1:]} and mask {mask.shape} differ in size; pass them on the same grid.")
    if mask.ndim == 2:
        slices, volume, masks = [0], image[..., None], mask[..., None]
    else:
        slices, volume, masks = montage_slices(mask, lesions=lesions), image, mask
    size = _tile_size(mask.shape, spacing, mask.ndim == 3)
    around = [one if one.ndim == 3 else one[..., None] for one in contours]
    tiles = [_tile(volume[..., n], masks[..., n], size, [one[..., n] for one in around]) for n in slices]
    letters = _LETTERS[len(tiles) > 1]
    if mask.ndim == 3:
        for n, tile in zip(slices, tiles, strict=True):
            _write(tile, (4, 3), f"{n + 1} / {mask.shape[-1]}", letters)
    return _montage(tiles, title if mask.any() else f"{title}: nothing found", letters)


def _spread(first: int, last: int, count: int) -> list[int]:
    return [int(n) for n in np.linspace(first, last, count).round()]


def _tile_size(shape: Sequence[int], spacing: Sequence[float] | None, volume: bool) -> tuple[int, int]:
    """Return (width, height) in pixels with the aspect of the tissue."""
    row, column = (float(spacing[0]), float(spacing[1])) if spacing is not None else (1.0, 1.0)
    height, width = shape[0] * row, shape[1] * column
    long = max(shape[:2])
    target = _TILE if volume else min(max(long, _PICTURE[0]), _PICTURE[1])
    scale = target / max(height, width)
    return max(1, round(width * scale)), max(1, round(height * scale))


def _tile(
    image: NDArray[Any], mask: NDArray[Any], size: tuple[int, int], contours: Sequence[NDArray[Any]] = ()
) -> Image.Image:
    """(3, H, W) and (H, W) -> one RGB tile."""
    values = (np.clip(image, 0, 1) * 255).round().astype(np.uint8)
    picture = Image.fromarray(np.ascontiguousarray(values.transpose(1, 2, 0))).resize(size, Image.Resampling.BILINEAR)
    inside = _shrunk(mask > 0, size)
    tile = Image.composite(picture.point(_FILLED), picture, Image.fromarray(inside))
    outlines = [*((_shrunk(one > 0, size), shade) for one, shade in zip(contours, (_INNER, _OUTER), strict=False))]
    for region, shade in (*outlines, (inside, LESION_COLOUR)):
        tile.paste(shade, mask=Image.fromarray(_outline(region)))
    _ring(tile, inside)
    return tile


def _outline(inside: NDArray[np.bool_]) -> NDArray[np.bool_]:
    found: NDArray[np.bool_] = inside & ~ndimage.binary_erosion(inside, iterations=_CONTOUR)
    return found


def _shrunk(mask: NDArray[np.bool_], size: tuple[int, int]) -> NDArray[np.bool_]:
    """Shrink a mask to the (width, height) of its tile; a tile pixel is lesion if any covered mask pixel is."""
    flat = Image.fromarray(mask.astype(np.uint8) * 255)
    filters = [Image.Resampling.BOX if new < old else Image.Resampling.NEAREST
               for new, old in zip(size, flat.size, strict=True)]  # fmt: skip
    flat = flat.resize((size[0], flat.height), filters[0]).point(_any).resize(size, filters[1])
    return np.asarray(flat) > 0


def _any(value: int) -> int:
    return 255 if value else 0


def _ring(tile: Image.Image, inside: NDArray[np.bool_]) -> None:
    labels, _ = ndimage.label(inside, structure=np.ones((3, 3)))  # of the tile: in the order of its rows
    sides = [(rows.start, rows.stop, columns.start, columns.stop) for rows, columns in ndimage.find_objects(labels)]
    tiny = [box for box in sides if max(box[1] - box[0], box[3] - box[2]) <= _TINY]
    draw = ImageDraw.Draw(tile)
    for top, bottom, left, right in tiny[:_RINGS]:
        row, column = (top + bottom - 1) / 2, (left + right - 1) / 2
        draw.ellipse((column - _RADIUS, row - _RADIUS, column + _RADIUS, row + _RADIUS), outline=_RING, width=2)


def _montage(tiles: list[Image.Image], title: str, letters: int) -> Image.Image:
    width, height = tiles[0].size
    columns = min(_COLUMNS, len(tiles))
    rows = -(-len(tiles) // columns)
    caption = round(ImageFont.load_default(size=letters).getlength(title)) + 12
    sheet = Image.new("RGB", (max(columns * width, _WIDTH, caption), rows * height + CAPTION_HEIGHT))
    for n, tile in enumerate(tiles):
        sheet.paste(tile, (n % columns * width, n // columns * height + CAPTION_HEIGHT))
    _write(sheet, (6, (CAPTION_HEIGHT - letters) // 2 - 1), title, letters)
    return sheet


def _write(picture: Image.Image, where: tuple[int, int], text: str, letters: int) -> None:
    font = ImageFont.load_default(size=letters)
    ImageDraw.Draw(picture).text(where, text, fill="white", font=font, stroke_width=1, stroke_fill="black")
