"""Functions for bundle configs: description and network of weights, and the description of new weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from torch import nn

from monai_tpseg.catalogue import TASK_NAMES, task_names
from monai_tpseg.inferers.task_inferer import image_size_2d
from monai_tpseg.networks import build_network, describe
from monai_tpseg.networks.build import ARCHITECTURES, default_options
from monai_tpseg.networks.weights_info import WeightsInfo, read_info
from monai_tpseg.transforms import pipelines_hash

__all__ = ["described", "described_network", "described_options", "weights_info"]


def described(weights: str | None, network: Literal["tpseg", "kprism"]) -> WeightsInfo:
    """Return the description of weights, or that of the paper's network where there is no such file.

    Evaluation and inference take tasks, network and image size from the file that training wrote, so that nothing has
    to be repeated on the command line. Tools that only build the network run without weights; the preflight of `run`
    refuses to go on without.

    Args:
        weights: path of the file, or None.
        network: network of the bundle, "tpseg" or "kprism".

    Raises:
        CheckpointError: the file is there and its description is missing or damaged.
    """
    if not weights or not Path(weights).is_file():
        return WeightsInfo(TASK_NAMES, {"architecture": network, **_defaults(network)}, (512, 512))
    info = read_info(weights)
    architecture = str(info.network.get("architecture", network))
    return replace(info, network={"architecture": architecture, **_defaults(architecture), **info.network})


def described_options(described: WeightsInfo, architecture: str) -> dict[str, Any]:
    """Return the network's options that a training starts from: those described, or an architecture's own defaults.

    Args:
        described: see the function of this name.
        architecture: architecture to train; options of other ones are ignored.
    """
    if architecture == described.network["architecture"] or architecture not in ARCHITECTURES:  # which is refused later
        return dict(described.network)
    return _defaults(architecture)


def _defaults(architecture: str) -> dict[str, Any]:
    """Those of the builder; whether the trunk is frozen is a matter of the training."""
    return {key: value for key, value in default_options(architecture).items() if key != "freeze_encoder"}


def described_network(
    described: WeightsInfo,
    tasks: Sequence[str],
    image_size: int | Sequence[int],
    freeze_encoder: bool = True,
    **overrides: Any,
) -> nn.Module:
    """Build the network of a description, with fresh parameters, for the tools that load its weights themselves.

    Args:
        described: see the function of this name.
        tasks: names in row order.
        image_size: size of the network's input in pixels.
        freeze_encoder: freeze the trunk.
        **overrides: arguments of `build_network` in place of those described, e.g. of `--network_def#backbone`.
    """
    options = {**described.network, **overrides}
    if options["architecture"] in ("tpseg", "kprism"):
        options["freeze_encoder"] = freeze_encoder
    return build_network(num_tasks=len(tasks), image_size=image_size, task_names=list(tasks), default_task=0, **options)


def weights_info(
    network: nn.Module,
    tasks: Sequence[str],
    image_size: int | Sequence[int],
    window: str = "none",
    modalities: Mapping[str, str] = MappingProxyType({}),
    checkpoint: str | None = None,
    **training: Any,
) -> WeightsInfo:
    """Return the description that training writes beside its weights.

    Args:
        network: the trained network, with its description.
        tasks: names in row order.
        image_size: size of the network's input in pixels.
        window: see `WeightsInfo`.
        modalities: modalities of tasks beyond the catalogue, by name.
        checkpoint: weights that the training starts from; where they come from, and under which licence, is kept.
        **training: further entries of the description of the training.
    """
    origin, mpp = _origin(checkpoint)
    apart = ("num_tasks", "task_names", "image_size")  # the description has them by itself
    return WeightsInfo(
        tasks=task_names(tasks),
        network={key: value for key, value in describe(network).items() if key not in apart},
        image_size=image_size_2d(image_size),
        window=window,
        preprocessing=pipelines_hash(),
        training={**training, **origin},
        mpp=mpp,
        modalities={name: modalities[name] for name in tasks if name in modalities},
    )


def _origin(checkpoint: str | None) -> tuple[dict[str, Any], float | None]:
    """Origin of the initial weights of a training, and the pixel size of their pictures."""
    if not checkpoint or not Path(checkpoint).is_file():  # the preflight of `run` says so, in one line
        return {}, None
    info = read_info(checkpoint)
    made = info.training if not info.card and "derived_from" in info.training else info.derived().training
    return {str(key): made[key] for key in ("derived_from", "new_tasks") if key in made}, info.mpp
