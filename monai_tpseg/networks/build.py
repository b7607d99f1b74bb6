"""One entrance for every network that the bundle trains: TP-Seg, its ablations, and the peers it is compared with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from monai_tpseg.networks.peers import PEERS, build_peer
from monai_tpseg.networks.tpseg import tpseg_hiera

__all__ = ["ARCHITECTURES", "build_network"]

ARCHITECTURES: tuple[str, ...] = ("tpseg", *PEERS)


def build_network(
    architecture: str = "tpseg",
    num_tasks: int = 8,
    image_size: int | Sequence[int] = 512,
    width: int | None = None,
    backbone: str = "hiera_large",
    **options: Any,
) -> nn.Module:
    """Build a network from what the description of its weights (`model.json`) says.

    Args:
        architecture: "tpseg", or one of `PEERS`, which know no tasks.
        num_tasks: T.
        image_size: of the network's input in training, pixels; only "dynunet" is built by it.
        width: of a peer, see `build_peer`.
        backbone: of TP-Seg; not used by a peer.
        **options: of TP-Seg, see `tpseg_hiera`; not used by a peer.

    Raises:
        ValueError: an unknown architecture; see also `tpseg_hiera` and `build_peer`.
    """
    if architecture not in ARCHITECTURES:
        raise ValueError(f"Unknown architecture {architecture!r}; choose one of {', '.join(ARCHITECTURES)}.")
    if architecture == "tpseg":
        return tpseg_hiera(backbone, num_tasks, **options)
    return build_peer(architecture, image_size, width)
