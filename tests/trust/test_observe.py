"""What is pooled is the same in both forms of the network, alone and together, and nothing stays behind."""

from __future__ import annotations

import pytest
import torch

from monai_tpseg.networks import tpseg_hiera
from monai_tpseg.networks.build import build_network
from monai_tpseg.networks.fast.inference_form import network_for_inference
from monai_tpseg.networks.tpseg import TPSeg
from monai_tpseg.trust import observe


@pytest.fixture(scope="module")
def network() -> TPSeg:
    torch.manual_seed(0)
    network = tpseg_hiera("hiera_demo", 3, freeze_encoder=False).eval()
    for gate in (network.encoder.gate,):
        assert gate is not None
        gate.hard.fill_(True)
    return network


@torch.no_grad()
def test_pooled_features_of_both_forms(network: TPSeg) -> None:
    image = torch.randn(2, 3, 64, 64)
    fast = network_for_inference(network).network
    with observe(network) as plain:
        network(image, torch.tensor([1, 1]))
    with observe(fast) as quick:
        fast(image, 1)
    assert plain is not None
    assert quick is not None
    assert plain.of(1).shape[0] == 2
    torch.testing.assert_close(plain.of(1), quick.of(1), rtol=1e-3, atol=1e-4)


@torch.no_grad()
def test_tasks_together_are_seen_as_alone(network: TPSeg) -> None:
    image, fast = torch.randn(1, 3, 64, 64), network_for_inference(network).network
    with observe(fast) as together:
        fast.segment_tasks(image, [2, 0])
    assert together is not None
    for row in (0, 2):
        with observe(fast) as alone:
            fast(image, row)
        assert alone is not None
        torch.testing.assert_close(together.of(row), alone.of(row))
    assert not len(together.of(1))
    before = len(together.pooled)
    fast(image, 0)
    assert len(together.pooled) == before  # no hook is left


def test_pooled_values_are_means_and_deviations(network: TPSeg) -> None:
    features: list[torch.Tensor] = []
    hook = network.decoder.pgtds[0].encode.register_forward_hook(lambda _, args, out: features.append(out))
    with torch.no_grad(), observe(network) as seen:
        network(torch.randn(1, 3, 64, 64), 0)
    hook.remove()
    assert seen is not None
    last = features[0][0].flatten(1)
    torch.testing.assert_close(seen.of(0)[0, -2 * len(last) :], torch.cat([last.mean(1), last.std(1, correction=0)]))


def test_other_networks_are_not_observed() -> None:
    unet = build_network(num_tasks=2, image_size=(32, 32), architecture="tpseg", backbone="hiera_demo", decoder="unet")
    with observe(unet) as seen:
        pass
    assert seen is None
