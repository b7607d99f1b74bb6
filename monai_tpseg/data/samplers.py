"""A sampler that balances tasks whose data sets differ in size."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

import torch
import torch.distributed as dist
from torch.utils.data.distributed import DistributedSampler

__all__ = ["TaskBalancedSampler"]


class TaskBalancedSampler(DistributedSampler[int]):
    """Draws cases with replacement, by default each with weight 1 / (number of cases of its task).

    So every task is drawn equally often, and a small one's cases again and again. With a lower `balance` a task with n
    cases is drawn in proportion to n^(1 - balance): at 0 every case is drawn equally often.

    The draw is a function of (seed, epoch) alone. All ranks make the same draw and each takes every n-th item of it,
    so that the ranks together see what one process would. It is a `DistributedSampler`, for which MONAI's engines
    call `set_epoch` when an epoch starts, also on a single process.

    Args:
        tasks: the task of every case, a row number or a name, in the order of the data set.
        num_samples: draws per epoch over all ranks, default the number of cases. What does not divide evenly among
            the ranks is left out of the draw's end.
        seed: seed of the draw, 0 or more.
        balance: in [0, 1], see above.
        rank: this process, default from `torch.distributed` if that is initialised, else 0.
        num_replicas: number of processes, default from `torch.distributed` if that is initialised, else 1.

    Raises:
        ValueError: the rank is not one of the processes, there are fewer draws than processes, or `balance` is out of
            its range.
    """

    def __init__(
        self,
        tasks: Sequence[int] | Sequence[str],
        num_samples: int | None = None,
        seed: int = 0,
        rank: int | None = None,
        num_replicas: int | None = None,
        balance: float = 1.0,
    ) -> None:
        if not 0.0 <= balance <= 1.0:
            raise ValueError(f"balance must be in [0, 1], got {balance}.")
        distributed = dist.is_available() and dist.is_initialized()
        if num_replicas is None:
            num_replicas = dist.get_world_size() if distributed else 1
        if rank is None:
            rank = dist.get_rank() if distributed else 0
        self.draws = len(tasks) if num_samples is None or not len(tasks) else num_samples
        if len(tasks) and self.draws < num_replicas:
            raise ValueError(f"num_samples must be at least the {num_replicas} processes, got {self.draws}.")
        rows = [task if isinstance(task, str) else int(task) for task in tasks]
        # the base class only takes the length of what it is given, and checks the rank
        super().__init__(rows, num_replicas=num_replicas, rank=rank, seed=seed)  # type: ignore[arg-type]
        self.num_samples = self.draws // num_replicas
        self.total_size = self.num_samples * num_replicas
        counts = Counter(rows)
        self.weights = torch.tensor([counts[row] ** -balance for row in rows], dtype=torch.float64)

    def __iter__(self) -> Iterator[int]:
        """Yield this rank's case numbers of the current epoch."""
        # one integer from the pair, so that (seed 0, epoch 1) and (seed 1, epoch 0) are different draws
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        if not len(self.weights):
            return iter(())
        draw = torch.multinomial(self.weights, self.draws, replacement=True, generator=generator)
        return iter(draw[self.rank : self.total_size : self.num_replicas].tolist())
