"""One task as a file that runs without this package: TorchScript, ONNX or a `torch.export` program."""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import torch
from monai.utils import optional_import
from torch import Tensor, nn

from monai_tpseg.files import complete
from monai_tpseg.networks.bind import BoundTask
from monai_tpseg.networks.script import TRACED
from monai_tpseg.networks.tpseg import TPSeg
from monai_tpseg.words import choose

__all__ = ["FORMATS", "Format", "export_task"]

Format = Literal["torchscript", "onnx", "program"]
FORMATS: dict[Format, str] = {"torchscript": ".ts", "onnx": ".onnx", "program": ".pt2"}
"""Formats with the suffix of their files."""

_OPSET = 17
_TOLERANCE = 1e-3  # of the largest logit, float32


@torch.no_grad()
def export_task(
    net: TPSeg, row: int, path: str | os.PathLike[str], file_format: Format, size: tuple[int, int] = (512, 512)
) -> float:
    """Write one task of a network to a file, load the file again and compare it with the network.

    TorchScript and ONNX files take any batch and any H and W divisible by 32; they are compared at a batch and a size
    other than the traced ones. A `torch.export` program takes one image of `size`. All are float32.

    Args:
        net: on the CPU.
        row: of the task.
        path: file to write or replace, once it is compared.
        file_format: "torchscript", "onnx" or "program". "onnx" is checked with `onnxruntime`.
        size: H and W of "program".

    Returns:
        the largest difference of the logits, relative to the largest logit.

    Raises:
        ValueError: an unknown format or task, a size not divisible by 32, or a file with a different
            result, which is removed.
        OSError: the disc is full, or the write is refused.
        OptionalImportError: `onnxruntime` is not installed.
    """
    if file_format not in FORMATS:
        raise ValueError(f"Unknown format {file_format!r}; {choose(file_format, FORMATS)}.")
    one = BoundTask(net.optimize_for_inference(row), row).eval()
    with complete(path) as part:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the tracer warns of every shape check
            run = _WRITERS[file_format](one, part, size)
        error = 0.0
        for shape in [(1, 3, *size)] if file_format == "program" else [(1, 3, 96, 160), (3, 3, 256, 32)]:
            image = torch.randn(shape, generator=torch.Generator().manual_seed(0))
            expected = one(image)
            error = max(error, float((run(image) - expected).abs().max() / expected.abs().max()))
        if not error < _TOLERANCE:
            raise ValueError(f"'{path}' differs from the network by {error:.1g} of the largest logit and is not kept.")
    return error


def _torchscript(one: nn.Module, path: Path, _size: tuple[int, int]) -> Callable[[Tensor], Tensor]:
    traced = torch.jit.trace(one, (torch.zeros(TRACED),), check_trace=False)  # type: ignore[no-untyped-call]
    path.write_bytes(traced.save_to_buffer())  # its own writer ends the process where the disc is full
    loaded: Callable[[Tensor], Tensor] = torch.jit.load(str(path))  # type: ignore[no-untyped-call]
    return loaded


def _onnx(one: nn.Module, path: Path, _size: tuple[int, int]) -> Callable[[Tensor], Tensor]:
    runtime, _ = optional_import("onnxruntime")
    axes = {0: "batch", 2: "height", 3: "width"}
    torch.onnx.export(
        one,
        (torch.zeros(TRACED),),
        str(path),
        input_names=["image"],
        output_names=["logits"],
        dynamic_axes={"image": axes, "logits": axes},
        opset_version=_OPSET,
        dynamo=False,  # the other exporter fixes the number of windows
    )
    session: Any = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return lambda image: torch.from_numpy(session.run(None, {"image": image.numpy()})[0])


def _program(one: nn.Module, path: Path, size: tuple[int, int]) -> Callable[[Tensor], Tensor]:
    program = torch.export.export(one, (torch.zeros(1, 3, *size),), strict=False)
    written = io.BytesIO()  # as for TorchScript
    torch.export.save(program, written)
    path.write_bytes(written.getvalue())
    loaded: Callable[[Tensor], Tensor] = torch.export.load(path).module()
    return loaded


_WRITERS: dict[Format, Callable[[nn.Module, Path, tuple[int, int]], Callable[[Tensor], Tensor]]] = {
    "torchscript": _torchscript,
    "onnx": _onnx,
    "program": _program,
}
