"""AMD-SD: a B-scan and its lesions in five colours side by side in one picture, a folder per patient."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from monai_tpseg.data.layouts.base import (
    DatasetContent,
    Layout,
    LayoutError,
    Pair,
    Source,
    find_folder,
    pictures,
    write_mask,
    write_picture,
)
from monai_tpseg.io import ReadError
from monai_tpseg.transforms import LoadMedicalImage

__all__ = ["AMD_SD", "LESION_COLOURS"]

LESION_COLOURS: dict[str, tuple[int, int, int]] = {
    "disruption of the ellipsoid zone": (1, 0, 1),
    "intraretinal fluid": (0, 1, 0),
    "subretinal fluid": (1, 0, 0),
    "subretinal hyperreflective material": (1, 1, 0),
    "pigment epithelial detachment": (0, 0, 1),
}
"""Lesion -> red, green and blue of its colour, 1 for above half."""

_SECTIONS = {"training": "training.txt", "validation": "validation.txt"}


def _find(root: Path) -> DatasetContent:
    images = find_folder(root, "images")
    patients = [path for path in sorted(images.iterdir()) if path.is_dir()] if images else []
    if images is None or not patients:
        raise LayoutError(f"No images/PATIENT/*.png in '{root}'; give the unpacked AMD-SD.")
    listed = _published(images.parent)
    sources = [
        Source(f"{folder.name}/{path.stem}", partial(_halves, path, folder.name, listed.get(path.stem, "")))
        for folder in patients
        for path in pictures(folder)
    ]
    if listed:
        return DatasetContent(sources)
    return DatasetContent(
        sources, remarks=[f"No {' and '.join(_SECTIONS.values())} beside images: the split is drawn by seed."]
    )


def _published(folder: Path) -> dict[str, str]:
    """Stem of a picture -> its list, from the two text files of one path a line."""
    listed = {}
    for section, name in _SECTIONS.items():
        if not (folder / name).is_file():
            return {}
        for line in (folder / name).read_text(encoding="utf-8").splitlines():
            listed[Path(line.strip().replace("\\", "/")).stem] = section
    return listed


def _halves(path: Path, patient: str, section: str, files: Path) -> list[Pair]:
    pixels = LoadMedicalImage()(path).numpy()
    width = pixels.shape[2] // 2
    if pixels.shape[2] % 2:
        raise ReadError(
            "E_FORMAT", f"{path.name} has an odd width, so it is not a scan beside its lesions; exclude it."
        )
    name = f"{patient}/{path.stem}"
    scan = np.moveaxis(pixels[:, :, :width], 0, -1).astype(np.uint8)
    image = write_picture(scan, files / "images" / f"{name}.png")
    label = write_mask(lesion_mask(pixels[:, :, width:]), files / "labels" / f"{name}.png")
    return [Pair(name, image, label, "amd-sd", patient, section)]


def lesion_mask(colours: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Return where any of the five lesions is.

    Args:
        colours: (3, H, W), 0 to 255.
    """
    rounded = colours > 127
    found = [(rounded == np.array(code, dtype=bool)[:, None, None]).all(0) for code in LESION_COLOURS.values()]
    lesion: NDArray[np.bool_] = np.logical_or.reduce(found)
    return lesion


AMD_SD = Layout(
    "amd-sd",
    "wet_amd",
    "AMD-SD",
    _find,
    {"amd-sd": (2346, 703)},
    "official",
    with_empty=True,
    remarks=("Any of the five colours counts as lesion; the paper does not say which ones it uses.",),
)
