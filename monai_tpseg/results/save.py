"""The end of a bundle's inference: the files that a study gets, in one folder."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from monai.data import MetaTensor
from monai.transforms import MapTransform

from monai_tpseg import __version__
from monai_tpseg.io import meta_keys
from monai_tpseg.io.dicom.object import Dataset, parsed_once
from monai_tpseg.io.output_names import OutputNames, base_path, source_id
from monai_tpseg.io.source_grid import on_image_grid
from monai_tpseg.keys import IMAGE, LESIONS, PRED, PROB, TASK_NAME, TRUST
from monai_tpseg.networks.weights_info import read_info
from monai_tpseg.parsing import read_json
from monai_tpseg.results.case_files import Outputs, refused, write_segmented
from monai_tpseg.results.folder import provenance, write_result
from monai_tpseg.segment import Segmentation, find_lesions
from monai_tpseg.transforms import pipelines_hash
from monai_tpseg.transforms.load import load_again
from monai_tpseg.trust import Trust

__all__ = ["SaveResultd"]

_RECORD = "_result.json"

ReadAgain = Callable[[Mapping[str, Any]], tuple[MetaTensor, Mapping[Path, Dataset]]]
"""Meta of an image -> the image as it was read, and the headers of its DICOM files where they are known."""


def _here(meta: Mapping[str, Any]) -> tuple[MetaTensor, Mapping[Path, Dataset]]:
    return load_again(meta), {}


class SaveResultd(MapTransform):
    """Write everything about a segmented case, as `tpseg run` does, and pass the case on.

    The files are `<name>_<task>_mask`, `_seg.dcm`, `_sr.dcm`, `_overlay.png`, `_lesions.csv` and `_result.json` with
    their suffixes; `docs/outputs.md` describes them. `<name>` is that of the source, see `OutputNames`; where an
    earlier run has given it to another source, it gets a short hash.

    Args:
        output_dir: where the files go; made when needed.
        data_root_dir: the folder whose sub-folders are repeated below `output_dir`; None puts all files into one.
        checkpoint: the weights, whose description goes into `_result.json`; read when the first case is written.
        settings: what else decided the results, e.g. the threshold; numbers, texts, lists of them.
        seg: also write a DICOM segmentation where the source is DICOM and a lesion was found.
        save_overlay: also draw the lesion on the picture.
        save_probabilities: also write the probabilities.
        image_key: key of the loaded image, whose meta says where the mask belongs.
        mask_key: key of masks, (1, H, W) or (1, H, W, D) in {0, 1} on the grid of their image.
        prob_key: key of the probabilities that the mask was cut from.
        lesions_key: key of the numbered lesions, as `FinishMaskd` leaves them; where a case has none they are numbered.
        sr: also write a DICOM structured report where the source is DICOM, of an empty mask too.
        read_again: gives the image as it was read, and the headers of its files; by default they are read once more,
            in this process.
        refuse: a picture that is none of the task gets a record and no mask.

    How far a mask can be trusted is taken from `keys.TRUST`, as `FinishMaskd` leaves it; without it nothing is known.

    Raises:
        ValueError: a mask is not binary or does not lie on its image; the case has no task name.
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
        """Return `data` as it came."""
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
            outcome, more = refused(trust)
        else:
            as_read, headers = self.read_again(image.meta)
            found = _found(as_read, mask, prob, data.get(self.lesions_key), trust)
            with parsed_once(headers):
                outcome, more = write_segmented(found, task, name, self.output_dir, self._made_by, self.outputs)
        base = base_path(self.output_dir, name, task)
        write_result(base.parent, name, task, outcome, key, self._made_by, f"{base.name}{_RECORD}", **more)
        return dict(data)

    def _is_anothers(self, name: Path, task: str, key: str) -> bool:
        """Say whether files of this name are there already, and not those of the same source."""
        base = base_path(self.output_dir, name, task)
        record = base.with_name(f"{base.name}{_RECORD}")
        if not record.exists():
            return False
        try:
            known = read_json(record)
        except (OSError, ValueError):  # damaged: nobody knows whose it is
            return True
        return not isinstance(known, dict) or known.get("key") != key


def _found(
    image: MetaTensor, mask: torch.Tensor, prob: torch.Tensor, lesions: torch.Tensor | None, trust: Trust
) -> Segmentation:
    """The case with its image as read: what the network saw is not what a person looks at."""
    probabilities, flat = (on_image_grid(_placed(x), image)[None].float() for x in (prob, mask))
    numbered = find_lesions(flat[0].numpy(), image.meta) if lesions is None else on_image_grid(lesions, image).numpy()
    if trust.contours is not None:
        inner, outer = (on_image_grid(x, image)[None].float() for x in (trust.contours.inner, trust.contours.outer))
        trust = replace(trust, contours=replace(trust.contours, inner=inner, outer=outer))
    return Segmentation(image, probabilities, flat, numbered, trust)


def _placed(values: torch.Tensor) -> torch.Tensor:
    """What the network made carries a meta without a place: it lies on the image's grid."""
    return values.as_tensor() if isinstance(values, MetaTensor) and meta_keys.KIND not in values.meta else values
