"""Observation of a network while it segments, for trust estimates of the mask; shared by all interfaces."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from monai.data import MetaTensor
from monai.inferers import Inferer
from torch import Tensor

from monai_tpseg.inferers import TaskInferer
from monai_tpseg.inferers.task_inferer import Network
from monai_tpseg.segment.finish import Finished
from monai_tpseg.trust import Judge, Observed, Trust

__all__ = ["TrustInferer", "plain_prob"]


class TrustInferer(Inferer):
    """Run an inferer on one case after another, and estimate how far the masks of the last one can be trusted.

    Args:
        inferer: inferer to run.
        judge: trust estimator of the weights, or None.
    """

    def __init__(self, inferer: TaskInferer, judge: Judge | None = None) -> None:
        self.inferer, self.judge = inferer, judge or Judge()
        self._seen: Observed | None = None

    def __call__(self, inputs: Tensor, network: Network, *args: Any, **options: Any) -> Tensor:
        """Return the output of the inferer; see `TaskInferer`.

        Args:
            inputs: (1, 3, H, W) or (1, 3, H, W, D), normalised; batches of several cases get no estimate.
            network: called with (image, task).
            *args: arguments of the inferer.
            **options: options of the inferer: `task`, `slice_batch`.
        """
        self._seen = None
        if not self.judge.refuses or not isinstance(network, torch.nn.Module):
            return self.inferer(inputs, network, *args, **options)
        if inputs.ndim == 5 and not options.get("slice_batch"):  # measured before the network is observed
            row = int(torch.as_tensor(options["task"]).flatten()[0])
            options["slice_batch"] = self.inferer.slices_together(network, (inputs.shape[2], inputs.shape[3]), row)
        with self.judge.watch(network) as seen:
            found = self.inferer(inputs, network, *args, **options)
        self._seen = seen if len(inputs) == 1 else None
        return found

    def trust(self, row: int, prob: Tensor, finished: Finished, threshold: float) -> Trust:
        """Return the trust estimates of a mask of the last case.

        Args:
            row: row of the task.
            prob: (1, h, w) or (1, h, w, D) probabilities of the network input.
            finished: results of the whole image.
            threshold: threshold of the mask.
        """
        trust = self.judge.judge(self._seen, row, plain_prob(prob), threshold)
        return replace(trust, contours=self.judge.contours(row, plain_prob(finished.prob), threshold))


def plain_prob(prob: Tensor) -> Tensor:
    """Return probabilities without metadata, float32, on the CPU."""
    plain = prob.as_tensor() if isinstance(prob, MetaTensor) else prob
    return plain.detach().float().cpu()
