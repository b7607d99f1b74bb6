"""TP-Seg on a CPU in ONNX Runtime or OpenVINO instead of PyTorch: the same function.

Each task is exported to its own file on first use, which takes a few seconds; the file stays in the user's cache folder
for later processes. Which runtime is faster depends on the CPU and the network: `benchmarks/speed_runtimes.py` measures
it. 8-bit quantisation is not offered: it changes the masks too much.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, get_args

import platformdirs
import torch
from monai.utils import optional_import
from torch import Tensor, nn

from monai_tpseg.files import complete, file_sha256
from monai_tpseg.networks.export import export_task
from monai_tpseg.networks.layers import plain_tensor, with_meta_of
from monai_tpseg.networks.task import expand_task, row_numbers
from monai_tpseg.networks.tpseg import TPSeg
from monai_tpseg.version import __version__
from monai_tpseg.words import choose, how_to_install

__all__ = ["RUNTIMES", "Runtime", "RuntimeNetwork", "check_runtime"]

Runtime = Literal["pytorch", "onnxruntime", "openvino"]
RUNTIMES: tuple[Runtime, ...] = get_args(Runtime)
_EXTRAS = {"onnxruntime": "export", "openvino": "openvino"}
_PRECISIONS = {"onnxruntime": ("fp32",), "openvino": ("fp32", "bf16")}
_DIGITS = 16  # of the sha256 of a file, in its name
_Run = Callable[[Tensor], Tensor]
logger = logging.getLogger(__name__)


def check_runtime(runtime: str, device: torch.device, precision: str) -> None:
    """Check that a runtime other than PyTorch can be used.

    Args:
        runtime: one of `RUNTIMES`; "pytorch" always passes.
        device: of the network.
        precision: "fp32", "bf16" or "fp16".

    Raises:
        ValueError: one line: an unknown name, a GPU, an unsupported precision, or a runtime that is not installed.
    """
    if runtime not in RUNTIMES:
        raise ValueError(f"Unknown runtime {runtime!r}; {choose(runtime, RUNTIMES)}.")
    if runtime == "pytorch":
        return
    if device.type != "cpu":
        raise ValueError(f"Runtime '{runtime}' is for a CPU, not for {device}; use --device cpu or --runtime pytorch.")
    if precision not in _PRECISIONS[runtime]:
        offered = " and ".join(_PRECISIONS[runtime])
        raise ValueError(f"Runtime '{runtime}' computes in {offered}, not in {precision}; change --precision.")
    for module in ("onnxruntime", "onnx", runtime):
        if not find_spec(module):
            raise ValueError(f"Runtime '{runtime}' needs {module}: {how_to_install(_EXTRAS[runtime])}.")


class RuntimeNetwork(nn.Module):
    """A trained TP-Seg with logits computed by another runtime; called with (image, task) like the fast form.

    Args:
        network: with its weights and hard gates, on the CPU.
        runtime: "onnxruntime" or "openvino".
        weights_sha256: of its weights, the key of the cached task files.
        precision: "fp32", or "bf16" with OpenVINO.
        folder: of the files; default: in the user's cache folder. A folder that is full or not writable is
            replaced by a temporary one, and a file that was changed is made again.

    Raises:
        ValueError: a network without a fast form.
    """

    def __init__(
        self, network: nn.Module, runtime: str, weights_sha256: str, precision: str = "fp32", folder: Path | None = None
    ) -> None:
        super().__init__()
        if not isinstance(network, TPSeg):
            raise ValueError(f"{type(network).__name__} runs only in PyTorch; omit --runtime.")
        self.network, self.runtime, self.precision = network.eval(), runtime, precision
        self.name = f"{weights_sha256[:16]}-{__version__}"
        self.folder = folder or platformdirs.user_cache_path("monai_tpseg", appauthor=False) / "runtimes"
        self._runs: dict[int, _Run] = {}
        self._temporary: tempfile.TemporaryDirectory[str] | None = None

    def forward(self, image: Tensor, task: int | Tensor) -> Tensor:
        """Segment `image` (B, 3, H, W) for `task`, an int, a 0-d or a (B,) tensor -> float32 logits (B, 1, H, W)."""
        numbers = row_numbers(task, self.network.num_tasks)
        rows = expand_task(numbers, len(image), self.network.num_tasks, numbers.device).tolist()
        plain = plain_tensor(image)
        logits = plain.new_empty((len(plain), 1, *plain.shape[2:]))
        for row in set(rows):
            chosen = torch.tensor([own == row for own in rows])
            logits[chosen] = self._run(row)(plain[chosen])
        return with_meta_of(image, logits)

    def _run(self, row: int) -> _Run:
        if row not in self._runs:
            self._runs[row] = _OPENERS[self.runtime](self._file(row), self.precision)
        return self._runs[row]

    def _file(self, row: int) -> Path:
        """Return the ONNX file of a task, compared with the network when it was made and unchanged since then."""
        for known in self.folder.glob(f"{self.name}-{row}-*.onnx"):
            if known.stem.endswith(file_sha256(known)[:_DIGITS]):
                return known
        try:
            return self._export(row, self.folder)
        except OSError as error:
            reason = error.strerror or type(error).__name__
            logger.info("'%s' cannot be written (%s): the network is exported anew each time.", self.folder, reason)
        self._temporary = self._temporary or tempfile.TemporaryDirectory(prefix="tpseg-runtime-")
        return self._export(row, Path(self._temporary.name))

    def _export(self, row: int, folder: Path) -> Path:
        with complete(folder / f"{self.name}-{row}.onnx") as part:
            export_task(self.network, row, part, "onnx")
            file = folder / f"{self.name}-{row}-{file_sha256(part)[:_DIGITS]}.onnx"
        return (folder / f"{self.name}-{row}.onnx").replace(file)


def _onnxruntime(file: Path, _precision: str) -> _Run:
    onnxruntime, _ = optional_import("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    return lambda image: torch.from_numpy(session.run(None, {"image": image.numpy()})[0])


def _openvino(file: Path, precision: str) -> _Run:
    openvino, _ = optional_import("openvino")
    hint = {"fp32": "f32", "bf16": "bf16"}[precision]
    settings: dict[str, Any] = {"INFERENCE_PRECISION_HINT": hint, "INFERENCE_NUM_THREADS": torch.get_num_threads()}
    core = openvino.Core()
    compiled = core.compile_model(core.read_model(file), "CPU", settings)
    return lambda image: torch.from_numpy(compiled(image.numpy())[0].copy())


_OPENERS: dict[str, Callable[[Path, str], _Run]] = {"onnxruntime": _onnxruntime, "openvino": _openvino}
