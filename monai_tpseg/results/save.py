"""The last transform of a bundle's inference: the files of a study in one folder."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from monai.data import MetaTensor
from monai.transforms import MapTransform

from monai_tpseg.io import meta_keys
from monai_tpseg.io.dicom.object import Dataset, parsed_once
from monai_tpseg.io.output_names import OutputNames, base_path, source_id
from monai_tpseg.io.source_grid import on_image_grid
from monai_tpseg.keys import IMAGE, LESIONS, PRED, PROB, TASK_NAME, TRUST
from monai_tpseg.networks.weights_info import read_info
from monai_tpseg.parsing import read_json
from monai_tpseg.results.case_files import refusal_outcome, write_segmented
from monai_tpseg.results.folder import provenance, write_result
from monai_tpseg.results.outputs import Outputs
from monai_tpseg.segment import Segmentation, find_lesions
from monai_tpseg.transforms import pipelines_hash
from monai_tpseg.transforms.load import load_again
from monai_tpseg.trust import Trust
from monai_tpseg.version import __version__

__all__ = ["SaveResultd"]

_RECORD = "_result.json"

ReadAgain = Callable[[Mapping[str, Any]], tuple[MetaTensor, Mapping[Path, Dataset]]]
"""Meta of an image -> the image as it was read, and the headers of its DICOM files where they are known."""


def _here(meta: Mapping[str, Any]) -> tuple[MetaTensor, Mapping[Path, Dataset]]:
    return load_again(meta), {}


class SaveResultd(MapTransform):
    """Write all results of a segmented case, as `tpseg run` does, and return the case unchanged.

    The files are `<name>_<task>_mask`, `_seg.dcm`, `_sr.dcm`, `_overlay.png`, `_lesions.csv` and `_result.json` with
    their suffixes, see `docs/outputs.md`. `<name>` is that of the source, see `OutputNames`, with a short hash if an
    earlier run has given it to another source.

    Args:
        output_dir: output folder; created if needed.
        data_root_dir: folder whose sub-folders are reproduced below `output_dir`; None writes all files to one folder.
        checkpoint: weights, whose description is written to `_result.json`; read when the first case is written.
        settings: other settings that affect the results, e.g. the threshold; numbers, text, lists of them.
        seg: also write a DICOM segmentation if the source is DICOM and a lesion was found.
        save_overlay: also write the picture with the lesions drawn on it.
        save_probabilities: also write the probabilities.
        image_key: key of the loaded image, whose metadata define the source grid.
        mask_key: key of the mask, (1, H, W) or (1, H, W, D) in {0, 1} on the grid of its image.
        prob_key: key of the probabilities before thresholding.
        lesions_key: key of the numbered lesions from `FinishMaskd`; if absent, the lesions are numbered.
        sr: also write a DICOM structured report if the source is DICOM, even for an empty mask.
        read_again: returns the image as read and the headers of its files; by default they are read again, in this
            process.
        refuse: write a record but no mask for a picture that does not belong to the task.

    Trust estimates are taken from `keys.TRUST`, as set by `FinishMaskd`; without it they are absent.

    Raises:
        ValueError: a mask is not binary or not on the grid of its image; the case has no task name.
        CheckpointError: the weights have no description.
    """

    def __init__(
        self,
        output_dir: str | Path,
        data_root_dir: str | Path | None = None,
        checkpoint: str | Path = "",
        settings: Mapping[str, Any] | None = None,
        seg: bool = True,
        save_overlay: bool = True,
        save_probabilities: bool = False,
        image_key: str = IMAGE,
        mask_key: str = PRED,
        prob_key: str = PROB,
        lesions_key: str = LESIONS,
        sr: bool = True,
        read_again: ReadAgain = _here,
        refuse: bool = False,
    ) -> None:
        super().__init__((image_key, mask_key, prob_key))
        self.output_dir, self.lesions_key = Path(output_dir), lesions_key
        self.checkpoint, self.read_again, self.refuse = checkpoint, read_again, refuse
        self.settings = dict(settings or {})
        self.outputs = Outputs(seg, save_overlay, save_probabilities, prefix=True, sr=sr)
        self._names = OutputNames(data_root_dir)
        self._made_by: dict[str, Any] | None = None

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return `data` unchanged."""
        task = data.get(TASK_NAME)
        if not isinstance(task, str):
            raise ValueError(f"The case has no task name under {TASK_NAME!r}, got {task!r}; name its task.")
        if self._made_by is None:
            config = {"version": __version__, "preprocessing": pipelines_hash(), **self.settings}
            info = read_info(self.checkpoint)
            self._made_by = provenance(info, config)
            self.outputs = replace(self.outputs, method=info.method)
        image, mask, prob = (data[key] for key in self.keys)
        key = source_id(image.meta)
        name = self._names(image.meta, lambda name: self._is_anothers(name, task, key)).as_posix()
        trust = data.get(TRUST, Trust())
        if self.refuse and trust.refused:
            outcome, more = refusal_outcome(trust)
        else:
            as_read, headers = self.read_again(image.meta)
            found = _found(as_read, mask, prob, data.get(self.lesions_key), trust)
            with parsed_once(headers):
                outcome, more = write_segmented(found, task, name, self.output_dir, self._made_by, self.outputs)
        base = base_path(self.output_dir, name, task)
        write_result(base.parent, name, task, outcome, key, self._made_by, f"{base.name}{_RECORD}", **more)
        return dict(data)

    def _is_anothers(self, name: Path, task: str, key: str) -> bool:
        """Return whether files of this name exist for another source."""
        base = base_path(self.output_dir, name, task)
        record = base.with_name(f"{base.name}{_RECORD}")
        if not record.exists():
            return False
        try:
            known = read_json(record)
        except (OSError, ValueError):  # damaged: its source is unknown
            return True
        return not isinstance(known, dict) or known.get("key") != key


def _found(
    image: MetaTensor, mask: torch.Tensor, prob: torch.Tensor, lesions: torch.Tensor | None, trust: Trust
) -> Segmentation:
    """The case with its image as read, not as prepared for the network."""
    probabilities, flat = (on_image_grid(_placed(x), image)[None].float() for x in (prob, mask))
    numbered = find_lesions(flat[0].numpy(), image.meta) if lesions is None else on_image_grid(lesions, image).numpy()
    if trust.contours is not None:
        inner, outer = (on_image_grid(x, image)[None].float() for x in (trust.contours.inner, trust.contours.outer))
        trust = replace(trust, contours=replace(trust.contours, inner=inner, outer=outer))
    return Segmentation(image, probabilities, flat, numbered, trust)


def _placed(values: torch.Tensor) -> torch.Tensor:
    """The output of the network has no geometry: it is on the grid of the image."""
    return values.as_tensor() if isinstance(values, MetaTensor) and meta_keys.KIND not in values.meta else values
