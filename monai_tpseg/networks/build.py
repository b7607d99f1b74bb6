"""One entry point for every network: TP-Seg, its ablations, its peers for comparison, and K-Prism."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import nn

from monai_tpseg.networks.decoder import PrototypeGuidedDecoder
from monai_tpseg.networks.hiera import TaskConditionedHiera
from monai_tpseg.networks.kprism.decoder import DualPromptDecoder
from monai_tpseg.networks.kprism.encoder import HieraEncoder
from monai_tpseg.networks.kprism.kprism import KPrism
from monai_tpseg.networks.kprism.variants import kprism_net
from monai_tpseg.networks.peers import PEERS, build_peer
from monai_tpseg.networks.task import TaskNetwork
from monai_tpseg.networks.tpseg import TPSeg
from monai_tpseg.networks.tpseg_hiera import tpseg_hiera
from monai_tpseg.words import choose

__all__ = ["ARCHITECTURES", "build_network", "check_options", "default_options", "hiera_of"]

ARCHITECTURES: tuple[str, ...] = ("tpseg", "kprism", *PEERS)
_BUILDERS: dict[str, tuple[Callable[..., Any], ...]] = {
    "tpseg": (tpseg_hiera, PrototypeGuidedDecoder),
    "kprism": (kprism_net, KPrism, DualPromptDecoder),
}
"""What takes the options of an architecture: its builder, then the parts that the builder hands the others to."""

_OF_ALL = frozenset({"num_tasks", "image_size", "task_names", "default_task"})
_INNER = frozenset({"num_tasks", "in_channels", "encoder", "mask_encoder", "released"})  # given by the builder
_VARYING = {
    "tpseg": frozenset({"rfb_channels", "channels", "momentum"}),
    "kprism": frozenset({"channels", "groups", "num_layers", "num_experts", "num_heads", "head_channels"}),
}
"""What depends on the backbone or the layout."""


def build_network(
    architecture: str = "tpseg",
    num_tasks: int = 8,
    image_size: int | Sequence[int] = 512,
    width: int | None = None,
    backbone: str | None = None,
    task_names: Sequence[str] | None = None,
    default_task: int | None = None,
    **options: Any,
) -> nn.Module:
    """Build a network from the description of its weights (`model.json`).

    Args:
        architecture: "tpseg", "kprism", or one of the task-agnostic `PEERS`.
        num_tasks: T.
        image_size: of the network's input in training, pixels; only "dynunet" depends on it.
        width: of a peer, see `build_peer`, or of K-Prism's stems, see `kprism_net`.
        backbone: of TP-Seg, by default "hiera_large", or of K-Prism, by default "utnet".
        task_names: names of the tasks in row order, see `TaskNetwork.task_names`; not used by a peer.
        default_task: row used by a call without a task; a bundle's `network_def` sets it for MONAI tools
            that call `net(image)`. By default such a call raises.
        **options: see `tpseg_hiera` and `kprism_net`.

    Raises:
        ValueError: an unknown architecture, or an unsupported option; see also `tpseg_hiera`,
            `kprism_net` and `build_peer`.
    """
    check_options(architecture, {"backbone": backbone, "width": width, **options})
    if architecture in PEERS:
        return build_peer(architecture, image_size, width)
    network: TaskNetwork
    if architecture == "tpseg":
        network = tpseg_hiera(backbone or "hiera_large", num_tasks, **options)
    else:
        network = kprism_net(backbone or "utnet", num_tasks, width=width, **options)
    if task_names is not None:
        network.task_names = task_names
    network.default_task = default_task
    return network


def default_options(architecture: str) -> dict[str, Any]:
    """Return the options of an architecture with their defaults, from the signatures of its builders.

    None marks a default that depends on another option, e.g. the backbone.

    >>> default_options("unet"), default_options("tpseg")["reinforcement"]
    ({'width': None}, 5.0)

    Raises:
        ValueError: an unknown architecture.
    """
    if architecture not in ARCHITECTURES:
        raise ValueError(f"Unknown architecture {architecture!r}; {choose(architecture, ARCHITECTURES)}.")
    if architecture in PEERS:
        return {"width": None}
    found: dict[str, Any] = {"backbone": "hiera_large" if architecture == "tpseg" else "utnet"}
    for builder in _BUILDERS[architecture]:
        for name, parameter in inspect.signature(builder).parameters.items():
            if parameter.kind is not inspect.Parameter.VAR_KEYWORD and name not in _INNER:
                default = None if name in _VARYING[architecture] else parameter.default
                found.setdefault(name, list(default) if isinstance(default, tuple) else default)
    return found


def check_options(architecture: str, options: Mapping[str, Any]) -> None:
    """Refuse options unsupported by an architecture; None and False are ignored.

    Raises:
        ValueError: an unknown architecture, or the first unsupported option.
    """
    known = default_options(architecture)
    for name, value in options.items():
        if name not in known.keys() | _OF_ALL and value is not None and value is not False:
            raise ValueError(
                f"{name} {value!r} is not an option of architecture '{architecture}', which has "
                f"{', '.join(sorted(known))}; leave it out."
            )


def hiera_of(network: nn.Module) -> TaskConditionedHiera | None:
    """Return the part of a network that holds SAM 2's trunk, or None."""
    if isinstance(network, TPSeg):
        return network.encoder
    if isinstance(network, KPrism) and isinstance(network.encoder, HieraEncoder):
        return network.encoder.hiera
    return None
