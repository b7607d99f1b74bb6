"""The build arguments of a network, and a network built from a weights file and its description."""

from __future__ import annotations

import os
from typing import Any

from torch import nn

from monai_tpseg.networks.build import build_network
from monai_tpseg.networks.checkpoint import CheckpointError, load_weights
from monai_tpseg.networks.tpseg import unwrap
from monai_tpseg.networks.weights_info import WeightsInfo, read_info

__all__ = ["build_described", "describe", "new_described"]


def describe(net: nn.Module) -> dict[str, Any]:
    """Return the build arguments of a network: `build_network(**describe(net))` rebuilds it with fresh parameters.

    Freezing of the trunk belongs to the training and is not included.

    >>> from monai_tpseg.networks import tpseg_hiera_demo
    >>> told = describe(tpseg_hiera_demo(num_tasks=2))
    >>> told["architecture"], told["backbone"], told["num_tasks"], told["layout"]
    ('tpseg', 'hiera_demo', 2, 'paper')

    Args:
        net: from `build_network` or another builder of this package, bare or wrapped for parallel training.

    Returns:
        arguments of `build_network`, as JSON types.

    Raises:
        ValueError: a manually assembled network.
    """
    inner: Any = unwrap(net)
    if not getattr(inner, "built_with", None):
        raise ValueError(f"This {type(inner).__name__} has no description; build it with build_network.")
    names = {"task_names": list(inner.task_names)} if getattr(inner, "task_names", ()) else {}
    return {key: list(v) if isinstance(v, tuple) else v for key, v in inner.built_with.items()} | names


def new_described(info: WeightsInfo) -> nn.Module:
    """Build the described network with fresh parameters.

    Raises:
        CheckpointError: this version does not support the description.
    """
    try:
        return build_network(
            num_tasks=len(info.tasks), image_size=info.image_size, task_names=info.tasks, **info.network
        )
    except (TypeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise CheckpointError(
            f"The weights belong to a network that this version of monai-tpseg cannot build ({reason}); update it."
        ) from error


def build_described(weights: str | os.PathLike[str]) -> nn.Module:
    """Build the network of a weights file from its description, and load the weights.

    The digest is verified and loading is strict. `read_info` returns the description.

    Args:
        weights: path of the file; parameters are float32 even if the file holds half precision.

    Returns:
        the network in evaluation mode on the CPU.

    Raises:
        CheckpointError: a file is missing, damaged, altered or of another version, or the two do not match; one line.
    """
    network = new_described(read_info(weights, verify=True))
    load_weights(network, weights)
    return network.eval()
