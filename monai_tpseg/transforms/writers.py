"""Masks, probabilities and overlays as files, on the grid of the source."""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any, cast

import nibabel as nib
import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform
from numpy.typing import NDArray
from PIL import Image

from monai_tpseg.files import complete
from monai_tpseg.keys import IMAGE, PRED, TASK, TASK_NAME
from monai_tpseg.tasks import get_task
from monai_tpseg.transforms import meta as m
from monai_tpseg.transforms.cases import OUTPUT_ENDINGS, READABLE_SUFFIXES, stem
from monai_tpseg.transforms.load import IntensityChoice, LoadMedicalImage, PlaneChoice
from monai_tpseg.transforms.orientation import GridError, align
from monai_tpseg.transforms.overlay import draw_overlay
from monai_tpseg.transforms.pipelines import NormalizeByModalityd

__all__ = ["MaskWriter", "SaveMaskd"]

# what places a NIfTI in space; the rest of a header (description, intent, scaling) is not the mask's
_GEOMETRY = (
    *("pixdim", "xyzt_units", "qform_code", "sform_code", "quatern_b", "quatern_c", "quatern_d"),
    *("qoffset_x", "qoffset_y", "qoffset_z", "srow_x", "srow_y", "srow_z"),
)


class MaskWriter:
    """Write what was found in one case, each file complete or not at all.

    Pictures give `<name>_<task>_mask.png`, uint8 {0, 255}, rows and columns as any viewer shows the picture (EXIF
    orientation applied, no tag). Volumes give `<name>_<task>_mask.nii.gz`, uint8 {0, 1}, the source's shape and affine.
    `<name>` is the source's name without suffix, below its folder within `data_root_dir`; sources of one name in one
    folder (`a.png`, `a.jpg`) keep their suffix (`a_png`, `a_jpg`), others that would meet get a short hash.

    Args:
        output_dir: where the files go; made when needed.
        data_root_dir: the folder whose sub-folders are repeated below `output_dir`; None puts all files into one.
        save_probabilities: also write `..._prob.png` (16 bits, 65535 is 1) or `..._prob.nii.gz` (float32).
        save_overlay: also write `..._overlay.png`, the lesion drawn on the picture or on up to 12 slices.
        directory: the pipelines that make the overlay's background, see `pipeline_path`.
    """

    def __init__(
        self,
        output_dir: str | Path,
        data_root_dir: str | Path | None = None,
        save_probabilities: bool = False,
        save_overlay: bool = True,
        directory: str | Path | None = None,
    ) -> None:
        self.output_dir = Path(output_dir)
        self.data_root_dir = None if data_root_dir is None else Path(data_root_dir).absolute()
        self.save_probabilities = save_probabilities
        self.save_overlay = save_overlay
        self._display = NormalizeByModalityd(IMAGE, TASK_NAME, directory, network=False) if save_overlay else None
        self._sources: dict[Path, Path] = {}

    def write(
        self,
        mask: torch.Tensor,
        prob: torch.Tensor | None,
        meta: Mapping[str, Any],
        task: str,
        case_name: str | None = None,
    ) -> dict[str, Path]:
        """Write one case.

        Args:
            mask: (1, H, W) or (1, H, W, D) in {0, 1}, on the grid of the loaded image or a flip of it; a MetaTensor
                brings its affine, a tensor takes that of `meta`.
            prob: probabilities in [0, 1] of the same shape, needed with `save_probabilities`.
            meta: the meta of the image from `LoadMedicalImage`.
            task: the name of the task.
            case_name: `<name>` instead of the source's; may hold sub-folders.

        Returns:
            `mask` and, where asked for, `prob` and `overlay` -> the file.

        Raises:
            ValueError: the mask is not binary or does not lie on the source grid, probabilities are missing, or a name
                leads out of `output_dir`.
        """
        if not torch.isin(mask, torch.tensor([0, 1], device=mask.device, dtype=mask.dtype)).all():
            raise ValueError(f"The mask of {_source(meta)} holds other values than 0 and 1; threshold it first.")
        if self.save_probabilities and prob is None:
            raise ValueError(f"No probabilities of {_source(meta)}; pass them or set save_probabilities=False.")
        base = self.output_dir / _joined(self._name(meta) if case_name is None else Path(case_name), task)
        picture = str(meta[m.KIND]) == "picture"
        grid = _on_source(mask, meta)
        suffix = ".png" if picture else ".nii.gz"
        written = {"mask": base.with_name(f"{base.name}_mask{suffix}")}
        _save(grid.astype(np.uint8) * (255 if picture else 1), meta, written["mask"])
        if self.save_probabilities and prob is not None:
            written["prob"] = base.with_name(f"{base.name}_prob{suffix}")
            values = _on_source(prob, meta).astype(np.float32)
            _save((values * 65535).round().astype(np.uint16) if picture else values, meta, written["prob"])
        if self.save_overlay:
            written["overlay"] = base.with_name(f"{base.name}_overlay.png")
            self._overlay(grid, meta, task, written["overlay"])
        return written

    def _name(self, meta: Mapping[str, Any]) -> Path:
        source = _source(meta).absolute()
        name = Path(source.name if source.is_dir() else _unique_stem(source))
        if (
            self.data_root_dir is not None
            and source.is_relative_to(self.data_root_dir)
            and source != self.data_root_dir
        ):
            name = source.parent.relative_to(self.data_root_dir) / name
        if self._sources.setdefault(name, source) != source:
            folder = hashlib.sha256(str(source).encode()).hexdigest()[:8]
            name = name.with_name(f"{name.name}_{folder}")
        return name

    def _overlay(self, grid: NDArray[Any], meta: Mapping[str, Any], task: str, path: Path) -> None:
        assert self._display is not None
        plane = cast(PlaneChoice, str(meta[m.PLANE]) if m.PLANE in meta else "auto")
        intensity = cast(IntensityChoice, str(meta[m.INTENSITY]))
        image = LoadMedicalImage("image", plane, intensity)(_source(meta))
        shown = self._display({IMAGE: image, TASK_NAME: task})[IMAGE]
        mask = _view(grid, _matrix(meta[m.ORIGINAL_AFFINE]), shown)
        spacing = image.meta.get(m.SPACING) if mask.ndim == 3 else None
        with complete(path) as file:
            draw_overlay(shown.numpy(), mask, get_task(task).title, spacing).save(file, format="PNG")


class SaveMaskd(MapTransform):
    """Write the mask of each case with a `MaskWriter` and pass the case on.

    Args:
        keys: keys of masks on the grid of their image.
        output_dir: see `MaskWriter`.
        data_root_dir: see `MaskWriter`.
        prob_key: key of the probabilities; given, they are written too.
        save_overlay: see `MaskWriter`.
        task_key: key of the task name; `keys.TASK_NAME` goes first.
        image_key: key of the loaded image, whose meta says where the mask belongs when it carries none itself.
        directory: see `MaskWriter`.
        allow_missing_keys: skip keys that a case does not have.

    Raises:
        ValueError: see `MaskWriter.write`; the case has no task name.
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
        """Return `data` as it came."""
        task = data.get(TASK_NAME, data.get(self.task_key))
        if not isinstance(task, str):
            raise ValueError(f"The case has no task name under {TASK_NAME!r}, got {task!r}; name its task.")
        for key in self.key_iterator(dict(data)):
            prob = None if self.prob_key is None else data[self.prob_key]
            mask, meta = data[key], getattr(data[key], "meta", {})
            if m.KIND not in meta:  # made from the network's output: it lies on the image's grid
                plain = [x.as_tensor() if isinstance(x, MetaTensor) else x for x in (mask, prob)]
                (mask, prob), meta = plain, data[self.image_key].meta
            self.writer.write(mask, prob, meta, task)
        return dict(data)


def _on_source(values: torch.Tensor, meta: Mapping[str, Any]) -> NDArray[Any]:
    """(1, H, W[, D]) -> the axes of the source array, exactly."""
    affine = values.affine if isinstance(values, MetaTensor) else meta[m.AFFINE]
    array = torch.as_tensor(values).detach().cpu().numpy()[0]
    shape = tuple(int(n) for n in np.asarray(meta[m.SOURCE_SHAPE]))
    flat = array[..., None] if array.ndim == 2 else array
    try:
        turned = align(flat, _matrix(affine), _matrix(meta[m.ORIGINAL_AFFINE]), (*shape, 1)[:3])
    except GridError as error:
        raise ValueError(
            f"The mask of {_source(meta)} is not on the source grid: {error}; invert the resizing first."
        ) from error
    return turned.reshape(shape)


def _view(grid: NDArray[Any], affine: NDArray[np.float64], image: MetaTensor) -> NDArray[Any]:
    if image.ndim == 3:
        return grid
    return align(grid.reshape((*grid.shape, 1)[:3]), affine, _matrix(image.affine), image.shape[1:])


def _save(array: NDArray[Any], meta: Mapping[str, Any], path: Path) -> None:
    with complete(path) as file:
        if array.ndim == 2 and path.suffix == ".png":
            Image.fromarray(array).save(file, format="PNG")
        else:
            nib.save(_nifti(array, meta), file)


def _nifti(array: NDArray[Any], meta: Mapping[str, Any]) -> Any:
    """A NIfTI source lends its own header's geometry, so that every reader sees the same affine; others give theirs."""
    if m.NIFTI_HEADER not in meta:
        image = nib.Nifti1Image(array, _matrix(meta[m.ORIGINAL_AFFINE]))
        image.set_qform(image.affine, code="scanner")
        image.set_sform(image.affine, code="scanner")
        image.header.set_xyzt_units("mm")
        return image
    block = np.asarray(meta[m.NIFTI_HEADER], dtype=np.uint8).tobytes()
    first = len(block) == nib.Nifti1Header.sizeof_hdr
    header_class, image_class = (nib.Nifti1Header, nib.Nifti1Image) if first else (nib.Nifti2Header, nib.Nifti2Image)
    source, header = header_class(block, endianness="<", check=False), header_class()
    for name in _GEOMETRY:
        header[name] = source[name]
    return image_class(array, None, header=header, dtype=array.dtype)


def _unique_stem(source: Path) -> str:
    """Return the stem of a file, with its suffix where another source of the same folder has that stem too."""
    own = stem(source)
    if own == source.name or not source.parent.is_dir():
        return own
    others = (path for path in source.parent.iterdir() if path.name != source.name and path.name[0] != ".")
    readable = (path for path in others if path.name.lower().endswith((*READABLE_SUFFIXES, ".dcm")))
    if any(stem(path) == own and not own.endswith(OUTPUT_ENDINGS) for path in readable):
        return own + source.name[len(own) :].lower().replace(".", "_")
    return own


def _joined(name: Path, task: str) -> Path:
    if name.is_absolute() or ".." in name.parts or not name.name or Path(task).name != task:
        raise ValueError(f"{f'{name}_{task}'!r} leads out of the output folder; use a relative name and a plain task.")
    return name.with_name(f"{name.name}_{task}")


def _source(meta: Mapping[str, Any]) -> Path:
    return Path(str(meta[m.FILENAME]))


def _matrix(affine: Any) -> NDArray[np.float64]:
    return np.asarray(affine, dtype=np.float64)
