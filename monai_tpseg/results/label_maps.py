"""Numbered lesions for annotation programs: segmentations for 3D Slicer, label maps for ITK-SNAP."""

from __future__ import annotations

import colorsys
import gzip
import re
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray

from monai_tpseg.catalogue import CATEGORY, Task
from monai_tpseg.files import complete, write_atomically
from monai_tpseg.io import meta_keys
from monai_tpseg.io.nifti_files import save_nifti
from monai_tpseg.io.orientation import LPS_TO_RAS
from monai_tpseg.io.source_grid import is_irregular, matrix, on_source_grid

__all__ = ["LABEL_MAPS", "LabelMap", "check_end", "check_label_maps", "write_label_maps"]

LabelMap = Literal["seg.nrrd", "itksnap"]
"""Forms of numbered lesions."""

LABEL_MAPS: tuple[LabelMap, ...] = get_args(LabelMap)

_NIFTI_HEADER = 352  # bytes, with those that say that no extension follows
_CYAN, _GOLDEN = 0.5, 0.618034  # hue of the first lesion, as on overlays; steps of it keep neighbours apart
_FORMAT = """\
################################################
# ITK-SnAP Label Description File
# File format:
# IDX   -R-  -G-  -B-  -A--  VIS MSH  LABEL
################################################
"""


def check_label_maps(names: Sequence[str]) -> None:
    """Reject an unknown kind of label map.

    Raises:
        ValueError: the kind is not in `LABEL_MAPS`.
    """
    for name in names:
        if name not in LABEL_MAPS:
            raise ValueError(f"Unknown label map '{name}'; choose from {', '.join(LABEL_MAPS)}.")


def write_label_maps(
    base: Path, lesions: NDArray[Any], meta: Mapping[str, Any], task: Task, wanted: Sequence[str]
) -> dict[str, Path]:
    """Write the lesions of a volume, each with its own number, on the grid of the source.

    Nothing is written for pictures, irregular series and volumes without a lesion.

    Args:
        base: path of the files up to the task name.
        lesions: (H, W) or (H, W, D) on the grid of the loaded image: 0 is background, 1, 2, ... the number of a lesion.
        meta: metadata of the image from `LoadMedicalImage`.
        task: task that determines names and codes of the lesions.
        wanted: kinds from `LABEL_MAPS`.

    Returns:
        `seg_nrrd`; `label_map` and `itksnap`: kind -> file.
    """
    if str(meta[meta_keys.KIND]) == "picture" or is_irregular(meta) or not lesions.any():
        return {}
    count = int(lesions.max())
    numbered = np.asarray(lesions).astype(np.uint8 if count < 2**8 else np.uint16)
    labels = on_source_grid(torch.from_numpy(numbered.astype(np.int32))[None], meta).astype(numbered.dtype)
    files: dict[str, Path] = {}
    if "seg.nrrd" in wanted:
        files["seg_nrrd"] = base.with_name(f"{base.name}.seg.nrrd")
        _write_seg_nrrd(files["seg_nrrd"], labels, matrix(meta[meta_keys.ORIGINAL_AFFINE]), task)
    if "itksnap" in wanted:
        files["label_map"] = base.with_name(f"{base.name}_labels.nii.gz")
        files["itksnap"] = base.with_name(f"{base.name}_labels.txt")
        save_nifti(labels, meta, files["label_map"])
        write_atomically(files["itksnap"], _itksnap(count, task).encode())
    return files


def _write_seg_nrrd(path: Path, labels: NDArray[Any], affine: NDArray[np.float64], task: Task) -> None:
    """(x, y, z) labels and their index -> RAS affine as a `.seg.nrrd` (Slicer, developer guide, Segmentations)."""
    import SimpleITK as sitk  # imported on use, for these files only

    image = sitk.GetImageFromArray(labels.transpose(2, 1, 0))
    placed = (LPS_TO_RAS @ affine)[:3]  # equal to its inverse
    spacing = np.linalg.norm(placed[:, :3], axis=0)
    image.SetSpacing(spacing.tolist())
    image.SetDirection((placed[:, :3] / spacing).ravel().tolist())
    image.SetOrigin(placed[:, 3].tolist())
    image.SetMetaData("Segmentation_SourceRepresentation", "Binary labelmap")
    image.SetMetaData("Segmentation_MasterRepresentation", "Binary labelmap")  # its name before Slicer 5.3
    image.SetMetaData("Segmentation_ContainedRepresentationNames", "Binary labelmap|")
    image.SetMetaData("Segmentation_ReferenceImageExtentOffset", "0 0 0")
    extent = " ".join(f"0 {side - 1}" for side in labels.shape)
    for number in range(1, int(labels.max()) + 1):
        for key, value in _segment(number, extent, task).items():
            image.SetMetaData(f"Segment{number - 1}_{key}", value)
    with complete(path) as part:
        sitk.WriteImage(image, str(part), useCompression=True, imageIO="NrrdImageIO")
        check_end(part, labels.nbytes)


def check_end(path: Path, size: int) -> None:
    """Check that an NRRD or NIfTI just written is whole: ITK does not notice when closing it finds no room.

    Args:
        path: the file.
        size: of its voxels in bytes.

    Raises:
        RuntimeError: they end early.
    """
    content, head = path.read_bytes(), b""
    if path.name.endswith(".nrrd"):
        head, _, content = content.partition(b"\n\n")
    else:
        size += _NIFTI_HEADER
    try:
        packed = path.name.endswith(".gz") or b"encoding: gzip" in head
        whole = len(gzip.decompress(content) if packed else content) == size
    except (EOFError, zlib.error):
        whole = False
    if not whole:
        raise RuntimeError("the file is incomplete")


def _segment(number: int, extent: str, task: Task) -> dict[str, str]:
    return {
        "ID": f"{task.name}_{number}",
        "Name": _name(number, task),
        "NameAutoGenerated": "0",
        "Color": " ".join(f"{part:.6f}" for part in _colour(number)),
        "ColorAutoGenerated": "0",
        "LabelValue": str(number),
        "Layer": "0",
        "Extent": extent,
        "Tags": f"Segmentation.Status:inprogress|TerminologyEntry:{_terminology(task)}|",
    }


def _terminology(task: Task) -> str:
    """Category, type and anatomic region of a lesion as coded terms of Slicer."""
    category, lesion = (f"SCT^{code.value}^{code.meaning}" for code in (CATEGORY, task.lesion))
    anatomy = "^^" if task.anatomy is None else f"SCT^{task.anatomy.value}^{task.anatomy.meaning}"
    return f"monai_tpseg~{category}~{lesion}~^^~Anatomic codes - DICOM master list~{anatomy}~^^"


def _itksnap(count: int, task: Task) -> str:
    lines = ['    0     0    0    0        0  0  0    "Clear Label"']
    for number in range(1, count + 1):
        red, green, blue = (round(part * 255) for part in _colour(number))
        lines.append(f'{number:5d} {red:5d} {green:4d} {blue:4d}        1  1  1    "{_name(number, task)}"')
    return _FORMAT + "".join(f"{line}\n" for line in lines)


def _name(number: int, task: Task) -> str:
    """The name of a segment as in a DICOM segmentation, without the delimiters of both file formats."""
    title = re.sub(r'["|~^]', " ", task.title)
    return f"{title} {number}"


def _colour(number: int) -> tuple[float, float, float]:
    """(red, green, blue) in [0, 1]."""
    return colorsys.hsv_to_rgb((_CYAN + _GOLDEN * (number - 1)) % 1, 1 if number % 2 else 0.6, 1)
