"""Whether this CPU is faster in bf16 than in float32: measured once, since neither its name nor its flags tell.

A CPU without bf16 units emulates bf16 in float32, several times slower; one with them is two to four times faster.
"""

from __future__ import annotations

import json
import logging
import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import platformdirs
import torch
import torch.nn.functional as F
from torch import Tensor

from monai_tpseg.files import write_atomically
from monai_tpseg.parsing import read_json

__all__ = ["bf16_gain", "measure_bf16_gain", "processor"]

logger = logging.getLogger(__name__)

_SECONDS = 1.0  # of measuring, both precisions together
_ROUNDS = (3, 25)  # at least, at most
_TOKENS, _CHANNELS, _WIDE = 1024, 576, 2304  # an MLP of Hiera-L's third stage at 512 x 512
_MAP = (64, 64, 64)  # channels, rows, columns of a 3x3 convolution


def processor() -> str:
    """Return the key of a measurement: CPU model, instruction set in use, PyTorch version and threads."""
    model = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").is_file():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), model)
    units = [name for name in ("avx512_bf16", "amx_tile") if _has(name)]
    used = [torch.backends.cpu.get_cpu_capability(), *units, os.environ.get("ONEDNN_MAX_CPU_ISA", "")]
    return ", ".join([model, *filter(None, used), f"torch {torch.__version__}", f"{torch.get_num_threads()} threads"])


def bf16_gain(cache: Path | None = None, measure: Callable[[], float] | None = None) -> float:
    """Return the speed-up of bf16 over float32 on this CPU, from the user's cache if available.

    Args:
        cache: JSON file; default: in the user's cache folder. An unreadable or unwritable file only costs a second per
            process.
        measure: by default `measure_bf16_gain`.
    """
    file = cache or platformdirs.user_cache_path("monai_tpseg", appauthor=False) / "bf16.json"
    known, name = _read(file), processor()
    if name not in known:
        known[name] = (measure or measure_bf16_gain)()
        logger.info("bf16 is %.1f times as fast as fp32 on this CPU, measured once.", known[name])
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(file, json.dumps(known, indent=1).encode())
        except OSError as error:
            logger.info("'%s' cannot be written (%s): measured again next time.", file, error.strerror)
    return known[name]


def measure_bf16_gain() -> float:
    """Measure products and convolutions of the network's sizes alternately in both precisions."""
    runs = {dtype: _work(dtype) for dtype in (torch.float32, torch.bfloat16)}
    seconds: dict[torch.dtype, list[float]] = {dtype: [] for dtype in runs}
    began = time.perf_counter()
    with torch.inference_mode():
        for turn in range(_ROUNDS[1] + 1):
            for dtype, run in runs.items():
                started = time.perf_counter()
                run()
                if turn:  # the first one chooses kernels
                    seconds[dtype].append(time.perf_counter() - started)
            if turn >= _ROUNDS[0] and time.perf_counter() - began > _SECONDS:
                break
    return statistics.median(seconds[torch.float32]) / statistics.median(seconds[torch.bfloat16])


def _work(dtype: torch.dtype) -> Callable[[], Tensor]:
    generator = torch.Generator().manual_seed(0)

    def drawn(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator).mul(0.05).to(dtype)

    tokens, up, down = drawn(_TOKENS, _CHANNELS), drawn(_WIDE, _CHANNELS), drawn(_CHANNELS, _WIDE)
    image, kernel = drawn(1, *_MAP), drawn(_MAP[0], _MAP[0], 3, 3)

    def run() -> Tensor:
        F.conv2d(image, kernel, padding=1)
        return F.linear(F.gelu(F.linear(tokens, up)), down)

    return run


def _has(unit: str) -> bool:
    check = getattr(torch.cpu, f"_is_{unit}_supported", None)
    return check is not None and bool(check())


def _read(file: Path) -> dict[str, float]:
    """Cached measurements; empty for a damaged or foreign file."""
    try:
        content = read_json(file)
    except (OSError, ValueError):
        return {}
    if not isinstance(content, dict):
        return {}
    return {name: float(gain) for name, gain in content.items() if isinstance(gain, int | float) and gain > 0}
