from __future__ import annotations

from collections import Counter

import pytest
import torch
from ignite.engine import Events
from monai.data import DataLoader, Dataset
from monai.engines import SupervisedTrainer

from monai_tpseg.data.samplers import TaskBalancedSampler

TASKS = [0] * 200 + [1] * 20 + [2] * 5


def test_tasks_are_drawn_equally_often_and_cases_within_a_task_too() -> None:
    drawn = list(TaskBalancedSampler(TASKS, num_samples=30_000, seed=3))
    counts = Counter(TASKS[case] for case in drawn)
    for task in range(3):
        assert counts[task] == pytest.approx(10_000, rel=0.04)  # 4 sigma is 3.3 %
    rare = Counter(case for case in drawn if TASKS[case] == 2)
    assert set(rare) == set(range(220, 225))
    assert max(rare.values()) < 1.2 * min(rare.values())


def test_names_draw_like_rows() -> None:
    names = [f"task_{task}" for task in TASKS]
    assert list(TaskBalancedSampler(names)) == list(TaskBalancedSampler(TASKS))


def test_the_draw_depends_on_seed_and_epoch_only() -> None:
    def draw(seed: int, epoch: int) -> list[int]:
        sampler = TaskBalancedSampler(TASKS, seed=seed)
        sampler.set_epoch(epoch)
        torch.rand(3)  # the global generator has no say
        assert list(sampler) == list(sampler)
        return list(sampler)

    assert draw(0, 1) == draw(0, 1)
    assert len({tuple(draw(*pair)) for pair in [(0, 0), (0, 1), (1, 0), (1, 1)]}) == 4


@pytest.mark.parametrize("num_samples", [None, 30, 31])
def test_ranks_share_one_draw(num_samples: int | None) -> None:
    single = TaskBalancedSampler(TASKS, num_samples)
    ranks = [TaskBalancedSampler(TASKS, num_samples, rank=rank, num_replicas=3) for rank in range(3)]
    for sampler in (single, *ranks):
        sampler.set_epoch(4)
    parts = [list(sampler) for sampler in ranks]
    assert [len(part) for part in parts] == [len(ranks[0])] * 3
    woven = [case for step in zip(*parts, strict=True) for case in step]
    assert woven == list(single)[: len(woven)]
    assert len(single) - len(woven) < 3


def test_monai_sets_the_epoch() -> None:
    data = Dataset([{"image": torch.zeros(1), "label": torch.zeros(1)}] * len(TASKS))
    loader = DataLoader(data, sampler=TaskBalancedSampler(TASKS, num_samples=2), batch_size=1)
    network = torch.nn.Linear(1, 1)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    trainer = SupervisedTrainer("cpu", 3, loader, network, optimizer, torch.nn.MSELoss())
    epochs: list[int] = []
    trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda: epochs.append(loader.sampler.epoch))
    trainer.run()
    assert epochs == [1, 2, 3]


def test_no_cases_give_no_draws() -> None:
    assert list(TaskBalancedSampler([], num_samples=8)) == []
    assert len(TaskBalancedSampler([])) == 0


def test_bad_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match="at least the 4 processes, got 3"):
        TaskBalancedSampler([0, 1, 1], num_replicas=4, rank=0)
    with pytest.raises(ValueError, match="Invalid rank"):
        TaskBalancedSampler([0, 1, 1], num_replicas=2, rank=2)


@pytest.mark.parametrize("balance", [0.0, 0.5, 1.0])
def test_balance_lies_between_cases_and_tasks_equally_often(balance: float) -> None:
    drawn = Counter(TASKS[case] for case in TaskBalancedSampler(TASKS, num_samples=60_000, seed=1, balance=balance))
    shares = [n ** (1 - balance) for n in (200, 20, 5)]
    for task, share in enumerate(shares):
        assert drawn[task] == pytest.approx(60_000 * share / sum(shares), rel=0.08)


def test_balance_out_of_range() -> None:
    with pytest.raises(ValueError, match=r"balance must be in \[0, 1\], got 2"):
        TaskBalancedSampler(TASKS, balance=2)
