"""Rows of absent tasks stay where they are; present rows follow plain AdamW."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch

from monai_tpseg.engines.optim import TaskAdamW, is_task_rows, lr_schedule, parameter_groups
from monai_tpseg.networks import tpseg_hiera_demo


def test_a_trunk_learns_the_less_the_earlier_its_part_is() -> None:
    """Against the rule written out by hand for the six blocks of the smallest trunk."""
    net = tpseg_hiera_demo(num_tasks=2, stem="conv")
    rates = {id(p): group["lr"] for group in parameter_groups(net, 0.1, 0.3, layer_decay=0.5) for p in group["params"]}
    for name, parameter in net.named_parameters():
        trunk = name.startswith("encoder.trunk.")
        block = int(name.split(".")[3]) if trunk and ".blocks." in name else -1
        expected = 0.1 * 0.5 ** (6 - block) if trunk else 0.3 if name.endswith("task_split") else 0.1
        assert rates[id(parameter)] == pytest.approx(expected), name
    with pytest.raises(ValueError, match="layer_decay must be a number from 0 to 1, got 2"):
        parameter_groups(net, 0.1, layer_decay=2)


class Rows(torch.nn.Module):
    """One parameter with a row per task, one vector with an entry per task, one shared matrix."""

    def __init__(self) -> None:
        super().__init__()
        self.task_weight = torch.nn.Parameter(torch.randn(3, 4))
        self.task_bias = torch.nn.Parameter(torch.randn(3))
        self.shared = torch.nn.Parameter(torch.randn(4, 4))

    def forward(self, x: torch.Tensor, task: torch.Tensor) -> torch.Tensor:
        return ((x @ self.shared) * self.task_weight[task]).sum(1) + self.task_bias[task]


def optimizer_of(net: torch.nn.Module) -> TaskAdamW:
    return TaskAdamW(parameter_groups(net, lr=0.05, weight_decay=0.1), lr=0.05)


def step(net: Rows, optimizer: torch.optim.Optimizer, task: list[int]) -> None:
    optimizer.zero_grad()
    x = torch.randn(len(task), 4, generator=torch.Generator().manual_seed(len(task)))
    net(x, torch.tensor(task)).square().sum().backward()
    optimizer.step()


def test_absent_rows_keep_value_momentum_and_decay() -> None:
    net = Rows()
    optimizer = optimizer_of(net)
    step(net, optimizer, [0, 1, 2])  # every row now has momentum
    before = {n: p.detach().clone() for n, p in net.named_parameters()}
    moments = {n: optimizer.state[p]["exp_avg"].clone() for n, p in net.named_parameters()}
    for _ in range(3):
        step(net, optimizer, [0, 2])
    for name in ("task_weight", "task_bias"):
        parameter = net.get_parameter(name)
        assert torch.equal(parameter[1], before[name][1])
        assert torch.equal(optimizer.state[parameter]["exp_avg"][1], moments[name][1])
        assert (parameter[[0, 2]] != before[name][[0, 2]]).all()


def test_every_row_follows_adamw_on_its_own_steps() -> None:
    """Row t after steps in which t was present equals AdamW on that row alone."""
    torch.manual_seed(1)
    parameter = torch.nn.Parameter(torch.randn(3, 4))
    rows = [torch.nn.Parameter(parameter[i].detach().clone()) for i in range(3)]
    ours = TaskAdamW([{"params": [parameter], "task_rows": True}], lr=0.1, weight_decay=0.1)
    theirs = [torch.optim.AdamW([row], lr=0.1, weight_decay=0.1) for row in rows]
    for present in ([0, 1], [1], [0, 1, 2], [2], [0]):
        gradient = torch.zeros(3, 4)
        gradient[present] = torch.randn(len(present), 4)
        parameter.grad = gradient
        ours.step()
        for i in present:
            rows[i].grad = gradient[i]
            theirs[i].step()
    torch.testing.assert_close(parameter.detach(), torch.stack([row.detach() for row in rows]))


def test_other_parameters_follow_adamw() -> None:
    torch.manual_seed(1)
    net, twin = Rows(), Rows()
    twin.load_state_dict(net.state_dict())
    groups = [{"params": [twin.shared], "weight_decay": 0.1}, {"params": [twin.task_weight, twin.task_bias]}]
    theirs = torch.optim.AdamW(groups, lr=0.05, weight_decay=0.0)
    ours = optimizer_of(net)
    step(net, ours, [0, 1, 2])
    step(twin, theirs, [0, 1, 2])  # type: ignore[arg-type]
    torch.testing.assert_close(net.shared, twin.shared)
    torch.testing.assert_close(net.task_bias, twin.task_bias)  # vectors are not decayed


def test_state_is_saved_and_loaded() -> None:
    net = Rows()
    optimizer = optimizer_of(net)
    step(net, optimizer, [0, 1])
    copy = Rows()
    copy.load_state_dict(net.state_dict())
    resumed = optimizer_of(copy)
    resumed.load_state_dict(deepcopy(optimizer.state_dict()))  # torch would share the tensors
    step(net, optimizer, [1, 2])
    step(copy, resumed, [1, 2])
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), copy.parameters(), strict=True))


def test_in_the_network_a_task_absent_from_the_batch_keeps_all_its_rows() -> None:
    net = tpseg_hiera_demo(num_tasks=3)
    optimizer = TaskAdamW(parameter_groups(net, lr=0.01, weight_decay=0.1), lr=0.01)

    def train(task: list[int]) -> None:
        optimizer.zero_grad()
        net(torch.randn(len(task), 3, 32, 32), torch.tensor(task)).square().mean().backward()
        optimizer.step()

    train([0, 1, 2])
    before = {n: p.detach().clone() for n, p in net.named_parameters()}
    train([0, 2])
    rows = [n for n in before if is_task_rows(n)]
    assert len(rows) > 10
    for name in rows:
        assert torch.equal(net.get_parameter(name)[1], before[name][1]), name
    assert any(not torch.equal(net.get_parameter(n)[0], before[n][0]) for n in rows)


def test_groups_cover_every_trainable_parameter_once() -> None:
    net = tpseg_hiera_demo(num_tasks=2, freeze_encoder=True)
    groups = parameter_groups(net, lr=1e-3, gate_lr=5e-3, weight_decay=0.1)
    ids = [id(p) for g in groups for p in g["params"]]
    assert sorted(ids) == sorted(id(p) for p in net.parameters() if p.requires_grad)
    gate = next(g for g in groups if any(p is net.encoder.gate.task_split for p in g["params"]))
    assert (gate["lr"], gate["weight_decay"], len(gate["params"])) == (5e-3, 0.0, 1)


def test_schedules() -> None:
    parameter = torch.nn.Parameter(torch.zeros(1))
    rates = []
    optimizer = torch.optim.SGD([parameter], lr=1.0)
    schedule = lr_schedule(optimizer, "cosine", total=10, warmup=0.2)
    for _ in range(10):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert rates[0] < rates[1] < rates[2] == max(rates)
    assert rates[-1] < 0.1
    with pytest.raises(ValueError, match="Unknown lr_schedule 'linear'; choose one of constant, cosine"):
        lr_schedule(optimizer, "linear", total=10)


def test_fused_is_the_same_on_kernels_of_any_layout() -> None:
    torch.manual_seed(0)
    nets = [torch.nn.Conv2d(4, 6, 3), torch.nn.Conv2d(4, 6, 3)]
    nets[1].load_state_dict(nets[0].state_dict())
    nets[1].to(memory_format=torch.channels_last)
    optimizers = [TaskAdamW(parameter_groups(n, 0.1, 0.1, 0.1), lr=0.1, fused=bool(i)) for i, n in enumerate(nets)]
    for _ in range(3):
        x = torch.randn(2, 4, 8, 8)
        for net, optimizer in zip(nets, optimizers, strict=True):
            optimizer.zero_grad()
            net(x).square().mean().backward()
            optimizer.step()
    torch.testing.assert_close(nets[1].weight, nets[0].weight)
    assert not getattr(optimizers[1], "_step_supports_amp_scaling", True)  # a scaler skips the rows too
