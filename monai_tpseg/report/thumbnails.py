"""Thumbnails for a report: small enough for hundreds in one file, without legible burned-in text."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import NamedTuple

from PIL import Image, ImageChops, ImageFilter

from monai_tpseg.defaults import CAPTION_HEIGHT, LESION_COLOUR

__all__ = ["LONG_SIDE", "LONG_SIDE_OF_SLICES", "Thumbnail", "make_thumbnail"]

LONG_SIDE = 480
"""Pixels of the longer side of a picture on a card."""

LONG_SIDE_OF_SLICES = 960
"""The same of an overlay with up to 12 slices: about 240 for each, which can be read when it is enlarged."""

_QUALITY = 60  # WebP quality: about 15 kB per picture
_READABLE = 56  # longer side in pixels at which no text of a screen is legible: letters are 2 or 3 pixels high


class Thumbnail(NamedTuple):
    """A WebP picture in base64, and its size in pixels."""

    base64: str
    width: int
    height: int


def make_thumbnail(
    overlay: Path, outline: Path | None = None, blurred: bool = False, long_side: int = LONG_SIDE
) -> Thumbnail:
    """Return the thumbnail of an overlay.

    Args:
        overlay: file of the overlay.
        outline: file of a mask of the same scene, whose outline is drawn sharply on a blurred picture.
        blurred: whether to make text illegible.
        long_side: maximum longer side in pixels; smaller pictures are not enlarged.
    """
    with Image.open(overlay) as picture:
        small = picture.convert("RGB")
    if blurred:
        small = _without_text(small, outline)
    small.thumbnail((long_side, long_side))
    data = io.BytesIO()
    small.save(data, format="WEBP", quality=_QUALITY, method=4)
    return Thumbnail(base64.b64encode(data.getvalue()).decode(), small.width, small.height)


def _without_text(picture: Image.Image, outline: Path | None) -> Image.Image:
    step = max(picture.size) / _READABLE
    width, height = (max(round(side / step), 1) for side in picture.size)
    coarse = picture.resize((width, height), Image.Resampling.BOX)
    blurred = coarse.resize(picture.size, Image.Resampling.BICUBIC)
    if outline is not None:
        with Image.open(outline) as mask:
            tall = picture.height - CAPTION_HEIGHT
            wide = min(round(tall * mask.width / mask.height), picture.width)  # less where the caption is wider
            inside = mask.convert("L").resize((wide, tall), Image.Resampling.NEAREST)
        edge = ImageChops.difference(inside, inside.filter(ImageFilter.MinFilter(5)))
        blurred.paste(LESION_COLOUR, (0, CAPTION_HEIGHT), edge)
    return blurred
