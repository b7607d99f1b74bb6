"""Functions for bundle configs: trust estimates from the files fitted for the weights."""

from __future__ import annotations

from pathlib import Path

from monai_tpseg.bundle.command_line import one_line
from monai_tpseg.inferers import TaskInferer
from monai_tpseg.networks.weights_info import read_info
from monai_tpseg.segment import TrustInferer
from monai_tpseg.trust import Judge

__all__ = ["trust_digests", "trust_inferer"]


@one_line
def trust_inferer(
    inferer: TaskInferer, checkpoint: str | None, contours: bool = False, refuse: bool = False
) -> TrustInferer:
    """Return an inferer that says how far its masks can be trusted, by what lies beside the weights.

    Args:
        inferer: the inferer.
        checkpoint: the weights; where there is no such file nothing is known, and the preflight of `run` refuses.
        contours: masks get an inner and an outer contour.
        refuse: pictures that are none of the task are to be told.

    Raises:
        CheckpointError: what lies beside the weights is damaged or made for others, or what is asked for is not there.
    """
    if not checkpoint or not Path(checkpoint).is_file():
        return TrustInferer(inferer)
    judge = Judge.beside(checkpoint, read_info(checkpoint), contours)
    if refuse:
        judge.check_refuses(checkpoint)
    return TrustInferer(inferer, judge)


def trust_digests(inferer: TrustInferer) -> dict[str, str]:
    """Return the sha256 of the files that masks are judged by, by name; a record of a result holds them."""
    return inferer.judge.digests
