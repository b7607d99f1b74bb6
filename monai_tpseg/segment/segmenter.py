"""Image and task in; mask, probabilities and lesions out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import torch
from monai.data import MetaTensor

from monai_tpseg.catalogue import Modality, get_task
from monai_tpseg.inferers import TaskInferer
from monai_tpseg.segment.finish import Finish
from monai_tpseg.segment.prepare_image import PrepareImage
from monai_tpseg.segment.result import Segmentation
from monai_tpseg.segment.trust_inferer import TrustInferer
from monai_tpseg.trust import Judge

__all__ = ["Segmenter"]


class Segmenter:
    """Crop, normalise, infer, paste, threshold, remove small lesions, and number the lesions.

    Callers with their own loop around the network can use the steps separately: `prepare`, the inferer
    (`trust_inferer` if masks are judged), and `finish`.

    Args:
        network: called with (image, row of the task), returns logits.
        tasks: names in the order of the network's rows.
        inferer: inferer that runs slices through the network.
        finish: threshold and smallest lesion.
        modalities: modalities of tasks outside the catalogue, by name.
        judge: trust estimator of masks, or None.
    """

    def __init__(
        self,
        network: torch.nn.Module,
        tasks: Sequence[str],
        inferer: TaskInferer,
        finish: Finish | None = None,
        modalities: Mapping[str, str] = MappingProxyType({}),
        judge: Judge | None = None,
    ) -> None:
        self.network, self.tasks = network, tuple(tasks)
        self.prepare, self.finish = PrepareImage(), finish or Finish()
        self.modalities = modalities
        self.trust_inferer = TrustInferer(inferer, judge)

    @property
    def inferer(self) -> TaskInferer:
        """The inferer that runs slices through the network."""
        return self.trust_inferer.inferer

    @torch.no_grad()
    def __call__(self, image: MetaTensor, tasks: Sequence[str], **options: Any) -> list[Segmentation]:
        """Segment one image for one or several tasks: shared computations run once, with results as for single tasks.

        Args:
            image: (3, H, W) or (3, H, W, D) from `LoadMedicalImage`.
            tasks: different names in `tasks`, of one modality.
            **options: options of the call of the inferer, e.g. `slice_batch`.

        Raises:
            ValueError: the tasks are of several modalities, whose images are prepared in different ways.
        """
        modalities = {self.modality(task) for task in tasks}
        if len(modalities) != 1:
            raise ValueError(f"Tasks that run together must be of one modality, got {', '.join(tasks)}.")
        prepared = self.prepare(image, modalities.pop())
        rows = torch.tensor([[self.tasks.index(task) for task in tasks]])
        found = self.trust_inferer(prepared[None], self.network, task=rows, **options)[0]
        parts = zip(rows[0].tolist(), torch.split(found, 1), strict=True)
        return [self._finished(row, prob, image) for row, prob in parts]

    def _finished(self, row: int, prob: torch.Tensor, image: MetaTensor) -> Segmentation:
        finished = self.finish(prob, image.meta)
        return Segmentation(image, *finished, self.trust_inferer.trust(row, prob, finished, self.finish.threshold))

    def modality(self, task: str) -> Modality:
        """Return the modality of a task of the weights."""
        return get_task(task, self.modalities).modality
