"""An image read in one process and used in another: what travels is plain arrays, a grey image as one channel."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import torch
from monai.data import MetaTensor
from numpy.typing import NDArray

from monai_tpseg.io.cases import CaseSource, is_screenshot
from monai_tpseg.io.dicom.object import Dataset, parsed_once
from monai_tpseg.io.display import files_of
from monai_tpseg.io.grid_meta import GridMeta
from monai_tpseg.transforms.load import LoadMedicalImage

__all__ = ["READ", "PackedImage", "ScreenshotError", "load_case", "pack", "read_packed", "unpack"]

READ = f"{__name__}:read_packed"
"""`read_packed` by name, for `monai_tpseg.subprocesses`."""


class PackedImage(NamedTuple):
    """An image on its way.

    Attributes:
        values: float32, (1, H, W[, D]) of a grey image, whose three channels are equal, else (3, H, W[, D]).
        meta: of `LoadMedicalImage`.
        headers: of the DICOM files that it was read from, without pixels: nobody needs to open them again.
    """

    values: NDArray[np.float32]
    meta: dict[str, Any]
    headers: Mapping[Path, Dataset] = MappingProxyType({})


class ScreenshotError(ValueError):
    """A case of DICOM secondary captures: pictures of a screen or of paper, which nobody has allowed."""


def load_case(source: CaseSource) -> MetaTensor:
    """Read a case for inference: slices of an irregular series as they are, instead of a refusal.

    Raises:
        ReadError: see `LoadMedicalImage`.
    """
    return LoadMedicalImage(irregular="slices")(source)


def read_packed(source: CaseSource, screenshots: bool = True) -> PackedImage:
    """Read `source` with `load_case` and pack it.

    Args:
        source: a file, a folder of DICOM slices, or the files of one stack.
        screenshots: read DICOM secondary captures too.

    Raises:
        ReadError: see `LoadMedicalImage`.
        ScreenshotError: it is one.
    """
    with parsed_once() as known:
        if not screenshots and is_screenshot(source):
            raise ScreenshotError("The case is a picture of a screen.")
        image = load_case(source)
        headers = {path: known[path].header for path in files_of(image.meta) if path in known}
    return pack(image)._replace(headers=headers)


def pack(image: MetaTensor) -> PackedImage:
    """Return `image`, (3, H, W[, D]), as plain arrays."""
    values = image.as_tensor().numpy()
    grey = all(np.array_equal(values[0], channel) for channel in values[1:])
    return PackedImage(np.ascontiguousarray(values[:1] if grey else values), dict(image.meta))


def unpack(packed: PackedImage) -> MetaTensor:
    """Return the image that was packed."""
    values = torch.from_numpy(packed.values)
    whole = values.repeat(3, *(1,) * (values.ndim - 1)) if len(values) == 1 else values
    return MetaTensor(whole, meta=GridMeta(packed.meta))
