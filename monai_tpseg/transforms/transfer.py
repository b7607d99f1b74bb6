"""Transfer of an image between processes as plain arrays, a grey image as one channel."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from monai.data import MetaTensor
from numpy.typing import NDArray

from monai_tpseg.io.cases import CaseSource, is_screenshot
from monai_tpseg.io.dicom.object import Dataset, parsed_once
from monai_tpseg.io.display import files_of
from monai_tpseg.io.grid_meta import GridMeta
from monai_tpseg.io.meta_keys import STEM
from monai_tpseg.io.output_names import stem_of
from monai_tpseg.io.source_grid import source_path
from monai_tpseg.keys import IMAGE, LABEL
from monai_tpseg.transforms.load import LoadMedicalImage, LoadMedicalImaged

__all__ = [
    "READ",
    "READ_NAMED",
    "READ_PAIR",
    "PackedImage",
    "ScreenshotError",
    "load_case",
    "load_pair",
    "pack",
    "read_named",
    "read_packed",
    "read_pair",
    "unpack",
]

READ = f"{__name__}:read_packed"
"""`read_packed` by name, for `monai_tpseg.subprocesses`."""

READ_NAMED = f"{__name__}:read_named"
"""`read_named` by name, likewise."""

READ_PAIR = f"{__name__}:read_pair"
"""`read_pair` by name, likewise."""


class PackedImage(NamedTuple):
    """An image packed for transfer.

    Attributes:
        values: float32, (1, H, W[, D]) of a grey image (three equal channels), otherwise (3, H, W[, D]).
        meta: of `LoadMedicalImage`.
        headers: of the source DICOM files, without pixels, to avoid opening them again.
    """

    values: NDArray[np.float32]
    meta: dict[str, Any]
    headers: Mapping[Path, Dataset] = MappingProxyType({})


class ScreenshotError(ValueError):
    """A case of DICOM secondary captures, pictures of a screen or of paper, that was not allowed."""


def load_case(source: CaseSource) -> MetaTensor:
    """Read a case for inference; an irregular series is read slice by slice instead of refused.

    Raises:
        ReadError: see `LoadMedicalImage`.
    """
    return LoadMedicalImage(irregular="slices")(source)


def read_packed(source: CaseSource, screenshots: bool = True) -> PackedImage:
    """Read `source` with `load_case` and pack it.

    Args:
        source: a file, a folder of DICOM slices, or the files of one stack.
        screenshots: also read DICOM secondary captures.

    Raises:
        ReadError: see `LoadMedicalImage`.
        ScreenshotError: the source is a secondary capture, and `screenshots` is false.
    """
    with parsed_once() as known:
        if not screenshots and is_screenshot(source):
            raise ScreenshotError("The case is a picture of a screen.")
        image = load_case(source)
        headers = {path: known[path].header for path in files_of(image.meta) if path in known}
    return pack(image)._replace(headers=headers)


def read_named(source: CaseSource, screenshots: bool = True) -> PackedImage:
    """Read `source` with `read_packed` and store its result name in the metadata; its folder may later be offline."""
    packed = read_packed(source, screenshots)
    return packed._replace(meta={**packed.meta, STEM: stem_of(source_path(packed.meta).absolute())})


def load_pair(image: Path, label: Path) -> tuple[MetaTensor, MetaTensor]:
    """Read an image and its label, as training does.

    Raises:
        ReadError: see `LoadMedicalImaged`.
    """
    case = cast(dict[Any, Any], LoadMedicalImaged(IMAGE, LABEL)({IMAGE: image, LABEL: label}))
    return case[IMAGE], case[LABEL]


def read_pair(image: Path, label: Path) -> tuple[PackedImage, PackedImage]:
    """Read an image and its label with `load_pair`, and pack them; `unpack(label, channels=1)` opens the label.

    Raises:
        ReadError: see `LoadMedicalImaged`.
    """
    one, other = (pack(found)._replace(headers={}) for found in load_pair(image, label))
    return one, other


def pack(image: MetaTensor) -> PackedImage:
    """Return `image`, (3, H, W[, D]), as plain arrays."""
    values = image.as_tensor().numpy()
    grey = all(np.array_equal(values[0], channel) for channel in values[1:])
    return PackedImage(np.ascontiguousarray(values[:1] if grey else values), dict(image.meta))


def unpack(packed: PackedImage, channels: int = 3) -> MetaTensor:
    """Return the image that was packed, (channels, H, W[, D])."""
    values = torch.from_numpy(packed.values)
    whole = values.repeat(channels, *(1,) * (values.ndim - 1)) if len(values) == 1 else values
    return MetaTensor(whole, meta=GridMeta(packed.meta))
