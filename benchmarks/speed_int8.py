"""int8 products in the frozen trunk: how much faster, and what they change in the masks.

    python -m benchmarks.speed_int8 --dataset_dir DATA

Every linear layer of the trunk in the network for inference gets weights of 8 bits by output channel and activations
of 7 bits by layer, calibrated on the first pictures of each task's training list; attention, norms, adapters and
decoder stay float32. Seven bits, because processors with AVX2 alone add two products of 8 bits in 16 bits, which
saturate. oneDNN multiplies through PyTorch's operator `qlinear_pointwise`; Dice is against the float32 masks, over the
pictures that follow. torchao, with scales by token, is timed on the starter weights where it is installed (`pip
install torchao`), and the result says if not. Speed is that of the starter weights and of a larger network with random
weights; the share of float32's CPU time that these layers take bounds what any faster product can gain.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.speed_masks import summary
from benchmarks.speed_runtimes import chosen_weights, inputs, overlap, weights_arguments
from benchmarks.timing import interleave, network, save
from monai_tpseg.networks import TPSeg
from monai_tpseg.networks.fast.encoder import PackedLinear

LEVELS = 127  # of activations: the largest 7-bit number


class Int8Linear(nn.Module):
    """A linear layer of the trunk in int8 by oneDNN; until `freeze` it computes in float32 and notes its inputs' range.

    Args:
        layer: whose weights are quantised.
    """

    def __init__(self, layer: PackedLinear) -> None:
        super().__init__()
        self.layer, self.out_features = layer, layer.out_features
        self.least, self.most = float("inf"), -float("inf")
        self.packed: Tensor | None = None

    def freeze(self) -> None:
        """Quantise the weights, and fix the scale of the activations by the range that has been seen."""
        weight = self.layer.weight.detach().float()
        self.weight_scales = weight.abs().amax(1).clamp_min(1e-12) / 127
        quantised = (weight / self.weight_scales[:, None]).round().clamp(-127, 127).to(torch.int8)
        self.scale = max(self.most - self.least, 1e-8) / LEVELS
        self.zero = min(max(round(-self.least / self.scale), 0), LEVELS)
        self.weight_zeros = torch.zeros(len(weight), dtype=torch.int64)
        self.packed = torch.ops.onednn.qlinear_prepack(quantised.contiguous(), None)

    def forward(self, x: Tensor, gelu: bool = False) -> Tensor:
        """(..., C_in) -> (..., C_out), through a GELU where `gelu`."""
        if self.packed is None:
            self.least, self.most = min(self.least, float(x.min())), max(self.most, float(x.max()))
            result: Tensor = self.layer(x, gelu)
            return result
        quantised = torch.quantize_per_tensor(x.contiguous(), self.scale, self.zero, torch.quint8).int_repr()
        bias = None if self.layer.bias is None else self.layer.bias.detach()
        product: Tensor = torch.ops.onednn.qlinear_pointwise(
            quantised, self.scale, self.zero, self.packed, self.weight_scales, self.weight_zeros, bias, 1.0, 0,
            torch.float32, "gelu" if gelu else "none", [], "none" if gelu else "",
        )  # fmt: skip
        return product


class TorchaoLinear(nn.Module):
    """A linear layer of the trunk as torchao quantises it: weights by channel, activations by token in every call."""

    def __init__(self, layer: PackedLinear) -> None:
        from torchao.quantization import Int8DynamicActivationInt8WeightConfig, quantize_

        super().__init__()
        plain = nn.Linear(layer.weight.shape[1], layer.out_features, layer.bias is not None)
        plain.load_state_dict({k: v for k, v in (("weight", layer.weight), ("bias", layer.bias)) if v is not None})
        self.out_features, self.layer = layer.out_features, nn.Sequential(plain)
        quantize_(self.layer, Int8DynamicActivationInt8WeightConfig())

    def forward(self, x: Tensor, gelu: bool = False) -> Tensor:
        """(..., C_in) -> (..., C_out), through a GELU where `gelu`."""
        result: Tensor = self.layer(x)
        return F.gelu(result) if gelu else result


class Timed(nn.Module):
    """A layer that adds up its CPU time."""

    def __init__(self, layer: PackedLinear) -> None:
        super().__init__()
        self.layer, self.out_features, self.spent = layer, layer.out_features, 0.0

    def forward(self, x: Tensor, gelu: bool = False) -> Tensor:
        """What the layer returns."""
        started = time.process_time()
        result: Tensor = self.layer(x, gelu)
        self.spent += time.process_time() - started
        return result


def with_layers(net: TPSeg, row: int, kind: Callable[[PackedLinear], nn.Module]) -> tuple[Any, list[Any]]:
    """Return the network for inference of one task with its trunk's linear layers replaced, and these."""
    fast = net.optimize_for_inference(row)
    replaced = []
    for module in list(fast.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, PackedLinear):
                replaced.append(kind(child))
                setattr(module, name, replaced[-1])
    return fast, replaced


def quantised(net: TPSeg, row: int, pictures: list[Tensor]) -> Any:
    """Return the network for inference of one task with int8 products, calibrated on `pictures`."""
    fast, layers = with_layers(net, row, Int8Linear)
    for picture in pictures:
        fast(picture, row)
    for layer in layers:
        layer.freeze()
    return fast


def speed(net: TPSeg, row: int, pictures: list[Tensor], rounds: int, torchao: bool = False) -> dict[str, Any]:
    """Return times, ratios to float32, and the share of float32's CPU time that the replaced layers take."""
    image = pictures[0]
    runs = {"fp32": net.optimize_for_inference(row), "onednn_int8": quantised(net, row, pictures)}
    if torchao:
        runs["torchao_int8"] = with_layers(net, row, TorchaoLinear)[0]
    times = interleave({name: lambda run=run: run(image, row) for name, run in runs.items()}, rounds, "cpu")
    timed, layers = with_layers(net, row, Timed)
    timed(image, row)
    for layer in layers:
        layer.spent = 0.0
    started = time.process_time()
    for _ in range(rounds):
        timed(image, row)
    share = sum(layer.spent for layer in layers) / (time.process_time() - started)
    ratios = {name: times["fp32"]["cpu_seconds"] / t["cpu_seconds"] for name, t in times.items() if name != "fp32"}
    return {"times": times, "ratios": ratios, "share": share, "layers": len(layers), "size": image.shape[-1]}


def main() -> None:
    parser = weights_arguments(str(__doc__), 20, 20, rounds=5, threads=1)
    args = parser.parse_args()
    info, net = chosen_weights(parser, args)
    dice: dict[str, Any] = {}
    with torch.inference_mode():
        for row, task in enumerate(info.tasks):
            count = args.calibration + args.pictures
            pictures = list(inputs(args.dataset_dir, task, info.tasks, info.image_size, count))
            calibration, compared = pictures[: args.calibration], pictures[args.calibration :]
            exact = net.optimize_for_inference(row)
            int8 = quantised(net, row, calibration)
            dice[task] = summary([overlap(int8(picture, row) > 0, exact(picture, row) > 0) for picture in compared])
            print(f"{task}: Dice {dice[task]['mean']:.4f}", flush=True)
        starter = speed(net, row, calibration, args.rounds, find_spec("torchao") is not None)
        large = speed(network(args.backbone), 0, [torch.rand(1, 3, args.size, args.size)], args.rounds)
    args.dataset_dir = "DATA"
    versions = {"torchao": version("torchao") if find_spec("torchao") else "not installed"}
    more = {"versions": versions, "instructions": torch.backends.cpu.get_cpu_capability()}
    save("int8", args, starter=starter | {"backbone": info.network["backbone"]}, large=large, dice=dice, **more)


if __name__ == "__main__":
    main()
