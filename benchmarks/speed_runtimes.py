"""What a user would pick instead: the exported network in ONNX Runtime and OpenVINO, beside the network for inference.

    python -m benchmarks.speed_runtimes --checkpoint W --dataset_dir DATA --task skin_lesion
    python -m benchmarks.speed_runtimes ... --fp32 --name runtimes_avx2     on a processor with AVX2 alone

Same weights, pictures and threads, in turn. int8 is post-training quantisation, by ONNX Runtime's own tool and by NNCF,
calibrated on the first pictures of the task's training list; Dice against the masks of float32 is over the next ones.
OpenVINO and NNCF take part where they are installed (`pip install openvino nncf`), and the result says if not. Both
runtimes ask the processor what it can do, so the figures of another kind of processor need a machine of that kind.
"""

from __future__ import annotations

import tempfile
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.speed_masks import summary
from benchmarks.timing import arguments, interleave, save
from monai_tpseg.data import read_datalist
from monai_tpseg.networks import TPSeg
from monai_tpseg.networks.described import build_described
from monai_tpseg.networks.export import export_task
from monai_tpseg.networks.weights_info import WeightsInfo, read_info
from monai_tpseg.transforms import LoadMedicalImaged, NormalizeByModalityd
from monai_tpseg.weights import choose_weights

Run = Callable[[Tensor], Tensor]


def onnx_runtime(file: Path, threads: int) -> Run:
    """Return a file as ONNX Runtime runs it."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    return lambda image: torch.from_numpy(session.run(None, {"image": image.numpy()})[0])


def quantised_by_onnx_runtime(file: Path, target: Path, pictures: list[Tensor]) -> Path:
    """Quantise weights by channel and activations by calibration, of products and convolutions."""
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Pictures(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.left = iter(pictures)

        def get_next(self) -> Mapping[str, Any] | None:
            picture = next(self.left, None)
            return None if picture is None else {"image": picture.numpy()}

    prepared = target.with_name("prepared.onnx")
    quant_pre_process(str(file), str(prepared), skip_symbolic_shape=True)
    kinds: dict[str, Any] = {"activation_type": QuantType.QUInt8, "weight_type": QuantType.QInt8}
    quantize_static(
        str(prepared), str(target), Pictures(), quant_format=QuantFormat.QDQ, per_channel=True,
        op_types_to_quantize=["Conv", "MatMul", "Gemm"], **kinds,
    )  # fmt: skip
    return target


def openvino(file: Path, threads: int, pictures: list[Tensor], half: bool) -> Iterator[tuple[str, Run]]:
    """Yield a file as OpenVINO runs it: float32, bf16, and int8 by NNCF where that is installed."""
    import openvino as ov

    def compiled(model: Any, precision: str) -> Run:
        settings = {"INFERENCE_PRECISION_HINT": precision, "INFERENCE_NUM_THREADS": threads}
        network = ov.Core().compile_model(model, "CPU", settings)
        return lambda image: torch.from_numpy(network(image.numpy())[0])

    model = ov.Core().read_model(file)
    yield "openvino_fp32", compiled(model, "f32")
    if half:
        yield "openvino_bf16", compiled(model, "bf16")
    if find_spec("nncf"):
        import nncf

        data = nncf.Dataset(pictures, lambda picture: picture.numpy())
        int8 = nncf.quantize(model, data, model_type=nncf.ModelType.TRANSFORMER, subset_size=len(pictures))
        yield "openvino_int8", compiled(int8, "f32")


def weights_arguments(description: str, calibration: int, pictures: int, **defaults: Any) -> ArgumentParser:
    """Return the parser of a comparison on weights and data, for a batch of one; `defaults` as in `arguments`."""
    parser = arguments(description, batch=1, **defaults)
    parser.add_argument("--checkpoint", help="weights, or their name in the catalogue; by default the starter weights")
    parser.add_argument("--dataset_dir", required=True)
    parser.add_argument("--calibration", type=int, default=calibration, help="pictures of a task to calibrate int8 on")
    parser.add_argument("--pictures", type=int, default=pictures, help="pictures of a task to compare masks on")
    return parser


def chosen_weights(parser: ArgumentParser, args: Namespace) -> tuple[WeightsInfo, TPSeg]:
    """Return description and network of the chosen weights, whose name replaces their path in `args`; set threads."""
    torch.set_num_threads(args.threads)
    checkpoint = choose_weights(args.checkpoint)
    info, net = read_info(checkpoint), build_described(checkpoint)
    if not isinstance(net, TPSeg):
        parser.error(f"'{checkpoint}' holds a {type(net).__name__}; only TP-Seg is compared.")
    args.checkpoint = checkpoint.name
    return info, net


def main() -> None:
    parser = weights_arguments(str(__doc__), 64, 100, rounds=4)
    parser.add_argument("--task", required=True)
    parser.add_argument("--fp32", action="store_true", help="leave bf16 out, on a processor without it")
    parser.add_argument("--name", default="runtimes", help="of the JSON file")
    args = parser.parse_args()
    info, net = chosen_weights(parser, args)
    row, size = info.tasks.index(args.task), info.image_size
    pictures = list(inputs(args.dataset_dir, args.task, info.tasks, size, args.calibration + args.pictures))
    calibration, compared = pictures[: args.calibration], pictures[args.calibration :]
    args.backbone, args.size, args.dataset_dir = info.network["backbone"], size[0], "DATA"
    with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
        runs = candidates(net, row, size, Path(folder), args.threads, calibration, not args.fp32)
        batch = compared[0].expand(args.batch, -1, -1, -1).contiguous()
        times = interleave({name: lambda run=run: run(batch) for name, run in runs.items()}, args.rounds, "cpu")
        masks = {name: [run(picture) > 0 for picture in compared] for name, run in runs.items()}
    exact = masks.pop("network_fp32")
    ratios = {
        name: {key: times["network_fp32"][key] / t[key] for key in ("seconds", "cpu_seconds")}
        for name, t in times.items()
    }
    dice = {name: summary(list(map(overlap, found, exact))) for name, found in masks.items()}
    packages = ("onnxruntime", "openvino", "nncf")
    versions = {name: version(name) if find_spec(name) else "not installed" for name in packages}
    more = {"versions": versions, "instructions": torch.backends.cpu.get_cpu_capability(), "cases": len(compared)}
    save(args.name, args, times=times, ratios=ratios, dice=dice, **more)


def candidates(
    net: TPSeg, row: int, size: tuple[int, int], folder: Path, threads: int, calibration: list[Tensor], half: bool
) -> dict[str, Run]:
    """Return what is compared, by name; `half` with bf16."""
    runs: dict[str, Run] = {}
    for name, dtype in (("network_fp32", torch.float32), ("network_bf16", torch.bfloat16))[: 2 if half else 1]:
        fast = net.optimize_for_inference(row, dtype)
        runs[name] = lambda image, fast=fast: fast(image, row)
    file = folder / "task.onnx"
    export_task(net, row, file, "onnx", size)
    runs["onnxruntime_fp32"] = onnx_runtime(file, threads)
    int8 = quantised_by_onnx_runtime(file, folder / "int8.onnx", calibration)
    runs["onnxruntime_int8"] = onnx_runtime(int8, threads)
    if find_spec("openvino"):
        runs |= dict(openvino(file, threads, calibration, half))
    return runs


def inputs(folder: str, task: str, tasks: tuple[str, ...], size: tuple[int, int], count: int) -> Iterator[Tensor]:
    """Yield the first pictures of a task in the training list as the network gets them, (1, 3, H, W)."""
    read, normalise = LoadMedicalImaged("image"), NormalizeByModalityd()
    cases = read_datalist(str(Path(folder) / "datalist.json"), "training", folder, tasks)
    of_task = [case for case in cases if case["task"] == task]
    for case in of_task[:count]:
        image = normalise(read({"image": case["image"], "task": task}))["image"].as_tensor()[None]
        yield F.interpolate(image, size, mode="bilinear", antialias=True)


def overlap(mask: Tensor, exact: Tensor) -> tuple[float, float]:
    return float(2 * (mask & exact).sum()), float(mask.sum() + exact.sum())


if __name__ == "__main__":
    main()
