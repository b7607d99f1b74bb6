"""The options of a trunk that is trained from scratch: a convolutional stem, a skip at stride 2, for both networks."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from monai_tpseg.losses import DeepSupervisionLoss, TPSegLoss
from monai_tpseg.networks import KPrism, Prompt, TPSeg, build_network, tpseg_hiera
from monai_tpseg.networks.checkpoint import load_strictly
from monai_tpseg.networks.stem import ConvStem

PUBLISHED = ("hiera_tiny", "hiera_small", "hiera_base_plus", "hiera_large")


def network(**options: Any) -> TPSeg:
    """A small network with a stem and a skip, its parameters away from their start and its gates hard."""
    torch.manual_seed(1)
    given = {"stem": "conv", "detail": 8, **options}
    net = tpseg_hiera("hiera_demo", 3, freeze_encoder=False, **given)
    with torch.no_grad():
        for p in net.parameters():
            p.add_(0.05 * torch.randn_like(p))
        assert net.encoder.gate is not None
        for row, shared in enumerate((1, 3, 4)):
            net.encoder.gate.task_split[row] = -20.0
            net.encoder.gate.task_split[row, shared] = 5.0
        net.encoder.gate.set_hard(True)
    return net.eval()


def test_stem_has_stride_four_and_a_view_of_eleven_pixels() -> None:
    stem = ConvStem(16)
    image = torch.randn(1, 3, 64, 96, requires_grad=True)
    out = stem(image)
    assert out.shape == (1, 16, 24, 16)  # (B, h, w, C)
    for module in stem:
        if isinstance(module, nn.GroupNorm):  # its statistics span the picture: leave them out of the view
            module.forward = lambda x: x  # type: ignore[method-assign]
    (gradient,) = torch.autograd.grad(stem(image)[0, 8, 12].sum(), image)
    rows = gradient[0].abs().sum((0, 2)).nonzero().flatten()
    # 3 + 2 * (2 + 2): by hand, three 3x3 convolutions with strides 2, 1, 2
    assert int(rows.max() - rows.min()) + 1 == 11


@torch.no_grad()
def test_the_skip_is_as_fine_as_two_pixels_and_comes_first() -> None:
    net, image = network(), torch.randn(2, 3, 64, 96)
    logits, encoded = net.decoder(net.encoder(image, torch.tensor([0, 1])), torch.tensor([0, 1]), image)
    assert [tuple(x.shape[-2:]) for x in logits] == [(32, 48), (16, 24), (8, 12), (4, 6), (2, 3)]
    assert len(encoded) == 3
    out = net(image, torch.tensor([0, 1]), deep_supervision=True)
    assert len(out.side_logits) == 5
    weights = net.fusion.task_weight[torch.tensor([0, 1])].softmax(-1)
    fused = sum(w.view(-1, 1, 1, 1) * x for w, x in zip(weights.unbind(1), out.side_logits, strict=True))
    torch.testing.assert_close(out.logits, fused)


@torch.no_grad()
@pytest.mark.parametrize("options", [{}, {"stem": "patch"}, {"detail": 0}])
def test_fast_form_and_several_tasks_agree_with_the_plain_network(options: dict[str, Any]) -> None:
    net, image = network(**options), torch.randn(2, 3, 64, 96)
    expected = torch.cat([net(image, task) for task in range(3)], dim=1)
    scale = float(expected.abs().max())
    fast = net.optimize_for_inference()
    for given in (net.segment_tasks(image, range(3)), fast.segment_tasks(image, range(3))):
        assert float((given - expected).abs().max()) < 1e-4 * scale
    single = torch.cat([fast(image, task) for task in range(3)], dim=1)
    assert float((single - expected).abs().max()) < 1e-4 * scale


def test_gradients_reach_the_stem_and_the_skip() -> None:
    net = network().train()
    label = torch.zeros(2, 1, 64, 64)
    label[:, :, 16:40, 20:50] = 1
    out = net(torch.randn(2, 3, 64, 64), torch.tensor([0, 2]), deep_supervision=True)
    TPSegLoss(DeepSupervisionLoss(nn.BCEWithLogitsLoss(), outputs=4))(out, label).backward()
    for name, parameter in net.named_parameters():
        if "patch_embed" in name or name.startswith("decoder.detail"):
            assert parameter.grad is not None, name
            assert bool((parameter.grad != 0).any()), name


@pytest.mark.parametrize("backbone", PUBLISHED)
def test_the_layout_of_published_weights_cannot_be_changed(backbone: str) -> None:
    for options in ({"stem": "conv"}, {"detail": 8}):
        with pytest.raises(ValueError, match=backbone):
            tpseg_hiera(backbone, 2, **options)
        with pytest.raises(ValueError, match=backbone):
            build_network("kprism", 2, backbone=backbone, channels=32, num_layers=3, **options)
    with pytest.raises(ValueError, match="Unknown stem 'early'"):
        tpseg_hiera("hiera_demo", 2, stem="early")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="detail must be 0 or more"):
        tpseg_hiera("hiera_demo", 2, detail=-1)


def prompted(**options: Any) -> KPrism:
    torch.manual_seed(2)
    net = build_network(
        "kprism", 2, backbone="hiera_demo", channels=32, num_layers=3, num_experts=2, width=8, **options
    )
    assert isinstance(net, KPrism)
    return net.eval()


def test_kprism_draws_at_stride_two_from_one_look_at_the_image() -> None:
    net, image = prompted(stem="conv", detail=8), torch.randn(1, 3, 64, 96)
    assert net.detail is not None
    drawn: list[Tensor] = []
    net.detail.register_forward_hook(lambda _, __, out: drawn.append(out))
    state = net.encode(image)
    assert state.fine is not None
    assert state.fine.shape == (1, 8, 32, 48)
    click = torch.tensor([[[20.0, 30.0, 1.0]]])
    out = net.decode(state, Prompt(clicks=click), deep_supervision=True)
    assert drawn[0].shape == (1, 1, 32, 48)
    assert len(out.side_logits) == 3  # all the decoder's layers, for deep supervision
    # a click moved by two pixels is another picture for the block, though it is in the same cell of stride 4
    moved = net.decode(state, Prompt(clicks=torch.tensor([[[22.0, 30.0, 1.0]]])))
    assert bool((moved - out.logits).abs().max() > 0)


def test_kprism_without_a_detail_keeps_no_look() -> None:
    state = prompted().encode(torch.randn(1, 3, 64, 64))
    assert state.fine is None


def test_weights_of_another_stem_do_not_fit() -> None:
    with pytest.raises(Exception, match="patch_embed"):
        load_strictly(network(), network(stem="patch").state_dict(), "w.pt", "")
