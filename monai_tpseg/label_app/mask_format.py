"""The mask in the kind of file that a viewer asks for: OHIF reads NRRD alone."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import SimpleITK as sitk

from monai_tpseg.files import complete
from monai_tpseg.results.label_maps import check_end
from monai_tpseg.suffixes import ANSWER_SUFFIXES
from monai_tpseg.words import choose

__all__ = ["in_asked_format"]

_TYPES = {"uint8": sitk.sitkUInt8, "uint16": sitk.sitkUInt16}


def in_asked_format(mask: Path, request: Mapping[str, Any]) -> Path:
    """Return a mask as a request asks for it: voxels in the order of the source, 1 where lesion is.

    Args:
        mask: as `monai_tpseg.transforms.MaskWriter` has written it.
        request: `result_extension`: one of .nrrd, .nii.gz, .nii; by default the file stays as it is. `result_dtype`:
            uint8 (default) or uint16. `result_compress`: whether the voxels are compressed.

    Raises:
        ValueError: another format or type.
        OSError: there is no room for it.
    """
    suffix = request.get("result_extension")
    if not suffix:
        return mask
    if suffix not in ANSWER_SUFFIXES:
        raise ValueError(f"No mask is written as result_extension {suffix!r}; {choose(suffix, ANSWER_SUFFIXES)}.")
    kind = request.get("result_dtype") or "uint8"
    if kind not in _TYPES:
        raise ValueError(f"No mask is written as result_dtype {kind!r}; {choose(kind, _TYPES)}.")
    image = sitk.Cast(sitk.ReadImage(str(mask)) > 0, _TYPES[kind])
    asked = mask.with_name(f"{mask.name.split('.')[0]}_asked{suffix}")
    with complete(asked) as part:
        sitk.WriteImage(image, str(part), useCompression=bool(request.get("result_compress")))
        check_end(part, image.GetNumberOfPixels() * image.GetSizeOfPixelComponent())
    mask.unlink()
    return asked
