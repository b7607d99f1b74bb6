"""One entrance for every network: TP-Seg, its ablations, the peers it is compared with, and K-Prism."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from monai_tpseg.networks.hiera import TaskConditionedHiera
from monai_tpseg.networks.kprism.encoder import HieraEncoder
from monai_tpseg.networks.kprism.kprism import KPrism
from monai_tpseg.networks.kprism.variants import kprism_net
from monai_tpseg.networks.peers import PEERS, build_peer
from monai_tpseg.networks.task import TaskNetwork
from monai_tpseg.networks.tpseg import TPSeg, tpseg_hiera

__all__ = ["ARCHITECTURES", "build_network", "hiera_of"]

ARCHITECTURES: tuple[str, ...] = ("tpseg", "kprism", *PEERS)


def build_network(
    architecture: str = "tpseg",
    num_tasks: int = 8,
    image_size: int | Sequence[int] = 512,
    width: int | None = None,
    backbone: str = "hiera_large",
    task_names: Sequence[str] | None = None,
    default_task: int | None = None,
    **options: Any,
) -> nn.Module:
    """Build a network from what the description of its weights (`model.json`) says.

    Args:
        architecture: "tpseg", "kprism", or one of `PEERS`, which know no tasks.
        num_tasks: T.
        image_size: of the network's input in training, pixels; only "dynunet" is built by it.
        width: of a peer, see `build_peer`, or of K-Prism's stems, see `kprism_net`.
        backbone: of TP-Seg or K-Prism; not used by a peer.
        task_names: names of the tasks in row order, see `TaskNetwork.task_names`; not used by a peer.
        default_task: row that a call without a task is for; a bundle's `network_def` gives one, for the tools of MONAI
            that call `net(image)`. By default such a call raises.
        **options: see `tpseg_hiera` and `kprism_net`; not used by a peer.

    Raises:
        ValueError: an unknown architecture; see also `tpseg_hiera`, `kprism_net` and `build_peer`.
    """
    if architecture not in ARCHITECTURES:
        raise ValueError(f"Unknown architecture {architecture!r}; choose one of {', '.join(ARCHITECTURES)}.")
    if architecture in PEERS:
        return build_peer(architecture, image_size, width)
    network: TaskNetwork
    if architecture == "tpseg":
        network = tpseg_hiera(backbone, num_tasks, **options)
    else:
        network = kprism_net(backbone, num_tasks, width=width, **options)
    if task_names is not None:
        network.task_names = task_names
    network.default_task = default_task
    return network


def hiera_of(network: nn.Module) -> TaskConditionedHiera | None:
    """Return the part of a network that holds SAM 2's trunk, or None where it has none."""
    if isinstance(network, TPSeg):
        return network.encoder
    if isinstance(network, KPrism) and isinstance(network.encoder, HieraEncoder):
        return network.encoder.hiera
    return None
