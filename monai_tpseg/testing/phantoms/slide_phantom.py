"""Write a synthetic whole slide: a piece of tissue with a lesion on glass, as a tiled, pyramidal TIFF."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from monai.utils import optional_import
from numpy.typing import NDArray

from monai_tpseg.testing.phantoms.scene import make_phantom
from monai_tpseg.testing.phantoms.textures import Mask

__all__ = ["make_slide", "write_slide"]

tifffile, _ = optional_import("tifffile")

_GLASS = 244  # grey value of empty glass
_TILE = 256  # pixels of a side


def make_slide(seed: int, shape: tuple[int, int], tissue: int) -> tuple[NDArray[np.uint8], Mask]:
    """Return a slide (H, W, 3) and the mask (H, W) of its adenocarcinoma; equal arguments give equal slides.

    Args:
        seed: 0 or more.
        shape: (H, W), pixels.
        tissue: side of the piece of tissue, pixels; it lies off the centre, in the lower right.

    Raises:
        ValueError: the tissue does not fit on the slide; see `make_phantom`.
    """
    if tissue > min(shape):
        raise ValueError(f"A piece of {tissue} pixels does not fit on a slide of {shape[0]} x {shape[1]} pixels.")
    rng = np.random.default_rng(seed)
    image = rng.integers(_GLASS - 2, _GLASS + 3, (*shape, 1), np.uint8).repeat(3, axis=2)
    label = np.zeros(shape, bool)
    phantom = make_phantom("adenocarcinoma", seed, tissue)
    place = tuple(
        slice(first, first + tissue) for first in ((shape[0] - tissue) * 3 // 4, (shape[1] - tissue) * 2 // 3)
    )
    image[place], label[place] = phantom.image, phantom.label
    return image, label


def write_slide(image: NDArray[np.uint8], path: str | Path, mpp: float | None = 0.25, levels: int = 3) -> Path:
    """Write a slide as tiled TIFF whose levels halve, and return its path.

    Args:
        image: (H, W, 3) RGB.
        path: the file, `.tif` or `.tiff`; its folder must exist.
        mpp: micrometres per pixel of the finest level; None leaves it out.
        levels: 1 or more.
    """
    resolution = {} if mpp is None else {"resolution": (1e4 / mpp, 1e4 / mpp), "resolutionunit": "CENTIMETER"}
    tiles = {"tile": (_TILE, _TILE), "photometric": "rgb", "compression": "zlib", "metadata": None, "software": False}
    with tifffile.TiffWriter(path) as file:
        file.write(image, **tiles, **resolution)
        for _ in range(levels - 1):
            image = _halved(image)
            file.write(image, **tiles, subfiletype=1)
    return Path(path)


def _halved(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    rows, columns = image.shape[0] // 2, image.shape[1] // 2
    fours = image[: 2 * rows, : 2 * columns].reshape(rows, 2, columns, 2, 3)
    return np.asarray(fours.mean(axis=(1, 3)).round(), np.uint8)
