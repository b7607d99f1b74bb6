"""A network that tests of exports and of other runtimes share."""

from __future__ import annotations

import pytest
import torch

from monai_tpseg.networks import TPSeg, tpseg_hiera_demo


@pytest.fixture(scope="module")
def net() -> TPSeg:
    """TP-Seg for two tasks: weights away from their start, hard gates."""
    torch.manual_seed(1)
    net = tpseg_hiera_demo(num_tasks=2).eval()
    with torch.no_grad():
        for p in net.parameters():
            p.add_(0.05 * torch.randn_like(p))
    net.encoder.gate.set_hard(True)
    return net
