"""Does it run on a GPU, and does it give what a CPU gives? Each check ends in OUT/smoke.json, with its seconds.

python -m benchmarks.gpu_smoke --out OUT [--device cpu] [--no-compile]
"""

from __future__ import annotations

import argparse
import copy
import io
import json
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from monai_tpseg.bundle.config import prepare_network
from monai_tpseg.engines.optim import TaskAdamW, parameter_groups
from monai_tpseg.inferers import TaskInferer
from monai_tpseg.inferers.task_inferer import DeepSupervisionInferer
from monai_tpseg.losses import TPSegLoss
from monai_tpseg.networks import Prompt, TPSeg, kprism_demo, tpseg_hiera_demo

STEPS = 6
SIDE = 64  # pixels
TASKS = 8
FAST_ERROR = {"float32": 1e-3, "bfloat16": 0.15, "float16": 0.15}  # of the largest logit, from the plain network


class Smoke:
    """The checks; those that compare use what `training` has given before."""

    def __init__(self, device: torch.device) -> None:
        self.device, self.cuda = device, device.type == "cuda"
        self.losses: dict[str, list[float]] = {}

    def batch(self, device: torch.device | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Images, labels and tasks, the same on every device."""
        generator = torch.Generator().manual_seed(0)
        image = torch.randn(4, 3, SIDE, SIDE, generator=generator)
        label = (torch.rand(4, 1, SIDE, SIDE, generator=generator) > 0.7).float()
        where = device or self.device
        return image.to(where), label.to(where), (torch.arange(4) % TASKS).to(where)

    def train(
        self, amp: Any, steps: int = STEPS, device: torch.device | None = None, state: Any = None, **options: Any
    ) -> tuple[list[float], TPSeg, TaskAdamW]:
        """Train a new network for some steps, as the bundle does; return losses, network and optimiser."""
        where = device or self.device
        torch.manual_seed(0)
        hard_after, fused = options.pop("hard_after", None), options.pop("fused", True)
        net: Any = prepare_network(
            tpseg_hiera_demo(TASKS, freeze_encoder=False), str(where), channels_last=True, **options
        )
        net.train()
        optimizer = TaskAdamW(parameter_groups(net, 1e-3, 5e-3, 0.01), lr=1e-3, fused=fused)
        scaler = torch.amp.GradScaler(where.type, enabled=amp == "fp16")
        if state is not None:
            net.load_state_dict(state[0])
            optimizer.load_state_dict(state[1])
        (image, label, task), loss, losses = self.batch(where), TPSegLoss(), list[float]()
        for step in range(steps):
            if step == hard_after:
                net.encoder.gate.set_hard(True)
            output = DeepSupervisionInferer(amp)(image, net, task=task)
            value = loss(output, label)
            scaler.scale(value).backward()
            scaler.unscale_(optimizer)
            nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad()
            net.update_prototypes(output.features, label, task)
            losses.append(float(value))
        _require(all(value == value and abs(value) < 1e4 for value in losses), f"losses {losses}")
        return losses, net, optimizer

    def training(self, amp: str) -> list[float]:
        """The loss falls."""
        losses = self.losses[amp] = self.train(amp)[0]
        _require(losses[-1] < losses[0], f"losses {losses}")
        return losses

    def as_on_a_cpu(self) -> float:
        """Training gives the losses of a CPU."""
        on_cpu = self.train("none", device=torch.device("cpu"))[0]
        return _close(on_cpu, self.losses["none"], 5e-2)

    def unfused(self) -> float:
        """The optimiser's plain form takes the same steps."""
        return _close(self.train("none", fused=False)[0], self.losses["none"], 1e-2)

    def twice(self) -> dict[str, bool]:
        """Whether two trainings agree bit by bit, which a GPU does not promise."""
        return {"bitwise": self.train("none")[0] == self.losses["none"]}

    def hard_and_checkpointed(self) -> list[float]:
        """Hard gates in training, activations computed again."""
        return self.train("none", hard_after=2, checkpoint_activations=True)[0]

    def resume(self) -> float:
        """A training goes on from a file."""
        _, net, optimizer = self.train("none", STEPS // 2)
        file = io.BytesIO()
        torch.save((net.state_dict(), optimizer.state_dict()), file)
        file.seek(0)
        state = torch.load(file, map_location="cpu", weights_only=True)
        resumed = self.train("none", STEPS - STEPS // 2, state=state)[0]
        return _close(resumed, self.losses["none"][STEPS // 2 :], 1e-2)

    def skipped_step(self) -> str:
        """A step whose gradient overflowed changes nothing."""
        _, net, optimizer = self.train("none", 1)
        before = copy.deepcopy(net.state_dict())
        scaler = torch.amp.GradScaler(self.device.type, init_scale=2.0**15)
        image, label, task = self.batch()
        scaler.scale(TPSegLoss()(net(image, task, deep_supervision=True), label)).backward()
        gradient = next(p.grad for p in net.parameters() if p.grad is not None)
        gradient.fill_(float("inf"))
        scaler.step(optimizer)
        scaler.update()
        changed = [name for name, value in net.state_dict().items() if not torch.equal(value, before[name])]
        _require(not changed and scaler.get_scale() < 2.0**15, f"changed: {changed[:3]}, scale {scaler.get_scale()}")
        return "nothing changed"

    @torch.no_grad()
    def fast(self, dtype: str) -> list[float]:
        """The network for inference, several tasks, volumes, tasks on the device."""
        net = self.network()
        image = self.batch()[0]
        fast, plain = net.optimize_for_inference(dtype=getattr(torch, dtype)), net(image, 1)
        together = fast.segment_tasks(image, [0, 1, 5])
        errors = [
            float((found - plain).abs().max() / plain.abs().max()) for found in (fast(image, 1), together[:, 1:2])
        ]
        fast(image, torch.arange(4, device=self.device))
        volume = torch.randn(1, 3, 50, 60, 5)
        found = TaskInferer(SIDE, device=self.device, slice_batch="auto")(volume, fast, task=1)
        _require(found.device.type == "cpu" and found.shape == (1, 1, 50, 60, 5), f"{found.device}, {found.shape}")
        flipped = TaskInferer(SIDE, device=self.device, slice_batch=2, tta_flips=True, half=True)
        _require(bool(flipped(volume, fast, task=torch.tensor([[1, 3]])).isfinite().all()), "not finite")
        _require(max(errors) < FAST_ERROR[dtype], f"errors {errors}")
        return errors

    def network(self) -> TPSeg:
        """In evaluation mode, with hard gates and adapters away from their start."""
        torch.manual_seed(0)
        net = prepare_network(tpseg_hiera_demo(TASKS), str(self.device)).eval()
        net.encoder.gate.set_hard(True)
        for adapter in net.encoder.adapters:
            nn.init.normal_(adapter.shared_up, std=0.02)
            nn.init.normal_(adapter.task_up, std=0.02)
        return net

    def kprism(self, dtype: torch.dtype | None) -> str:
        """K-Prism: class, clicks, a mask before; forward and backward."""
        net = kprism_demo(num_tasks=4).to(self.device)
        clicks = torch.tensor([[[20.0, 30.0, 1.0]], [[5.0, 5.0, -1.0]]])
        with torch.autocast(self.device.type, dtype=dtype or torch.bfloat16, enabled=dtype is not None):
            state = net.encode(self.batch()[0][:2])
            first = net.decode(state, Prompt(task=1))
            output = net.decode(
                state, Prompt(task=1, clicks=clicks, previous_logits=first.detach()), deep_supervision=True
            )
        output.logits.float().sum().backward()
        _require(bool(output.logits.isfinite().all()), "not finite")
        return "finite"

    def compiled_training(self) -> list[float]:
        """Parts compiled, in training."""
        return self.train("bf16", 3, compile=True)[0]

    @torch.no_grad()
    def compiled_inference(self) -> list[list[int]]:
        """Parts compiled, of two batch sizes and two picture sizes."""
        fast = self.network().optimize_for_inference(dtype=torch.bfloat16, compile=True)
        sizes = ((1, SIDE), (3, SIDE), (1, SIDE + 32))
        return [list(fast(torch.randn(b, 3, side, side, device=self.device), 1).shape) for b, side in sizes]

    def checks(self, compiled: bool) -> dict[str, Callable[[], Any]]:
        """All of them, by name, in their order."""
        half = ("bf16", "fp16") if self.cuda else ("bf16",)
        dtypes = ("float32", "bfloat16", "float16") if self.cuda else ("float32", "bfloat16")
        found: dict[str, Callable[[], Any]] = {
            f"train_{amp}": lambda a=amp: self.training(a) for amp in ("none", *half)
        }
        found |= {"as_on_a_cpu": self.as_on_a_cpu, "unfused": self.unfused, "twice": self.twice, "resume": self.resume}
        found |= {"hard_and_checkpointed": self.hard_and_checkpointed}
        found |= {"skipped_step": self.skipped_step} if self.cuda else {}  # a CPU has no scaled losses
        found |= {f"fast_{name}": lambda n=name: self.fast(n) for name in dtypes}
        names = {"float32": None, "bfloat16": torch.bfloat16, "float16": torch.float16}
        found |= {f"kprism_{name}": lambda n=name: self.kprism(names[n]) for name in dtypes}
        if compiled:
            found |= {"compiled_training": self.compiled_training, "compiled_inference": self.compiled_inference}
        return found


def _require(held: bool, message: str) -> None:
    if not held:
        raise AssertionError(message)


def _close(found: list[float], expected: list[float], most: float) -> float:
    """Return the largest difference, which must be at most `most`."""
    difference = max(abs(a - b) for a, b in zip(found, expected, strict=True))
    _require(difference <= most, f"differs by {difference:.3g}: {found}, {expected}")
    return difference


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--no-compile", action="store_true", help="leave torch.compile out")
    parser.add_argument("--seconds", type=float, default=120, help="no check begins later (120)")
    args = parser.parse_args()
    began, found = time.perf_counter(), dict[str, Any]()
    for name, check in Smoke(torch.device(args.device)).checks(not args.no_compile).items():
        started = time.perf_counter()
        if started - began > args.seconds:
            found[name] = {"ok": False, "error": "no time left"}
        else:
            try:
                found[name] = {"ok": True, "value": check()}
            except Exception as error:  # the next check is of something else
                found[name] = {"ok": False, "error": f"{type(error).__name__}: {error}"[:500]}
                traceback.print_exc()
        found[name]["seconds"] = round(time.perf_counter() - started, 2)
        print(name, found[name], flush=True)
        (args.out / "smoke.json").write_text(json.dumps(found, indent=1) + "\n")
    return int(not all(one["ok"] for one in found.values()))


if __name__ == "__main__":
    raise SystemExit(main())
