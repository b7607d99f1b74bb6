"""Optimisation of parameters that have one row per task."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any

import torch
from monai.optimizers import WarmupCosineSchedule
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR

from monai_tpseg.networks import hiera_of, unwrap
from monai_tpseg.words import choose

__all__ = ["LR_SCHEDULES", "TaskAdamW", "is_task_rows", "lr_schedule", "parameter_groups"]

LR_SCHEDULES = ("constant", "cosine")


def is_task_rows(name: str) -> bool:
    """Whether a parameter has one row per task: by convention, the last part of its name starts with `task_`."""
    return name.rpartition(".")[2].startswith("task_")


def parameter_groups(
    network: nn.Module, lr: float, gate_lr: float = 5e-3, weight_decay: float = 0.0, layer_decay: float = 1.0
) -> list[dict[str, Any]]:
    """Sort the trainable parameters of a network into groups for `TaskAdamW`.

    Args:
        network: TP-Seg, or any other network (with one or two groups).
        lr: learning rate.
        gate_lr: learning rate of the split vectors, which need thousands of steps at `lr` to move by one block.
        weight_decay: decoupled weight decay of matrices and kernels; vectors and the gate get none.
        layer_decay: factor of the learning rate from each trunk block to the one before it, in [0, 1], so that early
            layers of a pretrained trunk change least (Clark et al. 2020, arXiv 2003.10555). Parameters outside the
            trunk use `lr`, its last block `layer_decay` times `lr`, its patch embedding the lowest rate.

    Returns:
        groups, with `task_rows` set for parameters with one row per task.

    Raises:
        ValueError: `layer_decay` is out of range.
    """
    if not 0 <= layer_decay <= 1:
        raise ValueError(f"layer_decay must be a number from 0 to 1, got {layer_decay}.")
    hiera = hiera_of(unwrap(network))
    blocks = 0 if hiera is None else len(hiera.trunk.blocks)
    groups: dict[tuple[bool, bool, float, float], dict[str, Any]] = {}
    for name, parameter in network.named_parameters():
        if not parameter.requires_grad:
            continue
        rows = is_task_rows(name)
        gate = name.endswith("task_split")
        rate = gate_lr if gate else lr * layer_decay ** _blocks_after(name, blocks)
        decay = 0.0 if gate or parameter.ndim < 2 + rows else weight_decay
        group = groups.setdefault(
            (rows, gate, rate, decay), {"params": [], "lr": rate, "weight_decay": decay, "task_rows": rows}
        )
        group["params"].append(parameter)
    return list(groups.values())


def _blocks_after(name: str, blocks: int) -> int:
    """Distance of a parameter from the end of the trunk: 0 outside the trunk, 1 in its last block."""
    match = re.search(r"\btrunk\.(?:blocks\.(\d+)\.)?", name)
    if match is None:
        return 0
    return blocks + 1 if match[1] is None else blocks - int(match[1])


class TaskAdamW(AdamW):
    """AdamW that treats each task row of a `task_rows` group as a separate parameter.

    A row with a gradient of exactly zero, from a task absent from the batch or a hard gate, is left unchanged: no
    weight decay, no momentum drift, no step counted. The decision is made on the device from the gradient itself, so it
    needs no list of tasks and is the same on every rank after gradient averaging.

    Args:
        params: as in `torch.optim.AdamW`; groups may set `task_rows`.
        **kwargs: as in `torch.optim.AdamW`, but for `maximize` and `amsgrad`. `fused=True` updates the other groups in
            one pass over memory, on a CPU and on a GPU.

    Raises:
        ValueError: `maximize` or `amsgrad` is set.
    """

    def __init__(self, params: Iterable[Any], **kwargs: Any) -> None:
        refused = [name for name in ("maximize", "amsgrad") if kwargs.get(name)]
        if refused:
            raise ValueError(f"TaskAdamW does not support {' and '.join(refused)}; leave it out.")
        super().__init__(params, **kwargs)
        for group in self.param_groups:
            group.setdefault("task_rows", False)
        # a `GradScaler` would leave unscaling and skipping to a fused kernel, which does not see the rows
        self._step_supports_amp_scaling = False

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Take one step; `closure` as in torch."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        rows = [(group, p, p.grad) for group in self.param_groups if group["task_rows"] for p in group["params"]]
        for _, parameter, _ in rows:
            parameter.grad = None  # the base class passes over it
        super().step()
        for group, parameter, gradient in rows:
            parameter.grad = gradient
            if gradient is not None:
                self._step_rows(group, parameter, gradient)
        return loss

    def _step_rows(self, group: dict[str, Any], parameter: Tensor, gradient: Tensor) -> None:
        state = self.state[parameter]
        if not state:
            state["step"] = torch.zeros(len(parameter), device=parameter.device)
            state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(parameter), torch.zeros_like(parameter)
        beta1, beta2 = group["betas"]
        column = (-1, *[1] * (parameter.ndim - 1))
        present = (gradient != 0).flatten(1).any(1) if parameter.ndim > 1 else gradient != 0
        # loading a state leaves counters where the file had them; the rows' must be beside their parameter
        state["step"] = state["step"].to(parameter.device) + present
        mask = present.to(parameter.dtype).view(column)
        state["exp_avg"].lerp_(gradient, (1 - beta1) * mask)
        state["exp_avg_sq"].lerp_(gradient.square(), (1 - beta2) * mask)
        step = state["step"].clamp_min(1).view(column)
        denominator = (state["exp_avg_sq"] / (1 - beta2**step)).sqrt_().add_(group["eps"])
        if group["weight_decay"]:
            parameter.mul_(1 - group["lr"] * group["weight_decay"] * mask)
        update = (state["exp_avg"] / denominator).mul_(group["lr"] * mask / (1 - beta1**step))
        parameter.sub_(update)


def lr_schedule(optimizer: Optimizer, name: str, total: int, warmup: float = 0.0, final_lr: float = 0.0) -> LambdaLR:
    """Return a schedule to be stepped every iteration, even if a `GradScaler` skips the optimiser's step.

    It thus ends with the training.

    Args:
        optimizer: optimiser with the learning rates to scale.
        name: "constant" (the paper's) or "cosine" down to `final_lr`.
        total: iterations of the training.
        warmup: fraction of them with a linear rise at the start, in [0, 1); only for "cosine".
        final_lr: the smallest learning rate; only for "cosine".

    Raises:
        ValueError: another name.
    """
    if name == "constant":
        return LambdaLR(optimizer, lambda step: 1.0)
    if name == "cosine":
        cosine: LambdaLR = WarmupCosineSchedule(
            optimizer, warmup_steps=int(warmup * total), t_total=max(1, total), end_lr=final_lr
        )
        return cosine
    raise ValueError(f"Unknown lr_schedule {name!r}; {choose(name, LR_SCHEDULES)}.")
