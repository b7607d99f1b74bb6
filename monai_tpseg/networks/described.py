"""A network out of a weights file and the description beside it: the one place where the two meet."""

from __future__ import annotations

import os

from torch import nn

from monai_tpseg.networks.build import build_network
from monai_tpseg.networks.checkpoint import CheckpointError, load_weights
from monai_tpseg.networks.weights import WeightsInfo, read_info

__all__ = ["build_described", "load_described"]


def build_described(info: WeightsInfo) -> nn.Module:
    """Build the network that a description describes, with fresh parameters.

    Raises:
        CheckpointError: the description asks for what this version does not have.
    """
    try:
        return build_network(
            num_tasks=len(info.tasks), image_size=info.image_size, task_names=info.tasks, **info.network
        )
    except (TypeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise CheckpointError(
            f"The weights are of a network that this version of monai-tpseg does not build ({reason}); update it."
        ) from error


def load_described(weights: str | os.PathLike[str]) -> tuple[nn.Module, WeightsInfo]:
    """Read a weights file and its description: the digest is compared, loading is strict.

    Args:
        weights: path of the file; parameters are float32 also where the file holds half precision.

    Returns:
        the network in evaluation mode on the CPU, and the description.

    Raises:
        CheckpointError: either file is missing, damaged, altered, of another version, or they do not fit; one line.
    """
    info = read_info(weights, verify=True)
    network = build_described(info)
    load_weights(network, weights)
    return network.eval(), info
