"""A task from exemplars: what its rows hold, and that the other tasks stay what they were, bit for bit."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from monai_tpseg.engines.row_tuning import TuningError, tune_row
from monai_tpseg.networks import TPSeg, tpseg_hiera_demo
from monai_tpseg.networks.new_task_rows import Start, add_task, nearest_task, set_prototypes
from monai_tpseg.networks.task_rows import NewRow

TASKS = 3
NEW = TASKS
FORMS: list[dict[str, Any]] = [{}, {"layout": "released"}, {"routes": "shared"}, {"without_pgtd": [2]}]


def trained(tasks: int = TASKS, **options: Any) -> TPSeg:
    """A network with hard gates whose every row differs, as after a training."""
    net = tpseg_hiera_demo(tasks, **options)
    for name, parameter in net.named_parameters():
        if "trunk" not in name and not name.endswith("temperature"):
            parameter.data += 0.05 * torch.randn_like(parameter)
    if net.encoder.gate is not None:
        net.encoder.gate.task_split.data.normal_()
        net.encoder.gate.set_hard(True)
    return net.eval()


@pytest.fixture(scope="module")
def shown() -> tuple[Tensor, Tensor]:
    """Three exemplars: a bright square each, of other size and place."""
    torch.manual_seed(1)
    image, label = 0.3 * torch.randn(3, 3, 64, 64), torch.zeros(3, 1, 64, 64)
    for n, side in enumerate((12, 20, 30)):
        label[n, :, 5 * n : 5 * n + side, 10 : 10 + side] = 1
    return image + 2 * label, label


def grown(net: TPSeg, shown: tuple[Tensor, Tensor], start: Start = "identity", **options: Any) -> TPSeg:
    wider = tpseg_hiera_demo(TASKS + 1, **options)
    add_task(net, wider, *shown, start=start)
    return wider


@pytest.mark.parametrize("options", FORMS, ids=str)
def test_old_tasks_give_what_they_gave(options: dict[str, Any], shown: tuple[Tensor, Tensor]) -> None:
    net = trained(**options)
    wider = grown(net, shown, "nearest", **options)
    tune_row(wider, NEW, *shown, steps=2)
    task = torch.arange(TASKS)
    with torch.no_grad():
        assert torch.equal(wider(shown[0], task), net(shown[0], task))
    for name, value in net.state_dict().items():
        now = wider.state_dict()[name]
        assert torch.equal(now if now.shape == value.shape else now[:TASKS], value), name


@torch.no_grad()
def test_the_adapter_starts_as_the_identity(shown: tuple[Tensor, Tensor]) -> None:
    wider = grown(trained(), shown)
    encoder, task = wider.encoder, torch.full((3,), NEW)
    h, shared, ends = encoder.start(shown[0]), encoder.shared_blocks(NEW), []
    for i, block in enumerate(encoder.trunk.blocks):
        adapted = encoder.adapt(i, h, task, torch.zeros(3, len(encoder.trunk.blocks))) if i < shared else h
        h = block(adapted)
        if i in encoder.trunk.stage_ends:
            ends.append(h.permute(0, 3, 1, 2))
    for expected, found in zip(ends, encoder(shown[0], task), strict=True):
        assert torch.allclose(found, expected, atol=1e-5)


@torch.no_grad()
def test_prototypes_are_mean_features_under_the_masks_coarse_to_fine(shown: tuple[Tensor, Tensor]) -> None:
    wider = grown(trained(), shown)
    features = wider(shown[0], NEW, deep_supervision=True).features  # those that the prototypes themselves lead to
    for pgtd, encoded in zip(wider.pgtds, features, strict=True):
        cell = 64 // encoded.shape[-1]
        for region, mask in enumerate((1 - shown[1], shown[1])):
            total = torch.zeros(encoded.shape[1])
            for f, m in zip(encoded, mask[:, 0], strict=True):
                share = m.reshape(64 // cell, cell, 64 // cell, cell).mean((1, 3))
                mean = sum(
                    (f[:, i, j] * share[i, j] for i in range(len(share)) for j in range(len(share))),
                    torch.zeros(len(f)),
                )
                total += mean / mean.norm()
            assert torch.allclose(pgtd.bank.prototypes[NEW, region], total / total.norm(), atol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("row", range(TASKS))
def test_rows_come_from_the_task_that_the_exemplars_are_most_like(row: int, shown: tuple[Tensor, Tensor]) -> None:
    net = trained()
    set_prototypes(net, *shown, row)  # as if this task had been trained on such pictures
    wider = tpseg_hiera_demo(TASKS + 1)
    nearest = add_task(net, wider, *shown, start="identity")
    assert nearest.row == row
    assert float(nearest.similarities[row]) == pytest.approx(1, abs=1e-5)
    for name, parameter in wider.named_parameters():
        if name.endswith(("head.task_weight", "task_bias", "fusion.task_weight", "task_split")):
            assert torch.equal(parameter[NEW], parameter[row]), name
        if name.endswith("task_up"):
            assert not parameter[NEW].any()


@torch.no_grad()
def test_the_nearest_task_as_a_start(shown: tuple[Tensor, Tensor]) -> None:
    net = trained()
    wider = grown(net, shown, "nearest")
    row = nearest_task(net, *shown).row
    for name, parameter in wider.named_parameters():
        if name.rpartition(".")[2].startswith("task_"):
            assert torch.equal(parameter[NEW], parameter[row]), name
    coarsest = wider.pgtds[-1].bank  # its features are those of the nearest task: the adapters are the same
    features = net(shown[0], row, deep_supervision=True).features[-1]
    mean = torch.nn.functional.normalize(coarsest.class_means(features, shown[1]).sum(0), dim=-1)
    half = torch.nn.functional.normalize(coarsest.prototypes[row] + mean, dim=-1)
    assert torch.allclose(coarsest.prototypes[NEW], half, atol=1e-5)
    with pytest.raises(ValueError, match="Unknown start 'zero'; choose one of nearest, identity"):
        add_task(net, wider, *shown, start="zero")  # type: ignore[arg-type]


def test_other_rows_keep_their_prototypes(shown: tuple[Tensor, Tensor]) -> None:
    net = trained()
    before = [pgtd.bank.prototypes.clone() for pgtd in net.pgtds]
    set_prototypes(net, *shown, row=1)
    for pgtd, old in zip(net.pgtds, before, strict=True):
        assert torch.equal(pgtd.bank.prototypes[[0, 2]], old[[0, 2]])
        assert not torch.allclose(pgtd.bank.prototypes[1], old[1])
        assert torch.allclose(pgtd.bank.prototypes[1].norm(dim=-1), torch.ones(2))


def test_only_the_rows_are_leaves(shown: tuple[Tensor, Tensor]) -> None:
    wider = grown(trained(), shown)
    own = NewRow(wider, NEW).train()
    assert not wider.training
    output = own(shown[0], torch.full((3,), NEW), deep_supervision=True)
    sum(x.sum() for x in (output.logits, *output.side_logits)).backward()  # type: ignore[union-attr]
    assert all(p.grad is None and not p.requires_grad for p in wider.parameters())
    reached = {name.rpartition(".")[2] for name, row in zip(own.names, own.rows, strict=True) if row.grad.any()}
    assert reached == {"task_up", "task_weight", "task_bias"}  # up is zero: nothing reaches down in the first step


def test_tuning_lowers_the_loss_the_same_way_each_time(shown: tuple[Tensor, Tensor]) -> None:
    net, results = trained(), []
    for seed in (0, 0, 1):
        wider = tpseg_hiera_demo(TASKS + 1)
        torch.manual_seed(5)
        wider.load_state_dict(grown(net, shown).state_dict())
        prototypes = wider.pgtds[0].bank.prototypes.clone()
        before = _error(wider, shown)
        tune_row(wider, NEW, *shown, steps=12, lr=3e-3, seed=seed)
        assert _error(wider, shown) < before
        assert torch.equal(wider.pgtds[0].bank.prototypes, prototypes)
        results.append(wider.state_dict())
    assert all(torch.equal(results[0][name], results[1][name]) for name in results[0])
    assert any(not torch.equal(results[0][name], results[2][name]) for name in results[0])


@torch.no_grad()
def _error(net: TPSeg, shown: tuple[Tensor, Tensor]) -> float:
    return float(torch.nn.functional.binary_cross_entropy_with_logits(net(shown[0], NEW), shown[1]))


def test_a_loss_that_is_no_number_ends_the_tuning_and_changes_nothing(shown: tuple[Tensor, Tensor]) -> None:
    wider = grown(trained(), shown)
    before = {name: value.clone() for name, value in wider.state_dict().items()}
    image = shown[0].clone()
    image[:] = torch.nan
    with pytest.raises(TuningError, match="The loss is nan at step 1; use a lower --lr"):
        tune_row(wider, NEW, image, shown[1], steps=3)
    assert all(torch.equal(value, before[name]) for name, value in wider.state_dict().items())


@torch.no_grad()
def test_the_fast_network_and_several_tasks_take_the_new_row(shown: tuple[Tensor, Tensor]) -> None:
    wider, image = grown(trained(), shown), shown[0]
    expected = torch.cat([wider(image, row) for row in (NEW, 0)], dim=1)
    assert torch.allclose(wider.segment_tasks(image, [NEW, 0]), expected, atol=1e-4)
    fast = wider.optimize_for_inference([NEW])
    assert torch.allclose(fast(image, NEW), expected[:, :1], atol=1e-4 * float(expected.abs().max()) + 1e-4)
