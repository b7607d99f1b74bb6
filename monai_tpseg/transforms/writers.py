"""Writing of masks, probabilities and overlays on the grid of the source."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform
from numpy.typing import NDArray
from PIL import Image

from monai_tpseg.files import complete
from monai_tpseg.io import meta_keys
from monai_tpseg.io.nifti_files import save_nifti, save_slices
from monai_tpseg.io.output_names import OutputNames, base_path
from monai_tpseg.io.source_grid import is_irregular, on_image_grid, on_source_grid, source_path
from monai_tpseg.keys import IMAGE, PRED, TASK, TASK_NAME
from monai_tpseg.transforms.figure import draw_case
from monai_tpseg.transforms.load import load_again
from monai_tpseg.transforms.pipelines import NormalizeByModalityd

__all__ = ["MaskWriter", "SaveMaskd"]


class MaskWriter:
    """Write mask, probabilities and overlay of a case, each file atomically.

    The mask of a picture is `<name>_<task>_mask.png`, uint8 {0, 255}, in the displayed orientation (EXIF orientation
    applied, no tag). The mask of a volume is `<name>_<task>_mask.nii.gz`, uint8 {0, 1}, with shape and affine of the
    source. The mask of an irregular series is a folder `<name>_<task>_mask` with `slice_0001.nii.gz` and so on, each
    with its own affine. `<name>` is derived from the source by `OutputNames`.

    Args:
        output_dir: folder of the files, created if necessary.
        data_root_dir: folder whose subfolder structure is reproduced in `output_dir`; None writes all files into one
            folder.
        save_probabilities: also write `..._prob.png` (16 bits, 65535 is 1) or `..._prob.nii.gz` (float32).
        save_overlay: also write `..._overlay.png`, the lesion drawn on the picture or on up to 12 slices.
        directory: folder of the pipelines for the background of the overlay, see `pipeline_path`.
        kind: suffix of the mask file instead of `mask`.
    """

    def __init__(
        self,
        output_dir: str | Path,
        data_root_dir: str | Path | None = None,
        save_probabilities: bool = False,
        save_overlay: bool = True,
        directory: str | Path | None = None,
        kind: str = "mask",
    ) -> None:
        self.output_dir = Path(output_dir)
        self.names = OutputNames(data_root_dir)
        self.save_probabilities = save_probabilities
        self.save_overlay = save_overlay
        self.kind = kind
        self._display = NormalizeByModalityd(IMAGE, TASK_NAME, directory, network=False) if save_overlay else None

    def write(
        self,
        mask: torch.Tensor,
        prob: torch.Tensor | None,
        meta: Mapping[str, Any],
        task: str,
        case_name: str | None = None,
    ) -> dict[str, Path]:
        """Write the files of one case.

        Args:
            mask: (1, H, W) or (1, H, W, D) in {0, 1}, on the grid of the loaded image or a flip of it; a MetaTensor
                has its own affine, a plain tensor uses that of `meta`.
            prob: probabilities in [0, 1], same shape, required with `save_probabilities`.
            meta: metadata of the image from `LoadMedicalImage`.
            task: name of the task.
            case_name: replaces `<name>`; may contain subfolders.

        Returns:
            `mask` and, if requested, `prob` and `overlay` -> path.

        Raises:
            ValueError: the mask is not binary or not on the grid of the source, probabilities are missing, or a name
                points outside `output_dir`.
        """
        if not torch.isin(mask, torch.tensor([0, 1], device=mask.device, dtype=mask.dtype)).all():
            raise ValueError(f"The mask of {source_path(meta)} contains values other than 0 and 1; threshold it first.")
        if self.save_probabilities and prob is None:
            raise ValueError(f"No probabilities of {source_path(meta)}; pass them or set save_probabilities=False.")
        base = base_path(self.output_dir, self.names(meta) if case_name is None else case_name, task)
        picture, suffix = str(meta[meta_keys.KIND]) == "picture", _suffix(meta)
        written = {"mask": base.with_name(f"{base.name}_{self.kind}{suffix}")}
        _save(on_source_grid(mask, meta).astype(np.uint8) * (255 if picture else 1), meta, written["mask"])
        if self.save_probabilities and prob is not None:
            written["prob"] = base.with_name(f"{base.name}_prob{suffix}")
            values = on_source_grid(prob, meta).astype(np.float32)
            _save((values * 65535).round().astype(np.uint16) if picture else values, meta, written["prob"])
        if self.save_overlay:
            written["overlay"] = base.with_name(f"{base.name}_overlay.png")
            self._overlay(mask, meta, task, written["overlay"])
        return written

    def _overlay(self, mask: torch.Tensor, meta: Mapping[str, Any], task: str, path: Path) -> None:
        assert self._display is not None
        image = load_again(meta)
        with complete(path) as file:
            draw_case(image, on_image_grid(mask, image), task, self._display).save(file, format="PNG")


class SaveMaskd(MapTransform):
    """Write the mask of each case with a `MaskWriter`, and return the case unchanged.

    Args:
        keys: keys of masks on the grid of their image.
        output_dir: see `MaskWriter`.
        data_root_dir: see `MaskWriter`.
        prob_key: key of the probabilities to write, or None.
        save_overlay: see `MaskWriter`.
        task_key: key of the task name; `keys.TASK_NAME` takes precedence.
        image_key: key of the loaded image, whose geometry applies to a mask without its own.
        directory: see `MaskWriter`.
        allow_missing_keys: skip keys missing from a case.

    Raises:
        ValueError: see `MaskWriter.write`; or the case has no task name.
    """

    def __init__(
        self,
        keys: KeysCollection = PRED,
        output_dir: str | Path = "./predictions",
        data_root_dir: str | Path | None = None,
        prob_key: str | None = None,
        save_overlay: bool = True,
        task_key: str = TASK,
        image_key: str = IMAGE,
        directory: str | Path | None = None,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.image_key = image_key
        self.prob_key = prob_key
        self.task_key = task_key
        self.writer = MaskWriter(output_dir, data_root_dir, prob_key is not None, save_overlay, directory)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return `data` unchanged."""
        task = data.get(TASK_NAME, data.get(self.task_key))
        if not isinstance(task, str):
            raise ValueError(f"The case has no task name under {TASK_NAME!r}, got {task!r}; name its task.")
        for key in self.key_iterator(dict(data)):
            prob = None if self.prob_key is None else data[self.prob_key]
            mask, meta = data[key], getattr(data[key], "meta", {})
            if meta_keys.KIND not in meta:  # network output, on the grid of the image
                plain = [x.as_tensor() if isinstance(x, MetaTensor) else x for x in (mask, prob)]
                (mask, prob), meta = plain, data[self.image_key].meta
            self.writer.write(mask, prob, meta, task)
        return dict(data)


def _save(array: NDArray[Any], meta: Mapping[str, Any], path: Path) -> None:
    if str(meta[meta_keys.KIND]) == "picture":
        with complete(path) as file:
            Image.fromarray(array).save(file, format="PNG")
    elif is_irregular(meta):
        save_slices(array, meta, path)
    else:
        save_nifti(array, meta, path)


def _suffix(meta: Mapping[str, Any]) -> str:
    if str(meta[meta_keys.KIND]) == "picture":
        return ".png"
    return "" if is_irregular(meta) else ".nii.gz"
