"""What runs in a study or a bundle: the fast form where there is one, at a precision that the device has."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from monai_tpseg.networks import TPSeg, build_network, kprism_demo, tpseg_hiera
from monai_tpseg.networks.fast.inference_form import choose_precision, fast_form, network_for_inference, segment_several
from monai_tpseg.networks.fast.inference_network import InferenceNetwork

CPU = torch.device("cpu")


def network() -> TPSeg:
    """A small network with hard gates, whose three tasks leave the shared route at different blocks."""
    torch.manual_seed(1)
    net = tpseg_hiera("hiera_demo", 3, freeze_encoder=False)
    with torch.no_grad():
        for p in net.parameters():
            p.add_(0.05 * torch.randn_like(p))
        for row, shared in enumerate((1, 3, 4)):
            net.encoder.gate.task_split[row] = -20.0
            net.encoder.gate.task_split[row, shared] = 5.0
    net.encoder.gate.set_hard(True)
    return net.eval()


def others() -> dict[str, nn.Module]:
    """Small networks that have no fast form."""
    torch.manual_seed(0)
    return {
        "lora": tpseg_hiera("hiera_demo", 3, adapter="lora").eval(),
        "unet decoder": tpseg_hiera("hiera_demo", 3, decoder="unet").eval(),
        "kprism": kprism_demo(3).eval(),
        "peer": build_network("unet", 3, 64, width=8).eval(),
    }


@torch.no_grad()
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_fast_form_equals_the_trained_network(precision: str) -> None:
    net, image = network(), torch.randn(2, 3, 64, 96)
    fast, why_plain = network_for_inference(net, precision)
    assert isinstance(fast, InferenceNetwork)
    assert why_plain == ""
    error = (fast(image, 1) - net(image, 1)).abs() / net(image, 1).abs().max()
    assert error.mean() < {"fp32": 1e-5, "bf16": 0.02}[precision]
    if precision == "fp32":
        assert error.max() < 1e-4


@torch.no_grad()
def test_soft_gates_and_networks_without_a_fast_form_run_as_they_are() -> None:
    soft = network()
    soft.encoder.gate.set_hard(False)
    for net in (soft, *others().values()):
        form, why_plain = network_for_inference(net)
        assert form is net
        assert why_plain.endswith(".")
        image, rows = torch.randn(1, 3, 64, 64), torch.tensor([1])
        half = network_for_inference(net, "bf16").network(image, rows).float()
        exact = net(image, rows)
        assert not torch.equal(half, exact)
        assert (half - exact).abs().mean() < 0.1 * exact.abs().mean() + 0.02


@torch.no_grad()
@pytest.mark.parametrize("name", ["lora", "unet decoder", "kprism", "peer"])
def test_several_tasks_equal_one_call_each(name: str) -> None:
    net, image = others()[name], torch.randn(2, 3, 64, 64)
    expected = torch.cat([net(image, torch.tensor([row, row])) for row in (2, 0)], dim=1)
    torch.testing.assert_close(segment_several(net, image, [2, 0]), expected, atol=1e-5, rtol=1e-5)
    half = network_for_inference(net, "bf16").network
    alone = torch.cat([half(image, torch.tensor([row, row])) for row in (2, 0)], dim=1)
    torch.testing.assert_close(segment_several(half, image, [2, 0]), alone, atol=0.02, rtol=0.05)


@torch.no_grad()
@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_several_tasks_of_the_fast_form_are_the_same_bits(dtype: str) -> None:
    fast, image = fast_form(network(), dtype).network, torch.randn(2, 3, 96, 64)
    expected = torch.cat([fast(image, row) for row in (2, 0, 1)], dim=1)
    assert torch.equal(segment_several(fast, image, [2, 0, 1]), expected)


def test_the_encoder_of_kprism_runs_once(monkeypatch: pytest.MonkeyPatch) -> None:
    net, calls = others()["kprism"], []
    plain = net.encode
    monkeypatch.setattr(net, "encode", lambda image: calls.append(1) or plain(image))
    with torch.no_grad():
        segment_several(net, torch.randn(1, 3, 64, 64), [0, 1, 2])
    assert calls == [1]


def test_auto_takes_what_the_device_is_fastest_at(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = torch.device("cuda", 0)
    for capability, precision in (((9, 0), "bf16"), ((8, 0), "bf16"), ((7, 5), "fp16")):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device, found=capability: found)
        assert choose_precision("auto", gpu) == precision
    for gain, precision in ((2.9, "bf16"), (1.1, "fp32"), (0.2, "fp32")):
        monkeypatch.setattr("monai_tpseg.networks.fast.inference_form.bf16_gain", lambda found=gain: found)
        assert choose_precision("auto", CPU) == precision
    assert [choose_precision(p, CPU) for p in ("fp32", "bf16")] == ["fp32", "bf16"]
    assert choose_precision("auto", torch.device("meta")) == "fp32"
    with pytest.raises(ValueError, match="'fp16' needs a GPU"):
        choose_precision("fp16", CPU)
    with pytest.raises(ValueError, match="Unknown precision 'int8'; choose one of fp32, bf16, fp16, auto"):
        choose_precision("int8", CPU)


def test_the_bundle_says_none_for_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    from monai_tpseg.bundle.config import amp_of_device

    for gain, amp in ((2.9, "bf16"), (0.2, "none")):
        monkeypatch.setattr("monai_tpseg.networks.fast.inference_form.bf16_gain", lambda found=gain: found)
        assert amp_of_device("auto", CPU) == amp
    assert [amp_of_device(word, CPU) for word in ("none", "bf16", "fp16", "int8")] == ["none", "bf16", "fp16", "int8"]


@pytest.mark.parametrize("bundle", ["tpseg_lesion_segmentation", "kprism_universal_segmentation"])
def test_every_part_of_inference_gets_the_precision_that_auto_means(bundle: str) -> None:
    text = (Path(__file__).resolve().parents[2] / "bundles" / bundle / "configs" / "inference.json").read_text()
    assert text.count("$tpseg.amp_of_device(@amp, @device)") >= 3
    assert '"amp": "@amp"' not in text
