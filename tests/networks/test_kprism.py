"""The whole of K-Prism: counts, sizes, encode once, orders, padding, gradients, files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from monai_tpseg.networks import KPrism, Prompt, kprism_demo, kprism_net, kprism_utnet
from monai_tpseg.networks.checkpoint import load_weights
from monai_tpseg.networks.kprism import UTNetEncoder

SIZE = (48, 64)


@pytest.fixture(scope="module")
def net() -> KPrism:
    """A demo network away from its start, so that every part matters."""
    torch.manual_seed(1)
    built = kprism_demo(num_tasks=3).eval()
    with torch.no_grad():
        for p in built.parameters():
            p.add_(0.05 * torch.randn_like(p))
    return built


@pytest.fixture
def image() -> Tensor:
    return torch.randn(2, 3, *SIZE)


def clicks() -> Tensor:
    return torch.tensor([[[5, 7, 1], [40, 60, -1], [20, 20, 1.0]], [[0, 0, 1], [47, 63, 1], [30, 10, -1.0]]])


def exemplars(number: int = 3, size: tuple[int, int] = SIZE) -> Prompt:
    label = (torch.rand(2, number, 1, *size) > 0.6).float()
    return Prompt(exemplar_image=torch.randn(2, number, 3, *size), exemplar_label=label)


def every_prompt() -> dict[str, Prompt]:
    shown = exemplars()
    previous = torch.randn(2, 1, *SIZE)
    return {
        "task": Prompt(task=torch.tensor([0, 2])),
        "exemplars": shown,
        "clicks": Prompt(clicks=clicks()),
        "clicks and mask": Prompt(clicks=clicks(), previous_logits=previous),
        "mask": Prompt(previous_logits=previous),
        "task and clicks": Prompt(task=1, clicks=clicks(), previous_logits=previous),
        "exemplars and clicks": replace(shown, clicks=clicks(), previous_logits=previous),
        "all": replace(shown, task=1, clicks=clicks(), previous_logits=previous),
    }


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def test_parameters_are_those_of_the_paper_without_what_it_never_uses() -> None:
    with torch.device("meta"):
        net = kprism_utnet()
    assert count(net) == 40_395_033 == 43_291_929 - 2_896_896
    assert {name: count(part) for name, part in net.named_children()} == {
        "encoder": 3_818_844,
        "mask_encoder": 2_818_288,
        "fusion": 175_104,
        "pyramid": 1_779_456,
        "semantic": 33 * 2 * 2 * 256,
        "in_context": 904_210,
        "interactive": 3 * 256,
        "decoder": 30_864_571,
    }
    assert count(net.decoder.resample) == 2_098_432
    assert count(net.decoder.heads) == 3 * 111_041
    # key biases shift all scores of a query alike: they have no effect, in the released network neither
    assert 6 * 2 * 5 * 256 + 6 * 256 == 16_896


def test_demo_is_narrow_but_whole() -> None:
    net = kprism_demo()
    assert isinstance(net.encoder, UTNetEncoder)
    assert [name for name, _ in net.named_children()] == [name for name, _ in kprism_demo().named_children()]
    assert count(net) < 500_000


@torch.no_grad()
@pytest.mark.parametrize("kind", list(every_prompt()))
def test_encoding_once_equals_the_whole_forward(net: KPrism, image: Tensor, kind: str) -> None:
    prompt = every_prompt()[kind]
    state = net.encode(image)
    assert torch.equal(net.decode(state, prompt), net(image, prompt))
    output = net(image, prompt, deep_supervision=True)
    assert torch.equal(output.logits, net(image, prompt))
    assert len(output.side_logits) == 2
    assert all(x.shape == (2, 1, *SIZE) for x in (output.logits, *output.side_logits))


@torch.no_grad()
def test_exemplars_are_remembered(net: KPrism, image: Tensor) -> None:
    shown = exemplars()
    memory = net.remember(shown.exemplar_image, shown.exemplar_label)  # type: ignore[arg-type]
    state = net.encode(image)
    torch.testing.assert_close(net.decode(state, Prompt(), memory), net(image, shown))
    clicked = Prompt(clicks=clicks())
    torch.testing.assert_close(net.decode(state, clicked, memory), net(image, replace(shown, clicks=clicks())))


@torch.no_grad()
def test_a_bare_row_is_a_class(net: KPrism, image: Tensor) -> None:
    rows = torch.tensor([2, 0])
    assert torch.equal(net(image, rows), net(image, Prompt(task=rows)))
    assert torch.equal(net(image, 1), net(image, Prompt(task=1)))


@torch.no_grad()
@pytest.mark.parametrize("kind", list(every_prompt()))
def test_every_part_of_a_prompt_matters_and_samples_do_not_mix(net: KPrism, image: Tensor, kind: str) -> None:
    prompt = every_prompt()[kind]
    whole = net(image, prompt)
    rows = {
        k: v[1:] if isinstance(v, Tensor) and v.ndim else v for k, v in vars(prompt).items()
    }  # the second sample alone
    torch.testing.assert_close(net(image[1:], Prompt(**rows)), whole[1:], atol=1e-4, rtol=1e-4)
    for name, value in vars(prompt).items():
        if isinstance(value, Tensor) and value.is_floating_point():
            other = 1 - value if name == "exemplar_label" else value.flip(-1) * torch.tensor([1.0])
            if name == "clicks":
                other = value * torch.tensor([0.5, 0.5, -1.0])
            assert not torch.allclose(net(image, replace(prompt, **{name: other})), whole, atol=1e-4), name


@torch.no_grad()
@pytest.mark.parametrize("kind", ["clicks", "task and clicks", "all"])
def test_order_of_clicks_and_padding_do_not_matter(net: KPrism, image: Tensor, kind: str) -> None:
    prompt = every_prompt()[kind]
    expected = net(image, prompt)
    shuffled = clicks()[:, [2, 0, 1]]
    torch.testing.assert_close(net(image, replace(prompt, clicks=shuffled)), expected, atol=1e-4, rtol=1e-4)
    padding = torch.tensor([[[11.0, 13, 0], [-50, 999, 0]]]).expand(2, -1, -1)
    padded = torch.cat([padding, clicks()], dim=1)
    torch.testing.assert_close(net(image, replace(prompt, clicks=padded)), expected, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_clicks_of_padding_alone_are_none(net: KPrism, image: Tensor) -> None:
    state, none = net.encode(image), torch.zeros(2, 4, 3)
    given = Prompt(task=1, previous_logits=torch.randn(2, 1, *SIZE))
    torch.testing.assert_close(net.decode(state, replace(given, clicks=none)), net.decode(state, given))
    mask = replace(given, task=None)
    torch.testing.assert_close(net.decode(state, replace(mask, clicks=none)), net.decode(state, mask))


@torch.no_grad()
def test_order_of_exemplars_and_absent_ones_do_not_matter(net: KPrism, image: Tensor) -> None:
    shown = exemplars(3)
    expected = net(image, shown)
    order = [2, 0, 1]
    assert shown.exemplar_image is not None
    assert shown.exemplar_label is not None
    shuffled = Prompt(exemplar_image=shown.exemplar_image[:, order], exemplar_label=shown.exemplar_label[:, order])
    torch.testing.assert_close(net(image, shuffled), expected, atol=1e-4, rtol=1e-4)
    junk = exemplars(2)
    valid = torch.ones(2, 5, 1, *SIZE)
    valid[:, 3:] = 0
    padded = Prompt(
        exemplar_image=torch.cat([shown.exemplar_image, junk.exemplar_image], dim=1),  # type: ignore[list-item]
        exemplar_label=torch.cat([shown.exemplar_label, junk.exemplar_label], dim=1),  # type: ignore[list-item]
        exemplar_valid=valid,
    )
    torch.testing.assert_close(net(image, padded), expected, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(net(image, replace(padded, exemplar_valid=None)), expected, atol=1e-3)


@torch.no_grad()
@pytest.mark.parametrize("size", [(16, 16), (16, 80), (112, 48), (128, 128)])
def test_any_size_divisible_by_16(net: KPrism, size: tuple[int, int]) -> None:
    image = torch.randn(1, 3, *size)
    shown = Prompt(exemplar_image=torch.randn(1, 1, 3, 32, 16), exemplar_label=torch.ones(1, 1, 1, 32, 16))
    for prompt in (Prompt(task=0), Prompt(clicks=torch.tensor([[[3.0, 9.0, 1.0]]])), shown):
        assert net(image, prompt).shape == (1, 1, *size)


@torch.no_grad()
def test_hiera_in_place_of_utnet() -> None:
    net = kprism_net("hiera_demo", 2).eval()
    image = torch.randn(1, 3, 64, 96)
    shown = Prompt(exemplar_image=torch.randn(1, 2, 3, 64, 96), exemplar_label=torch.ones(1, 2, 1, 64, 96))
    for prompt in (Prompt(task=1), shown, Prompt(clicks=torch.tensor([[[3.0, 9.0, 1.0]]]))):
        assert net(image, prompt).shape == (1, 1, 64, 96)
    with pytest.raises(ValueError, match="divisible by 32, got 48 x 64"):
        net(torch.randn(1, 3, 48, 64), Prompt(task=1))
    frozen = kprism_net("hiera_demo", 2, freeze_encoder=True).train()
    assert not any(p.requires_grad for p in frozen.encoder.hiera.parameters())  # type: ignore[union-attr]
    assert not frozen.encoder.hiera.trunk.training  # type: ignore[union-attr]


@torch.no_grad()
def test_padding_of_images_is_not_looked_at(net: KPrism) -> None:
    image, valid = torch.randn(1, 3, *SIZE), torch.ones(1, 1, *SIZE)
    valid[..., 48:] = 0
    state = net.encode(image, valid)
    assert state.valid is not None
    assert [v.shape[1] for v in state.valid] == [12, 48, 192]
    seen = state.valid[2].view(12, 16)
    assert torch.equal(seen, torch.arange(16).expand(12, -1) < 12)
    # other pixels under the padding of the finest level change nothing that the queries read
    from monai_tpseg.networks.kprism.decoder import attention_mask

    blocked = attention_mask(torch.full((1, 1, 12, 16), -9.0), torch.tensor([[True, False]]), (12, 16), state.valid[2])
    assert blocked is not None
    assert torch.equal(blocked[0, 0], ~state.valid[2][0])  # nothing to see: unblocked, but for the padding
    assert torch.equal(blocked[0, 1], ~state.valid[2][0])
    everything = net.encode(image, torch.ones_like(valid))
    torch.testing.assert_close(net.decode(everything, Prompt(task=0)), net(image, Prompt(task=0)))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, "prompt is empty"),
        ({"task": 3}, "task must be in 0..2, got 3"),
        ({"clicks": torch.zeros(2, 4)}, "row, column, polarity"),
        ({"clicks": torch.tensor([[[9, 70, 1.0]]] * 2)}, "row 9, column 70 lies outside the image of 48 x 64"),
        ({"clicks": torch.tensor([[[9, 7, 2.0]]] * 2)}, "1, -1 or 0"),
        ({"previous_logits": torch.zeros(1, 1, 9, 9)}, "previous_logits must be"),
        ({"exemplar_image": torch.zeros(2, 1, 3, 16, 16)}, "exemplar_label is missing"),
        ({"exemplar_label": torch.zeros(2, 1, 1, 16, 16), "task": 0}, "exemplar_image is missing"),
        (
            {"exemplar_image": torch.zeros(2, 1, 3, 16, 16), "exemplar_label": torch.zeros(2, 1, 1, 32, 16)},
            "exemplar_label must be",
        ),
        (
            {"exemplar_image": torch.zeros(1, 1, 3, 16, 16), "exemplar_label": torch.zeros(1, 1, 1, 16, 16)},
            r"exemplar_image must be \(2, K",
        ),
        (
            {"exemplar_image": torch.zeros(2, 1, 3, 20, 16), "exemplar_label": torch.zeros(2, 1, 1, 20, 16)},
            "divisible by 16, got 20 x 16",
        ),
        (
            {
                "exemplar_image": torch.zeros(2, 1, 3, 16, 16),
                "exemplar_label": torch.zeros(2, 1, 1, 16, 16),
                "exemplar_valid": torch.zeros(2, 1, 1, 16, 16),
            },
            "Sample 0 has no valid exemplar pixel",
        ),
    ],
)
def test_bad_prompts_say_what_is_wrong(net: KPrism, image: Tensor, changes: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        net(image, Prompt(**changes))  # type: ignore[arg-type]


def test_bad_images_and_arguments_say_what_is_wrong(net: KPrism) -> None:
    with pytest.raises(ValueError, match=r"image must be \(B, 3, H, W\)"):
        net.encode(torch.zeros(1, 1, 32, 32))
    with pytest.raises(ValueError, match="divisible by 16, got 40 x 32"):
        net.encode(torch.zeros(1, 3, 40, 32))
    with pytest.raises(ValueError, match="valid must be"):
        net.encode(torch.zeros(1, 3, 32, 32), torch.ones(1, 1, 16, 16))
    shown = exemplars(1)
    memory = net.remember(shown.exemplar_image, shown.exemplar_label)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="not both"):
        net.decode(net.encode(torch.zeros(2, 3, 32, 32)), shown, memory)
    for arguments, words in (
        ({"backbone": "unet"}, r"Unknown backbone 'unet'; did you mean utnet\? Choose one of utnet"),
        ({"num_tasks": 0}, "num_tasks must be at least 1"),
        ({"freeze_encoder": True}, "UTNet has no published weights"),
        ({"backbone": "utnet_demo", "num_layers": 2}, "num_layers must be at least 3"),
    ):
        with pytest.raises(ValueError, match=words):
            kprism_net(**arguments)  # type: ignore[arg-type]


@torch.no_grad()
def test_evaluation_leaves_the_state_unchanged(net: KPrism, image: Tensor) -> None:
    before = {k: v.clone() for k, v in net.state_dict().items()}
    for prompt in every_prompt().values():
        net(image, prompt)
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())


@pytest.mark.parametrize("backbone", ["utnet_demo", "hiera_demo"])
def test_gradients_reach_every_parameter(backbone: str) -> None:
    net = kprism_net(backbone, 2).train()
    image = torch.randn(2, 3, 64, 64)
    shown = exemplars(2, (32, 32))
    given = torch.tensor([[[5, 7, 1], [40, 60, -1.0]]] * 2)
    for prompt in (
        replace(shown, task=torch.tensor([0, 1]), clicks=given),
        Prompt(previous_logits=torch.randn(2, 1, 64, 64)),
    ):
        output = net(image, prompt, deep_supervision=True)
        sum(x.square().mean() for x in (output.logits, *output.side_logits)).backward()
    dead = [name for name, p in net.named_parameters() if p.grad is None or not p.grad.any()]
    assert dead == []


def test_weights_come_back_from_a_file(net: KPrism, image: Tensor, tmp_path: Path) -> None:
    torch.save(net.state_dict(), tmp_path / "model.pt")
    other = kprism_demo(num_tasks=3).eval()
    load_weights(other, tmp_path / "model.pt")
    prompt = every_prompt()["all"]
    with torch.no_grad():
        assert torch.equal(other(image, prompt), net(image, prompt))


@torch.no_grad()
def test_bfloat16_autocast_is_close(net: KPrism, image: Tensor) -> None:
    prompt = every_prompt()["all"]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = net(image, prompt)
    whole = net(image, prompt)
    assert half.isfinite().all()
    assert (half.float() - whole).abs().mean() < 0.1 * whole.std()
