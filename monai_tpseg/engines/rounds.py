"""One training iteration of K-Prism: an image is encoded once, prompted, and corrected click by click."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional as F

from monai_tpseg.clicks import next_clicks
from monai_tpseg.networks.kprism import MODES, ImageState, KPrism, KPrismOutput, Memory, Mode, Prompt

__all__ = ["ModeMix", "RoundsOutput", "average_over_ranks", "click_cross_entropy", "train_rounds"]


class RoundsOutput(NamedTuple):
    """loss: weighted sum over the rounds, without gradient. logits: of the last round, (B, 1, H, W)."""

    loss: Tensor
    logits: Tensor


@dataclass(frozen=True)
class ModeMix:
    """Draws the start mode of a batch; all ranks use the draw of the first.

    Attributes:
        semantic: probability of a class.
        in_context: probability of exemplars.
        interactive: probability of a click.

    Raises:
        ValueError: a negative probability, or a sum other than 1.
    """

    semantic: float = 0.3
    in_context: float = 0.3
    interactive: float = 0.4

    def __post_init__(self) -> None:
        if min(self.probabilities) < 0 or abs(sum(self.probabilities) - 1) > 1e-6:
            given = ", ".join(f"{mode} {p:g}" for mode, p in zip(MODES, self.probabilities, strict=True))
            raise ValueError(f"Probabilities of the modes must be 0 or more and add up to 1, got {given}.")

    @property
    def probabilities(self) -> tuple[float, ...]:
        """In the order of `MODES`."""
        return self.semantic, self.in_context, self.interactive

    def draw(self, device: torch.device) -> Mode:
        """Return a mode, from torch's default generator."""
        index = torch.multinomial(torch.tensor(self.probabilities), 1)
        if dist.is_available() and dist.is_initialized():
            index = index.to(device)
            dist.broadcast(index, 0)
        return MODES[int(index)]


def train_rounds(
    net: KPrism,
    image: Tensor,
    label: Tensor,
    start: Prompt,
    loss: Callable[..., Tensor],
    rounds: int = 3,
    click_weight: float = 0.8,
    obey_weight: float = 0.0,
    scale: Callable[[Tensor], Tensor] = lambda value: value,
    autocast: Callable[[], torch.autocast] | None = None,
) -> RoundsOutput:
    """Add the gradients of all rounds of a batch to the network's parameters.

    The total is the loss of the first round plus `click_weight` times that of each later one; each later round sees one
    more simulated click and the mask of the round before, without gradient. An empty `start` gets its first click at
    once. Each round runs its own backward pass up to the encoded image, whose backward pass runs once at the end: the
    gradients are those of the sum, and memory does not grow with the number of rounds.

    Args:
        net: K-Prism, bare.
        image: (B, 3, H, W).
        label: (B, 1, H, W) in {0, 1}.
        start: a class or exemplars, or nothing.
        loss: maps (`KPrismOutput`, label) to a scalar.
        rounds: number of decoder passes, at least 1.
        click_weight: weight of the rounds after the first.
        obey_weight: weight of `click_cross_entropy` in every round with clicks; 0 leaves it out, as in the paper.
        scale: applied to each loss before its backward pass (`GradScaler.scale`).
        autocast: creates the context of the forward passes.
    """
    context = autocast or (lambda: torch.autocast(image.device.type, enabled=False))
    with context():
        state = net.encode(image)
        memory = None
        if start.exemplar_image is not None and start.exemplar_label is not None:
            memory = net.remember(start.exemplar_image, start.exemplar_label, start.exemplar_valid)
    cut, sources, leaves = _cut(state, memory)
    prompt = replace(start, exemplar_image=None, exemplar_label=None, exemplar_valid=None)
    logits, total = torch.full_like(label, -1.0, dtype=torch.float32), torch.zeros((), device=image.device)
    for i in range(rounds):
        if i or (prompt.is_empty and memory is None):
            clicks = next_clicks(logits > 0, label)
            previous = logits if i else None
            given = clicks if prompt.clicks is None else torch.cat([prompt.clicks, clicks], dim=1)
            prompt = replace(prompt, clicks=given, previous_logits=previous)
        with context():
            output = net.decode(cut[0], prompt, cut[1], deep_supervision=True)
        value = (click_weight if i else 1.0) * loss(_float(output), label)
        if obey_weight and prompt.clicks is not None:
            value = value + obey_weight * click_cross_entropy(output.logits.float(), label, prompt.clicks)
        scale(value).backward()  # type: ignore[no-untyped-call]
        logits, total = output.logits.detach().float(), total + value.detach()
    used = [(source, leaf.grad) for source, leaf in zip(sources, leaves, strict=True) if leaf.grad is not None]
    torch.autograd.backward([source for source, _ in used], [gradient for _, gradient in used])
    return RoundsOutput(total, logits)


def click_cross_entropy(logits: Tensor, label: Tensor, clicks: Tensor, radius: float = 3.0) -> Tensor:
    """Cross-entropy at the clicked positions only: the penalty for ignoring a click.

    Within the disk around each click, it covers the pixels whose label agrees with the click.

    Args:
        logits: (B, 1, H, W) float32.
        label: (B, 1, H, W) in {0, 1}.
        clicks: (B, N, 3), see `Prompt`.
        radius: radius of the disks in pixels.

    Returns:
        Scalar mean over all such pixels of the batch; 0 without clicks.
    """
    rows = torch.arange(label.shape[2], device=label.device, dtype=torch.float32).view(1, 1, -1, 1)
    columns = torch.arange(label.shape[3], device=label.device, dtype=torch.float32)
    row, column, polarity = (part[..., None, None] for part in clicks.float().unbind(-1))  # (B, N, 1, 1)
    near = (rows - row).square() + (columns - column).square() <= radius**2  # (B, N, H, W)
    right = (label > 0.5) == (polarity > 0)  # label is (B, 1, H, W)
    counted = (near & right & (polarity != 0)).any(1, keepdim=True).float()
    entropy = F.binary_cross_entropy_with_logits(logits, label, reduction="none")
    return (entropy * counted).sum() / counted.sum().clamp(min=1.0)


def _float(output: KPrismOutput) -> KPrismOutput:
    return KPrismOutput(output.logits.float(), tuple(x.float() for x in output.side_logits))


def _cut(
    state: ImageState, memory: Memory | None
) -> tuple[tuple[ImageState, Memory | None], list[Tensor], list[Tensor]]:
    """Return detached copies that collect their own gradients, and the pairs of original and copy."""
    sources: list[Tensor] = []
    leaves: list[Tensor] = []

    def leaf(tensor: Tensor) -> Tensor:
        if not tensor.requires_grad:
            return tensor
        sources.append(tensor)
        leaves.append(tensor.detach().requires_grad_())
        return leaves[-1]

    fine = None if state.fine is None else leaf(state.fine)
    own = state._replace(coarse=leaf(state.coarse), pixels=tuple(leaf(x) for x in state.pixels), fine=fine)
    if memory is None:
        return (own, None), sources, leaves
    summaries = tuple(leaf(s) for s in memory.summaries)
    kept = memory._replace(keys=leaf(memory.keys), values=leaf(memory.values), summaries=summaries)
    return (own, kept), sources, leaves


@torch.no_grad()
def average_over_ranks(net: nn.Module) -> None:
    """Average gradients and running statistics over all ranks; no effect in a single process.

    The rounds of an iteration call parts of the network and run several backward passes, which
    `DistributedDataParallel` does not reduce. All ranks have the same mode, hence gradients of the same parameters.
    """
    if not (dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1):
        return
    tensors = [p.grad for p in net.parameters() if p.grad is not None]
    tensors += [b for b in net.buffers() if b.is_floating_point()]
    joined = torch.cat([t.flatten().float() for t in tensors])
    dist.all_reduce(joined)
    joined /= dist.get_world_size()
    for tensor, part in zip(tensors, torch.split(joined, [t.numel() for t in tensors]), strict=True):
        tensor.copy_(part.view_as(tensor))
