"""Every row of the paper's tables builds and trains, and each plain part is what its name says."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from monai_tpseg.engines import TaskAdamW, parameter_groups
from monai_tpseg.experiments import Row, read_suite
from monai_tpseg.losses import TPSegLoss
from monai_tpseg.networks import TPSeg, build_network, nnunet_plan_2d, tpseg_hiera, tpseg_hiera_demo
from monai_tpseg.networks.ablation_parts import PlainAdapter
from monai_tpseg.networks.build import default_options
from monai_tpseg.networks.checkpoint import load_strictly
from monai_tpseg.networks.lora import LowRank

SUITE = read_suite(Path(__file__).resolve().parents[2] / "benchmarks" / "suites" / "paper.yaml")
NARROW = {"unet": 4, "attention_unet": 4, "swin_unetr": 12, "flexible_unet": 4, "dynunet": 4}


def build(row: Row) -> nn.Module:
    tasks = 1 if row.per_task else 2
    options = dict(row.options)
    width = NARROW.get(str(options.get("architecture")))
    if width is None:
        options["backbone"] = "hiera_demo"
    return build_network(num_tasks=tasks, image_size=64, width=width, **options)


@pytest.mark.parametrize("row", SUITE.rows, ids=[row.id for row in SUITE.rows])
def test_every_row_trains_two_iterations(row: Row) -> None:
    net = build(row).train()
    optimizer = TaskAdamW(parameter_groups(net, 1e-3), lr=1e-3)
    loss = TPSegLoss(contrastive_weight=0.1)
    image, label = torch.randn(2, 3, 64, 64), (torch.rand(2, 1, 64, 64) > 0.7).float()
    task = torch.tensor([0, 0 if row.per_task else 1])
    before = {k: v.detach().clone() for k, v in net.named_parameters() if v.requires_grad}
    for _ in range(2):
        output = net(image, task, deep_supervision=True)
        optimizer.zero_grad(set_to_none=True)
        loss(output, label).backward()
        optimizer.step()
        if isinstance(net, TPSeg):
            net.update_prototypes(output.features, label, task)
    still = [k for k, v in net.named_parameters() if k in before and torch.equal(v, before[k])]
    # the first block always runs the shared route, the last the task's own; EfficientNet keeps its classifier
    never = ("encoder.adapters.0.task_", "encoder.adapters.5.shared_")
    never += tuple(f"net.encoder.{part}" for part in ("_conv_head", "_bn1", "_fc"))
    assert [k for k in still if not k.startswith(never)] == []
    assert net.eval()(image, task).shape == (2, 1, 64, 64)


@pytest.mark.parametrize("row", [row for row in SUITE.rows if not row.per_task], ids=lambda row: str(row.id))
def test_only_rows_with_a_part_per_task_tell_tasks_apart(row: Row) -> None:
    net = build(row).eval()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
        image = torch.randn(1, 3, 64, 64)
        plain = row.options.get("decoder") == "unet" and row.options.get("adapter", "tca") != "tca"
        peer = "architecture" in row.options
        assert torch.equal(net(image, 0), net(image, 1)) == (plain or peer)


def test_low_rank_update_is_that_of_the_merged_weight() -> None:
    linear = nn.Linear(6, 5)
    merged = nn.Linear(6, 5)
    x = torch.randn(2, 3, 6)
    before = linear(x)
    update = LowRank(linear, rank=2)
    assert torch.equal(linear(x), before)
    with torch.no_grad():
        update.up.normal_()
        merged.weight.copy_(linear.weight + update.up @ update.down)
        merged.bias.copy_(linear.bias)
    torch.testing.assert_close(linear(x), merged(x))


def test_lora_leaves_the_trunks_names_and_trains_alone() -> None:
    net = tpseg_hiera_demo(num_tasks=2, adapter="lora", freeze_encoder=True).train()
    load_strictly(net.encoder.trunk, tpseg_hiera_demo(num_tasks=1).encoder.trunk.state_dict(), "trunk")
    net(torch.randn(2, 3, 32, 32), 0).sum().backward()
    assert all(p.grad is None for p in net.encoder.trunk.parameters())
    ups = [p.grad for name, p in net.encoder.low_rank.named_parameters() if name.endswith("up")]
    assert len(ups) == 2 * len(net.encoder.trunk.blocks)
    assert all(bool(grad.any()) for grad in ups if grad is not None)
    assert None not in ups


@torch.no_grad()
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("options", [{"adapter": "lora"}, {"adapter": "plain", "decoder": "unet"}], ids=str)
def test_rows_export_to_torchscript(options: dict[str, str]) -> None:
    net = tpseg_hiera_demo(num_tasks=2, **options).eval()
    for parameter in net.parameters():
        parameter.add_(0.05 * torch.randn_like(parameter))
    image, task = torch.randn(3, 3, 96, 32), torch.tensor([0, 1, 1])
    torch.testing.assert_close(torch.jit.script(net)(image, task), net(image, task), atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_a_copy_has_updates_of_its_own() -> None:
    net = tpseg_hiera_demo(num_tasks=1, adapter="lora").eval()
    copied = copy.deepcopy(net)
    image = torch.randn(1, 3, 32, 32)
    before = copied(image)
    nn.init.normal_(net.encoder.low_rank[0].qkv.up)
    assert torch.equal(copied(image), before)
    nn.init.normal_(copied.encoder.low_rank[0].qkv.up)
    assert not torch.equal(copied(image), before)


@torch.no_grad()
@pytest.mark.parametrize("adapter", ["lora", "plain", "none"])
def test_every_adapter_starts_as_the_trunk(adapter: str) -> None:
    net = tpseg_hiera_demo(num_tasks=2, adapter=adapter)
    image = torch.randn(1, 3, 64, 32)
    for ours, theirs in zip(net.encoder(image, torch.tensor([1])), net.encoder.trunk(image), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_plain_adapter_equals_its_formula() -> None:
    adapter = PlainAdapter(6, 4)
    for parameter in adapter.parameters():
        nn.init.normal_(parameter)
    h = torch.randn(2, 3, 5, 6)
    hidden = torch.nn.functional.gelu(h @ adapter.down.weight.T + adapter.down.bias)
    torch.testing.assert_close(adapter(h, torch.zeros(2)), h + hidden @ adapter.up.weight.T + adapter.up.bias)


@pytest.mark.parametrize("number", [1, 2, 3])
def test_without_one_pgtd_two_are_left(number: int) -> None:
    net = tpseg_hiera_demo(num_tasks=2, without_pgtd=[number])
    output = net(torch.randn(2, 3, 64, 64), torch.tensor([0, 1]), deep_supervision=True)
    strides = [s for n, s in ((1, 4), (2, 8), (3, 16)) if n != number]
    assert [f.shape[-1] for f in output.features] == [64 // s for s in strides]
    assert len(net.pgtds) == len(output.prototypes) == 2
    assert len(output.side_logits) == 4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"adapter": "prompt"}, "choose one of tca, lora, plain, none"),
        ({"decoder": "fpn"}, "choose one of pgtd, unet"),
        ({"without_pgtd": [4]}, r"some of 1, 2, 3, got \[4\]"),
        ({"layout": "released", "adapter": "lora"}, "use layout 'paper'"),
        ({"layout": "released", "decoder": "unet"}, "use layout 'paper'"),
    ],
)
def test_unknown_parts_are_named(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tpseg_hiera("hiera_demo", 2, **options)  # type: ignore[arg-type]


def test_unknown_architecture_and_width() -> None:
    with pytest.raises(ValueError, match=r"'vnet'; did you mean unet\? Choose one of tpseg, kprism, unet,"):
        build_network("vnet")
    with pytest.raises(ValueError, match="multiple of 12, got 16"):
        build_network("swin_unetr", width=16)


@pytest.mark.parametrize(
    ("architecture", "options", "message"),
    [
        (
            "unet",
            {"backbone": "hiera_tiny"},
            "backbone 'hiera_tiny' is not an option of architecture 'unet', which has width",
        ),
        ("dynunet", {"detail": 16}, "detail 16 is not an option of architecture 'dynunet'"),
        ("unet", {"freeze_encoder": True}, "freeze_encoder True is not an option"),
        ("tpseg", {"width": 8}, "width 8 is not an option of architecture 'tpseg'"),
        ("kprism", {"reinforcement": 2.0}, "reinforcement 2.0 is not an option of architecture 'kprism'"),
    ],
)
def test_options_of_another_architecture_are_refused(architecture: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_network(architecture, **options)
    build_network("unet", **{"width": 4, **dict.fromkeys(options)})  # None asks for nothing


def test_defaults_are_those_of_the_builders() -> None:
    net, plain = (build_network(num_tasks=1, backbone="hiera_demo", **more) for more in (_defaults("tpseg"), {}))
    assert {k: v.shape for k, v in net.state_dict().items()} == {k: v.shape for k, v in plain.state_dict().items()}
    assert [pgtd.reinforcement for pgtd in net.decoder.pgtds] == [5.0] * 3
    small = {"num_tasks": 1, "backbone": "utnet_demo"}
    shapes = (
        {k: v.shape for k, v in build_network("kprism", **small, **more).state_dict().items()}
        for more in (_defaults("kprism"), {})
    )
    assert next(shapes) == next(shapes)


def _defaults(architecture: str) -> dict[str, Any]:
    return {key: value for key, value in default_options(architecture).items() if key != "backbone"}


@torch.no_grad()
def test_contrast_needs_prototypes() -> None:
    net = tpseg_hiera_demo(num_tasks=1, decoder="unet")
    output = net(torch.randn(1, 3, 32, 32), 0, deep_supervision=True)
    label: Tensor = torch.ones(1, 1, 32, 32)
    assert torch.equal(TPSegLoss(contrastive_weight=1.0)(output, label), TPSegLoss()(output, label))


@pytest.mark.parametrize(
    ("size", "spacing", "stages", "last_filters"),
    [
        ((512, 512), (1.0, 1.0), 8, 512),  # 512 -> 4 in seven halvings
        ((128, 128), (1.0, 1.0), 6, 512),
        ((64, 64), (1.0, 1.0), 5, 512),
        ((48, 48), (1.0, 1.0), 4, 256),  # 48, 24, 12, 6
    ],
)
def test_nnunet_plan_of_isotropic_pictures(
    size: tuple[int, int], spacing: tuple[float, float], stages: int, last_filters: int
) -> None:
    plan = nnunet_plan_2d(size, spacing)
    assert plan["strides"] == [[1, 1]] + [[2, 2]] * (stages - 1)
    assert plan["kernel_size"] == [[3, 3]] * stages
    assert plan["upsample_kernel_size"] == plan["strides"][1:]
    assert plan["filters"][0] == 32
    assert plan["filters"][-1] == last_filters


def test_nnunet_plan_of_thick_rows() -> None:
    # rows of 3 mm, columns of 1 mm: columns are halved alone until they are as coarse, with kernels of one row
    plan = nnunet_plan_2d((128, 256), (3.0, 1.0))
    assert plan["strides"][:4] == [[1, 1], [1, 2], [2, 2], [2, 2]]
    assert plan["kernel_size"][:3] == [[1, 3], [3, 3], [3, 3]]
