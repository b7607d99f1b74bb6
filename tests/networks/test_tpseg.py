"""The whole network: counts, shapes, tasks, freezing, exactness of the start."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import yaml
from sam2.modeling.backbones.hieradet import Hiera

from monai_tpseg.networks import (
    HIERA_VARIANTS,
    TPSeg,
    build_hiera,
    tpseg_hiera,
    tpseg_hiera_demo,
    tpseg_hiera_large,
)


@pytest.fixture(scope="module")
def moved() -> TPSeg:
    """A demo network whose parameters are all away from their start, so that every part matters."""
    torch.manual_seed(1)
    net = tpseg_hiera_demo(num_tasks=3).eval()
    with torch.no_grad():
        for p in net.parameters():
            p.add_(0.05 * torch.randn_like(p))
    return net


@pytest.mark.slow
@pytest.mark.parametrize(("num_tasks", "expected"), [(1, 264_841_079), (8, 288_463_181)])
def test_parameters_of_the_released_layout(num_tasks: int, expected: int) -> None:
    net = tpseg_hiera_large(num_tasks=num_tasks, layout="released")
    assert sum(p.numel() for p in net.parameters()) == expected
    assert sum(p.numel() for p in net.extras.parameters()) - 460_800 - net.extras.task_embedding.weight.numel() == (
        440_034 if num_tasks == 8 else 440_034 - 7 * (128 + 256 + 2)
    )
    assert not any(p.requires_grad for p in net.extras.parameters())


@pytest.mark.slow
def test_routes_of_hiera_large_cost_what_the_paper_says() -> None:
    def count(**kwargs: object) -> int:
        return sum(p.numel() for p in tpseg_hiera_large(**kwargs).encoder.adapters.parameters())  # type: ignore[arg-type]

    assert count(num_tasks=2, routes="task") - count(num_tasks=1, routes="task") == 3_373_056
    assert count(num_tasks=1, routes="both") - count(num_tasks=1, routes="task") == 3_373_056


@pytest.mark.parametrize(("name", "file"), [("tiny", "t"), ("small", "s"), ("base_plus", "b+"), ("large", "l")])
def test_variants_equal_the_packages_files(name: str, file: str) -> None:
    import sam2

    path = Path(sam2.__file__).parent / "configs" / "sam2.1" / f"sam2.1_hiera_{file}.yaml"
    trunk = yaml.safe_load(path.read_text())["model"]["image_encoder"]["trunk"]
    trunk.pop("_target_")
    with torch.device("cpu"):
        theirs = Hiera(**{k: tuple(v) if isinstance(v, list) else v for k, v in trunk.items()})
    ours = build_hiera(f"hiera_{name}")
    assert {k: v.shape for k, v in ours.state_dict().items()} == {k: v.shape for k, v in theirs.state_dict().items()}
    assert [b.window_size for b in ours.blocks] == [b.window_size for b in theirs.blocks]
    assert [b.attn.num_heads for b in ours.blocks] == [b.attn.num_heads for b in theirs.blocks]


@torch.no_grad()
@pytest.mark.parametrize("layout", ["paper", "released"])
def test_zero_initialised_adapters_leave_the_trunk_exactly(layout: str) -> None:
    net = tpseg_hiera(
        "hiera_tiny", 2, layout=layout, rfb_channels=(8, 8, 128, 8) if layout == "paper" else (64, 128, 256, 512)
    )  # type: ignore[arg-type]
    image, rows = torch.randn(2, 3, 64, 96), torch.tensor([0, 1])
    adapted, theirs = net.encoder(image, rows), net.encoder.trunk(image)
    net.encoder.adapters = None
    for ours, bare, trunk in zip(adapted, net.encoder(image, rows), theirs, strict=True):
        assert torch.equal(ours, bare)
        torch.testing.assert_close(ours, trunk, atol=1e-4, rtol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("size", [(32, 32), (64, 96), (160, 32)])
def test_any_size_divisible_by_32(moved: TPSeg, size: tuple[int, int]) -> None:
    output = moved(torch.randn(2, 3, *size), 1, deep_supervision=True)
    assert output.logits.shape == (2, 1, *size)
    assert [tuple(x.shape) for x in output.side_logits] == [(2, 1, *size)] * 4
    assert [x.shape[-2:] for x in output.features] == [(size[0] // s, size[1] // s) for s in (4, 8, 16)]


@torch.no_grad()
def test_mixed_batch_equals_single_calls(moved: TPSeg) -> None:
    image, task = torch.randn(4, 3, 64, 64), torch.tensor([2, 0, 1, 2])
    alone = torch.cat([moved(image[i : i + 1], int(task[i])) for i in range(4)])
    torch.testing.assert_close(moved(image, task), alone, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_task_forms_are_equal_and_tasks_differ(moved: TPSeg) -> None:
    image = torch.randn(2, 3, 32, 32)
    assert torch.equal(moved(image, 1), moved(image, torch.tensor(1)))
    assert torch.equal(moved(image, 1), moved(image, torch.tensor([1, 1])))
    assert not torch.allclose(moved(image, 1), moved(image, 2), atol=1e-3)


@pytest.mark.parametrize(
    ("image", "task", "message"),
    [
        ((1, 3, 33, 64), 0, r"divisible by 32, got \(33, 64\)"),
        ((1, 1, 32, 32), 0, r"\(B, 3, H, W\), got shape \(1, 1, 32, 32\)"),
        ((1, 3, 32, 32), 3, r"in 0\.\.2, got 3"),
        ((1, 3, 32, 32), -1, r"in 0\.\.2, got -1"),
        ((2, 3, 32, 32), [0, 1, 2], r"got shape \(3,\)"),
        ((1, 3, 32, 32), 0.5, "integer"),
    ],
)
def test_bad_input_is_named(moved: TPSeg, image: tuple[int, ...], task: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        moved(torch.zeros(image), torch.tensor(task))


def test_frozen_trunk_gets_no_gradient_and_stays_in_eval() -> None:
    net = tpseg_hiera_demo(num_tasks=2, freeze_encoder=True).train()
    net(torch.randn(2, 3, 32, 32), torch.tensor([0, 1])).sum().backward()
    assert not any(m.training for m in net.encoder.trunk.modules())
    assert net.decoder.training
    assert all(p.grad is None for p in net.encoder.trunk.parameters())
    assert net.encoder.adapters[0].shared_up.grad.any()
    assert net.encoder.adapters[-1].task_up.grad.any()


def test_unfrozen_trunk_trains() -> None:
    net = tpseg_hiera_demo(num_tasks=2, freeze_encoder=False).train()
    net(torch.randn(2, 3, 32, 32), 0).sum().backward()
    assert net.encoder.trunk.training
    assert net.encoder.trunk.patch_embed.proj.weight.grad.any()


def test_every_trainable_parameter_takes_part() -> None:
    net = tpseg_hiera_demo(num_tasks=2).train()
    for hard in (False, True):
        net.zero_grad(set_to_none=True)
        net.encoder.gate.set_hard(hard)
        net(torch.randn(2, 3, 32, 32), torch.tensor([0, 1])).sum().backward()
        assert [n for n, p in net.named_parameters() if p.requires_grad and p.grad is None] == []


def test_forward_changes_no_buffer() -> None:
    net = tpseg_hiera_demo(num_tasks=2)
    before = {k: v.clone() for k, v in net.named_buffers()}
    for mode in (True, False):
        net.train(mode)
        net(torch.randn(2, 3, 32, 32), 1)
        assert all(torch.equal(v, before[k]) for k, v in net.named_buffers())


def test_update_prototypes_moves_only_tasks_of_the_batch() -> None:
    net = tpseg_hiera_demo(num_tasks=3)
    output = net(torch.randn(2, 3, 32, 32), torch.tensor([0, 2]), deep_supervision=True)
    before = [p.bank.prototypes.clone() for p in net.pgtds]
    net.update_prototypes(output.features, (torch.rand(2, 1, 32, 32) > 0.5).float(), torch.tensor([0, 2]))
    for old, pgtd in zip(before, net.pgtds, strict=True):
        moved = (pgtd.bank.prototypes != old).flatten(1).any(1)
        assert moved.tolist() == [True, False, True]


@torch.no_grad()
def test_save_and_load_is_exact(moved: TPSeg, tmp_path: Path) -> None:
    from monai_tpseg.networks.checkpoint import load_weights

    torch.save(moved.state_dict(), tmp_path / "model.pt")
    other = tpseg_hiera_demo(num_tasks=3).eval()
    load_weights(other, tmp_path / "model.pt")
    image = torch.randn(1, 3, 32, 64)
    assert torch.equal(other(image, 2), moved(image, 2))


@torch.no_grad()
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_torchscript_runs_at_other_sizes_batches_and_tasks(moved: TPSeg, tmp_path: Path) -> None:
    torch.jit.script(moved).save(str(tmp_path / "model.ts"))
    scripted = torch.jit.load(str(tmp_path / "model.ts"))
    for shape, task in (((3, 3, 96, 32), [2, 1, 0]), ((1, 3, 64, 160), [1]), ((2, 3, 224, 224), [0, 2])):
        image, rows = torch.randn(shape), torch.tensor(task)
        torch.testing.assert_close(scripted(image, rows), moved(image, rows), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"backbone": "hiera_huge"}, r"did you mean hiera_\w+\? Choose one of hiera_"),
        ({"backbone": "hiera_demo", "layout": "mine"}, "choose one of paper, released"),
    ],
)
def test_unknown_names_list_the_choices(kwargs: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tpseg_hiera(**kwargs)  # type: ignore[arg-type]


def test_backbone_names() -> None:
    assert tpseg_hiera_demo(1).backbone == "hiera_demo"
    assert set(HIERA_VARIANTS) >= {"hiera_tiny", "hiera_small", "hiera_base_plus", "hiera_large"}


def test_what_is_no_batch_of_images_is_said(moved: TPSeg) -> None:
    with pytest.raises(TypeError, match=r"image must be a tensor \(B, 3, H, W\), got ndarray\."):
        moved(torch.zeros(1, 3, 64, 64).numpy(), 0)
    with pytest.raises(ValueError, match=r"at least one picture, got shape \(0, 3, 64, 64\)"):
        moved(torch.zeros(0, 3, 64, 64), 0)
