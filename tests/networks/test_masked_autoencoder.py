"""A trunk on visible units alone: what is hidden has no say, and with nothing hidden it is the trunk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from monai_tpseg.engines.masked_pretraining import MaskedPixelLoss, draw_hidden
from monai_tpseg.networks import tpseg_hiera
from monai_tpseg.networks.checkpoint import CheckpointError, write_checkpoint
from monai_tpseg.networks.encoder_file import EncoderInfo, read_encoder_info, save_encoder
from monai_tpseg.networks.hiera import Stem, build_hiera
from monai_tpseg.networks.masked_autoencoder import (
    UNIT,
    MaskedAutoencoder,
    Reconstruction,
    _same_window,
    _visible,
    from_units,
    to_units,
)
from monai_tpseg.networks.sam2_trunk import load_sam2_trunk


def make(backbone: str = "hiera_demo", stem: Stem = "conv", size: tuple[int, int] = (128, 96)) -> MaskedAutoencoder:
    torch.manual_seed(0)
    return MaskedAutoencoder(build_hiera(backbone, stem), size, width=32, depth=1, heads=2).eval()


def in_units(stage: Tensor, side: int) -> Tensor:
    """A map (B, C, h, w) cut by hand into (B, U, side, side, C), row by row."""
    rows = [
        stage[:, :, r : r + side, c : c + side].permute(0, 2, 3, 1)
        for r in range(0, stage.shape[2], side)
        for c in range(0, stage.shape[3], side)
    ]
    return torch.stack(rows, dim=1)


# sizes of which windows of 8 and 14 tokens cover the third stage: beyond a map sam2 puts zeros, which nothing sees here
@pytest.mark.parametrize(
    ("backbone", "stem", "size"),
    [
        ("hiera_demo", "patch", (128, 256)),
        ("hiera_mini", "conv", (256, 128)),
        ("hiera_tiny", "patch", (224, 224)),
    ],
)
@torch.no_grad()
def test_with_nothing_hidden_it_is_the_trunk(backbone: str, stem: Stem, size: tuple[int, int]) -> None:
    net = make(backbone, stem, size)
    image = torch.randn(1, 3, *size)
    features, _ = net.encode(image, torch.zeros(1, net.units, dtype=torch.bool))
    for number, (own, whole) in enumerate(zip(features, net.trunk(image), strict=True)):
        torch.testing.assert_close(own, in_units(whole, 8 >> number), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("stem", ["patch", "conv"])
@pytest.mark.parametrize("backbone", ["hiera_demo", "hiera_mini"])
@torch.no_grad()
def test_hidden_pixels_have_no_say_and_each_visible_one_has(backbone: str, stem: Stem) -> None:
    net = make(backbone, stem, (192, 160))
    image, hidden = torch.randn(2, 3, 192, 160), draw_hidden(2, net.units, 0.6)
    masked = from_units(to_units(torch.ones_like(image)) * hidden[:, :, None, None, None], (192, 160))
    before, index = net.encode(image, hidden)
    other, _ = net.encode(torch.where(masked > 0, torch.randn_like(image) * 9, image), hidden)
    assert all(torch.equal(a, b) for a, b in zip(before, other, strict=True))
    assert torch.equal(net(image, hidden).pixels, net(torch.where(masked > 0, 0.0, image), hidden).pixels)
    seen = image.clone()
    row, column = divmod(int(index[0, -1]), 160 // UNIT)
    seen[0, :, row * UNIT, column * UNIT] += 1
    after, _ = net.encode(seen, hidden)
    assert not torch.equal(before[-1][0], after[-1][0])
    assert torch.equal(before[-1][1], after[-1][1])


@pytest.mark.parametrize(("window", "side", "queries"), [(8, 2, 2), (7, 1, 1), (14, 2, 1), (4, 2, 2)])
def test_windows_are_those_of_a_loop(window: int, side: int, queries: int) -> None:
    """A token sees the visible ones of its own window: whose place on the whole map lies in the same square."""
    hidden = draw_hidden(2, 70, 0.5)
    seen = _visible(torch.zeros(2, 3, 224, 320), hidden, (224, 320))

    def squares(sample: int, number: int) -> list[tuple[int, int]]:
        step = side // number
        places = [
            (unit // 10 * side + r * step, unit % 10 * side + c * step)
            for unit in range(70)
            if not hidden[sample, unit]
            for r in range(number)
            for c in range(number)
        ]
        return [(row // window, column // window) for row, column in places]

    mask = _same_window(window, side, queries, seen)
    assert mask is not None
    for sample in range(2):
        keys = squares(sample, side)
        assert mask[sample, 0].tolist() == [[key == query for key in keys] for query in squares(sample, queries)]
    assert _same_window(0, side, queries, seen) is None


def test_units_and_back() -> None:
    image = torch.randn(2, 3, 64, 96)
    units = to_units(image)
    assert torch.equal(units[1, 4], image[1, :, 32:64, 32:64])  # second row, second of three
    assert torch.equal(from_units(units, (64, 96)), image)


@pytest.mark.parametrize("ratio", [0.01, 0.6, 0.99])
def test_as_many_are_hidden_as_asked_for(ratio: float) -> None:
    torch.manual_seed(0)
    hidden = draw_hidden(50, 10, ratio)
    assert set(hidden.sum(1).tolist()) == {min(max(1, round(10 * ratio)), 9)}
    assert hidden.float().mean(0).std() < 0.1  # no place is favoured
    with pytest.raises(ValueError, match="above 0 and below 1, got 1"):
        draw_hidden(1, 10, 1)


def test_the_loss_is_that_of_a_loop() -> None:
    torch.manual_seed(0)
    image, hidden = torch.randn(2, 3, 64, 64), draw_hidden(2, 4, 0.5)
    pixels = torch.randn(2, 4, 3 * UNIT * UNIT)
    errors = []
    for b in range(2):
        for u in range(4):
            if hidden[b, u]:
                part = image[b, :, u // 2 * 32 : u // 2 * 32 + 32, u % 2 * 32 : u % 2 * 32 + 32].flatten()
                errors.append((pixels[b, u] - (part - part.mean()) / (part.var() + 1e-6).sqrt()).square().mean())
    torch.testing.assert_close(MaskedPixelLoss()(Reconstruction(pixels, hidden), image), torch.stack(errors).mean())


def test_every_parameter_learns() -> None:
    net = make().train()
    image, hidden = torch.randn(2, 3, 128, 96), draw_hidden(2, net.units, 0.5)
    MaskedPixelLoss()(net(image, hidden), image).backward()
    assert [name for name, p in net.named_parameters() if p.grad is None or not p.grad.any()] == []


@pytest.mark.parametrize(
    ("size", "hidden", "message"),
    [
        ((96, 128), [[True] * 11 + [False]] * 2, "must be 128 x 96 pixels"),
        ((128, 96), [[True] * 12] * 2, r"at least one; got \[0\]"),
        ((128, 96), [[True] * 11 + [False], [True] * 10 + [False] * 2], "the same number"),
    ],
)
def test_what_does_not_fit_is_refused(size: tuple[int, int], hidden: list[list[bool]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()(torch.zeros(2, 3, *size), torch.tensor(hidden))
    with pytest.raises(ValueError, match="multiples of 32 from 64 on"):
        make(size=(32, 100))


def test_the_file_is_loaded_into_tpseg_and_says_what_it_is(tmp_path: Path) -> None:
    trunk = build_hiera("hiera_demo", "conv")
    path = tmp_path / "encoder.pt"
    written = save_encoder(path, trunk.state_dict(), EncoderInfo("hiera_demo", "conv", (96, 96)))
    assert read_encoder_info(path) == written
    net = tpseg_hiera("hiera_demo", 2, stem="conv")
    load_sam2_trunk(net.encoder.trunk, path, "hiera_demo")
    assert all(torch.equal(value, trunk.state_dict()[name]) for name, value in net.encoder.trunk.state_dict().items())
    assert not net.encoder.trunk_is_random
    other = tpseg_hiera("hiera_demo", 2, stem="patch")
    with pytest.raises(CheckpointError, match="of tpseg pretrain with the same backbone and stem"):
        load_sam2_trunk(other.encoder.trunk, path, "hiera_demo")


def test_files_that_do_not_say_which_trunk_they_hold_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "encoder.pt"
    with pytest.raises(CheckpointError, match="No encoder at"):
        read_encoder_info(path)
    write_checkpoint({"model": {}}, path)
    with pytest.raises(CheckpointError, match="does not say which trunk it holds"):
        read_encoder_info(path)
    path.with_suffix(".json").write_text('{"tasks": ["skin_lesion"]}')
    with pytest.raises(CheckpointError, match="whole network; start from it with --checkpoint"):
        read_encoder_info(path)
    save_encoder(path, build_hiera("hiera_demo").state_dict(), EncoderInfo("hiera_demo"))
    write_checkpoint({"model": {"other": torch.zeros(1)}}, path)
    with pytest.raises(CheckpointError, match="SHA-256 differs"):
        read_encoder_info(path)
    path.with_suffix(".json").write_text('{"encoder": 1, "image_size": [], "colour": 3}')
    with pytest.raises(CheckpointError, match="not the description of an encoder"):
        read_encoder_info(path)
    sam = tmp_path / "sam2.1_hiera_tiny.pt"
    write_checkpoint({"model": {}}, sam)
    assert read_encoder_info(sam) == EncoderInfo("hiera_tiny")


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"adapter": "none", "decoder": "unet"},
        {"adapter": "none"},
        {"decoder": "unet"},
        {"adapter": "lora"},
        {"adapter": "plain"},
        {"routes": "shared"},
        {"routes": "task"},
    ],
)
def test_every_ablation_stands_on_the_same_frozen_trunk(options: dict[str, Any], tmp_path: Path) -> None:
    trunk = build_hiera("hiera_demo", "conv")
    save_encoder(tmp_path / "encoder.pt", trunk.state_dict(), EncoderInfo("hiera_demo", "conv"))
    net = tpseg_hiera("hiera_demo", 2, stem="conv", freeze_encoder=True, **options)
    load_sam2_trunk(net.encoder.trunk, tmp_path / "encoder.pt", "hiera_demo")
    net.train()
    image, task = torch.randn(2, 3, 64, 64), torch.tensor([0, 1])
    own = net.encoder(image, task)
    for before, after in zip(trunk.eval()(image), own, strict=True):  # adapters start as the identity
        torch.testing.assert_close(after, before, atol=1e-4, rtol=1e-4)
    net(image, task).mean().backward()
    assert all(parameter.grad is None for parameter in net.encoder.trunk.parameters() if not parameter.requires_grad)
    frozen = [name for name, p in net.encoder.trunk.named_parameters() if not p.requires_grad]
    assert len(frozen) == len(trunk.state_dict())
