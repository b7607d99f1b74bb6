"""Image and task in; mask, probabilities and lesions out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import torch
from monai.data import MetaTensor

from monai_tpseg.catalogue import Modality, get_task
from monai_tpseg.inferers import TaskInferer
from monai_tpseg.segment.finish import Finish
from monai_tpseg.segment.prepare import PrepareImage
from monai_tpseg.segment.result import Segmentation
from monai_tpseg.trust import Judge, Observed

__all__ = ["Segmenter"]


class Segmenter:
    """Crops, normalises, infers, pastes, thresholds, drops what is small, and numbers the lesions.

    Its steps are parts of their own, for those who have a loop of their own around the network: `prepare`, the
    inferer, `finish`.

    Args:
        network: called with (image, row of the task), returns logits.
        tasks: names in the order of the network's rows.
        inferer: how slices run through the network.
        finish: threshold and smallest lesion.
        modalities: of tasks beyond the catalogue, by name.
        judge: says how far masks can be trusted; None says nothing.
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
        self.network, self.tasks, self.inferer = network, tuple(tasks), inferer
        self.prepare, self.finish = PrepareImage(), finish or Finish()
        self.modalities, self.judge = modalities, judge

    @torch.no_grad()
    def __call__(self, image: MetaTensor, tasks: Sequence[str], **options: Any) -> list[Segmentation]:
        """Segment one image for one task or several: what they share runs once, and each result is as for it alone.

        Args:
            image: (3, H, W) or (3, H, W, D) from `LoadMedicalImage`.
            tasks: different names in `tasks`, of one modality.
            **options: of the call of the inferer, e.g. `slice_batch`.

        Raises:
            ValueError: tasks of several modalities, whose images are prepared in different ways.
        """
        modalities = {self.modality(task) for task in tasks}
        if len(modalities) != 1:
            raise ValueError(f"Tasks that run together must be of one modality, got {', '.join(tasks)}.")
        prepared = self.prepare(image, modalities.pop())
        rows = torch.tensor([[self.tasks.index(task) for task in tasks]])
        if self.judge is None:
            found = self.inferer(prepared[None], self.network, task=rows, **options)[0]
            return [Segmentation(image, *self.finish(prob, image.meta)) for prob in torch.split(found, 1)]
        if prepared.ndim == 4 and not options.get("slice_batch"):  # measured before the network is watched
            size = prepared.shape[1], prepared.shape[2]
            options["slice_batch"] = self.inferer.slices_together(self.network, size, int(rows[0, 0]))
        with self.judge.watch(self.network) as seen:
            found = self.inferer(prepared[None], self.network, task=rows, **options)[0]
        parts = zip(rows[0].tolist(), torch.split(found, 1), strict=True)
        return [self._judged(self.judge, seen, row, prob, image) for row, prob in parts]

    def _judged(
        self, judge: Judge, seen: Observed | None, row: int, prob: torch.Tensor, image: MetaTensor
    ) -> Segmentation:
        threshold = self.finish.threshold
        whole = Segmentation(image, *self.finish(prob, image.meta))
        trust = judge.judge(seen, row, prob, threshold)
        return whole._replace(trust=replace(trust, contours=judge.contours(row, whole.prob, threshold)))

    def modality(self, task: str) -> Modality:
        """Return the modality of a task that the weights know."""
        return get_task(task, self.modalities).modality
