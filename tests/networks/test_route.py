"""The split gate: monotone, trainable, exact when hard, and able to find where a task splits."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from monai_tpseg.networks.adapter import TaskAdapter
from monai_tpseg.networks.route import SplitGate


@pytest.fixture
def gate() -> SplitGate:
    gate = SplitGate(3, 12)
    torch.nn.init.normal_(gate.task_split, std=2.0)
    return gate


def naive_gate(split: Tensor, blocks: int, temperature: float) -> list[float]:
    """The docstring's formula, one number at a time."""
    d = [float(torch.log1p(torch.exp(x))) for x in split.double()]
    w = [0.0]
    for b in range(2, blocks):
        z = (sum(d[:b]) - 0.5 * sum(d)) / temperature
        w.append(1 / (1 + float(torch.exp(torch.tensor(-z)))))
    return [*w, 1.0]


def test_equals_the_formula(gate: SplitGate) -> None:
    gate.set_temperature(0.7)
    expected = torch.tensor([naive_gate(row, 12, 0.7) for row in gate.task_split.detach()])
    torch.testing.assert_close(gate.table(), expected, atol=1e-5, rtol=1e-5)


def test_monotone_with_fixed_ends(gate: SplitGate) -> None:
    table = gate.table()
    assert (table.diff(dim=1) >= 0).all()
    assert (table[:, 0] == 0).all()
    assert (table[:, -1] == 1).all()


def test_starts_in_the_middle() -> None:
    assert SplitGate(2, 48).split_positions().tolist() == [24, 24]


def test_hard_equals_the_limit_of_soft(gate: SplitGate) -> None:
    gate.set_temperature(1e-4)
    soft = gate.table()
    gate.set_hard(True)
    torch.testing.assert_close(gate.table(), soft, atol=1e-4, rtol=0)
    assert set(gate.table().unique().tolist()) == {0.0, 1.0}
    first = gate.table().argmax(dim=1) + 1
    assert first.tolist() == gate.split_positions().tolist()


@pytest.mark.parametrize("extreme", [50.0, -50.0])
def test_position_stays_inside(extreme: float) -> None:
    gate = SplitGate(2, 8)
    with torch.no_grad():
        gate.task_split[0, 0] = extreme
        gate.task_split[1, -1] = extreme
    assert ((gate.split_positions() >= 2) & (gate.split_positions() <= 7)).all()


def test_hardness_is_loaded_with_the_weights(gate: SplitGate) -> None:
    gate.set_hard(True)
    gate.set_temperature(0.3)
    other = SplitGate(3, 12)
    other.load_state_dict(gate.state_dict())
    assert other.is_hard
    torch.testing.assert_close(other.table(), gate.table())


def test_temperature_must_be_positive(gate: SplitGate) -> None:
    with pytest.raises(ValueError, match="got 0"):
        gate.set_temperature(0.0)


class Stack(torch.nn.Module):
    """Adapters in a row under one gate: the smallest network in which a split position means something."""

    def __init__(self, blocks: int) -> None:
        super().__init__()
        self.gate = SplitGate(1, blocks)
        self.adapters = torch.nn.ModuleList(TaskAdapter(4, 1, bottleneck=4) for _ in range(blocks))

    def forward(self, x: Tensor) -> Tensor:
        task = torch.zeros(len(x), dtype=torch.long)
        gates = self.gate(task)
        for i, adapter in enumerate(self.adapters):
            x = adapter(x, task, gates[:, i], self.gate.is_hard)
        return x


def split_learnt_from(teacher_split: int, blocks: int = 10) -> float:
    """Train only the gate of a student whose teacher splits at block `teacher_split`; return its b*."""
    torch.manual_seed(3)
    student = Stack(blocks)
    for adapter in student.adapters:
        torch.nn.init.normal_(adapter.shared_up, std=0.3)
        torch.nn.init.normal_(adapter.task_up, std=0.3)
    x = torch.randn(16, 3, 3, 4)
    task = torch.zeros(16, dtype=torch.long)
    y = x
    for i, adapter in enumerate(student.adapters):
        y = adapter(y, task, torch.full((16,), float(i + 1 >= teacher_split)), True)
    optimizer = torch.optim.Adam([student.gate.task_split], lr=0.1)
    for _ in range(120):
        optimizer.zero_grad()
        torch.nn.functional.mse_loss(student(x), y.detach()).backward()
        optimizer.step()
    return float(student.gate.split_positions())


def test_follows_an_early_and_a_late_teacher() -> None:
    assert split_learnt_from(3) < split_learnt_from(9)


def test_every_stored_value_gets_a_gradient_once_the_adapters_moved() -> None:
    net = Stack(8)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.5)
    x, y = torch.randn(4, 3, 3, 4), torch.randn(4, 3, 3, 4)
    torch.nn.functional.mse_loss(net(x), y).backward()
    assert not net.gate.task_split.grad.any()  # the up-projections are still zero
    optimizer.step()
    optimizer.zero_grad()
    torch.nn.functional.mse_loss(net(x), y).backward()
    assert (net.gate.task_split.grad != 0).all()


def test_hard_gate_gives_a_zero_gradient_not_none(gate: SplitGate) -> None:
    gate.set_hard(True)
    gate(torch.tensor([0, 1, 2])).sum().backward()
    assert gate.task_split.grad is not None
    assert not gate.task_split.grad.any()
