"""A trained network for use: in its fast form if there is one, at a precision suited to its device."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal, NamedTuple, get_args

import torch
from torch import Tensor, nn

from monai_tpseg.networks.fast.inference_network import InferenceNetwork
from monai_tpseg.networks.fast.measured import bf16_gain
from monai_tpseg.networks.kprism.kprism import KPrism
from monai_tpseg.networks.kprism.prompt import Prompt
from monai_tpseg.networks.tpseg import TPSeg
from monai_tpseg.words import choose

__all__ = [
    "PRECISIONS",
    "InferenceForm",
    "Precision",
    "choose_device",
    "choose_precision",
    "fast_form",
    "network_for_inference",
    "segment_several",
]

Precision = Literal["fp32", "bf16", "fp16", "auto"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)
_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


_WORTH = 1.2  # times as fast as fp32: bf16 moves the edges of masks


class InferenceForm(NamedTuple):
    """A network to be called with (image, task).

    Attributes:
        network: gives float32 logits, or those of autocast.
        why_plain: the reason for running it as trained, a sentence; "" for the fast form.
    """

    network: nn.Module
    why_plain: str


def choose_device(name: str | None) -> torch.device:
    """Return the device called `name`; for None or "" the first GPU, otherwise the CPU.

    Raises:
        ValueError: the device does not exist on this machine.
    """
    name = name or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        torch.zeros(1, device=name).item()  # the device meta makes tensors that hold nothing
        return torch.device(name)
    except (RuntimeError, AssertionError) as error:  # AssertionError: PyTorch built without CUDA
        raise ValueError(f"Device '{name}' is not available; use --device cpu.") from error


def choose_precision(precision: str, device: torch.device) -> str:
    """Return "fp32", "bf16" or "fp16"; "auto" selects the fastest on the device.

    That is bf16 on a GPU from NVIDIA Ampere on, fp16 on an older one. A CPU takes bf16 where it is faster than fp32,
    which is measured once, see `monai_tpseg.networks.fast.measured`; any other device takes fp32.

    Raises:
        ValueError: an unknown precision, or fp16 on a CPU.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"Unknown precision {precision!r}; {choose(precision, PRECISIONS)}.")
    if precision == "fp16" and device.type == "cpu":
        raise ValueError("Precision 'fp16' needs a GPU; use bf16, fp32 or auto.")
    if precision != "auto":
        return precision
    if device.type == "cuda":
        return "bf16" if torch.cuda.get_device_capability(device) >= (8, 0) else "fp16"
    return "bf16" if device.type == "cpu" and bf16_gain() > _WORTH else "fp32"


def fast_form(network: nn.Module, precision: str = "fp32") -> InferenceForm:
    """Return the fast form of a trained network, or the trained network and the reason why there is none.

    TP-Seg has a fast form, see `TPSeg.optimize_for_inference`. Its ablations, K-Prism and the peers have none. Weights
    whose gates are soft would become another function: only those of a training that was stopped early are.

    Args:
        network: with its weights, on its device.
        precision: "fp32", "bf16" or "fp16", of the fast form.
    """
    if not isinstance(network, TPSeg):
        return InferenceForm(network, f"{type(network).__name__} has no fast form.")
    if network.encoder.gate is not None and not network.encoder.gate.is_hard:
        return InferenceForm(network, "The gates of the weights are soft, as after a training that was stopped early.")
    try:
        return InferenceForm(network.optimize_for_inference(dtype=_DTYPES[precision]), "")
    except ValueError as error:
        return InferenceForm(network, str(error))


def network_for_inference(network: nn.Module, precision: str = "fp32") -> InferenceForm:
    """Return the fast form of a network, or the network itself under autocast, at one of the three precisions.

    Args:
        network: with its weights, on its device.
        precision: what `choose_precision` returns.
    """
    found = fast_form(network.eval(), precision)
    if not found.why_plain or precision == "fp32":
        return found
    return InferenceForm(_Autocast(network, _DTYPES[precision]).eval(), found.why_plain)


class _Autocast(nn.Module):
    """A network that always runs under autocast."""

    def __init__(self, network: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        self.network, self.dtype = network, dtype

    def forward(self, image: Tensor, *args: Any) -> Tensor:
        with torch.autocast(image.device.type, dtype=self.dtype):
            logits: Tensor = self.network(image, *args)
        return logits

    def segment_tasks(self, image: Tensor, tasks: Iterable[int]) -> Tensor:
        """As `segment_several`."""
        with torch.autocast(image.device.type, dtype=self.dtype):
            return segment_several(self.network, image, tasks)


def segment_several(network: Any, image: Tensor, tasks: Iterable[int]) -> Tensor:
    """Segment one batch for several tasks with any network; shared parts are computed once where possible.

    Args:
        network: called with (image, task). TP-Seg in both forms shares blocks, K-Prism the encoder.
        image: (B, 3, H, W).
        tasks: rows of the tasks, each at most once.

    Returns:
        logits (B, tasks, H, W), in the order of `tasks`.
    """
    rows = list(tasks)
    if isinstance(network, TPSeg | InferenceNetwork | _Autocast):
        return network.segment_tasks(image, rows)
    columns = [torch.full((len(image),), row, dtype=torch.int64, device=image.device) for row in rows]
    if isinstance(network, KPrism):
        state = network.encode(image)
        return torch.cat([network.decode(state, Prompt(task=column)) for column in columns], dim=1)
    return torch.cat([network(image, column) for column in columns], dim=1)
