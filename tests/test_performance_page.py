"""Targets of the speed benchmarks and the page that is made of them."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from benchmarks.floor import compute_floor, multiply_adds, product_rate
from benchmarks.performance_page import (
    compiled,
    empty,
    inference,
    int8,
    masks,
    runtimes,
    start,
    studies,
    training,
    volume,
    waiting,
)
from benchmarks.speed_int8 import Int8Linear
from benchmarks.timing import target
from monai_tpseg.networks.fast.encoder import PackedLinear

SETTINGS: dict[str, Any] = {
    "settings": {"backbone": "hiera_tiny", "size": 256, "batch": 16},
    "machine": "2 cores, x86_64, CPU",
    "torch": "2.14.1",
}


def test_the_floor_is_the_work_at_the_rate_of_a_product(monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = torch.randn(64, 128), torch.randn(128, 32)
    assert multiply_adds(lambda: a @ b) == 64 * 128 * 32
    assert product_rate("cpu", torch.float32, size=64, rounds=2) > 0
    monkeypatch.setattr("benchmarks.floor.product_rate", lambda *_: 2.0)
    assert compute_floor(lambda: a @ b, "cpu", torch.float32) == 32 * 128 * 32


def timed(seconds: float) -> dict[str, float]:
    return {"seconds": seconds, "cpu_seconds": 2 * seconds, "least_seconds": seconds}


@pytest.mark.parametrize(
    ("measured", "most", "met"), [(1.9, False, (True, False)), (2.6, False, (True, True)), (1.9, True, (False, True))]
)
def test_target(measured: float, most: bool, met: tuple[bool, bool]) -> None:
    line = target("ratio", measured, 1.8, 2.5, most)
    assert (line["met"], line["stretch_met"]) == met
    assert line["target"] == ("at most 1.8" if most else "at least 1.8")
    assert "stretch" not in target("ratio", measured, 1.8)


def test_training() -> None:
    names = ("twin", "network", "network_checkpointed", "network_bf16", "network_bf16_checkpointed")
    result = {
        **SETTINGS,
        "times": {name: timed(t) for name, t in zip(names, (10.0, 5.0, 6.5, 4.0, 5.0), strict=True)},
        "peak_mib": dict(zip(names, (6000.0, 4000.0, 1000.0, 3000.0, 900.0), strict=True)),
        "targets": [target("twin / network, bf16", 2.5, 1.8, 2.6)],
        "operations": {"network": {"aten::mm": 0.5}, "network_bf16": {"aten::mm": 0.25, "aten::gelu": 0.1}},
    }
    page = training(result)
    assert "| twin / network, bf16 | 2.5 | at least 1.8 | met | 2.6 | missed |" in page
    assert "`checkpoint_activations`, network, float32: 30% more time, 75% less memory." in page
    assert "| mm | 5000 | 2000 |\n| gelu |  | 800 |" in page


def test_inference() -> None:
    result = {
        **SETTINGS,
        "times": {"network_bf16": timed(2.0), "encoder_bf16": timed(1.0)},
        "ratios": {"network bf16 / bare encoder bf16": timed(1.5)},
        "relative_errors": {"network_bf16": 0.012},
        "targets": [target("network bf16 / bare encoder bf16", 1.5, 1.4, 1.25, most=True)],
        "operations": {"network_bf16": {"aten::addmm": 0.5}, "encoder_bf16": {"aten::addmm": 0.75}},
    }
    page = inference(result)
    assert "| network bf16 / bare encoder bf16 | 1.5 | at most 1.4 | missed | 1.25 | missed |" in page
    assert "| addmm | 2000 | 1500 |" in page


def test_volume() -> None:
    result = {
        **SETTINGS,
        "memory": [{"slices": 8, "slice_batch": 4, "peak_mib": 31.6}],
        "network_share": {"cpu_seconds": 0.97},
        "slices_a_second": 12.34,
        "slices_of_auto": 72,
        "memory_mb": 1024,
        "targets": [target("network's share of the time", 0.97, 0.9)],
    }
    page = volume(result)
    assert "`auto` runs\n72 slices together within 1024 MiB." in page
    assert "| network's share of the time | 0.97 | at least 0.9 | met |" in page


def test_compiled() -> None:
    names = ("step", "step_compiled", "inference", "inference_compiled")
    result = {
        **SETTINGS,
        "times": {name: timed(t) for name, t in zip(names, (4.0, 2.0, 1.0, 0.8), strict=True)},
        "gains": {"step": timed(2.0), "inference": timed(1.25)},
        "first_call_seconds": {"step_compiled": 90.0, "inference_compiled": 31.0},
    }
    page = compiled(result)
    assert "| training step, bf16 | 8.00 | 4.00 | 4.00 | 90 |" in page
    assert "| network for inference, bf16 | 2.00 | 1.60 | 2.50 | 31 |" in page


def test_empty() -> None:
    row = {"noise": 0.02, "side": 0.125, "slices_lost": 3, "share_of_lesion_pixels_lost": 0.015}
    result = {
        "cases": 50,
        "rows": [{**row, "share_of_air_skipped": 0.9}],
        "volumes": {"volumes": 2, "slices": 20, "run": 18},
    }
    page = empty(result)
    assert "| 1.6% | 2% | 3 of 50 | 1.5% | 90% |" in page
    assert "Of 2 real volumes as they are, 18 of 20 slices run." in page


def test_masks() -> None:
    dice = {"pooled": 0.9991, "median": 0.9992, "mean": 0.9979, "least": 0.9}
    targets = [target("Dice of network bf16, mean", 0.9979, 0.998)]
    page = masks({"cases": 7, "model": "hiera_demo", "dice": {"network_bf16": dice}, "targets": targets})
    assert "| network for inference, bf16 | 0.9991 | 0.9992 | 0.9979 | 0.90 |" in page
    assert "| Dice of network bf16, mean | 0.9979 | at least 0.998 | missed |" in page


def test_start() -> None:
    result: dict[str, Any] = {**SETTINGS, "precision": "fp32", "seconds": {"import": 7.6}}
    result["times"] = {"import": {"seconds": 8.0, "cpu_seconds": 7.5}, "run": {"seconds": 12.0, "cpu_seconds": 16.0}}
    result["targets"] = [target("first mask / import of torch and monai", 1.5, 1.6, most=True)]
    page = start(result)
    assert "Network for inference, fp32." in page
    assert "| import | 7.6 |" in page
    assert "| `tpseg run` on one picture, weights of the smallest network | 12.00 | 16.00 |" in page
    assert "| first mask / import of torch and monai | 1.5 | at most 1.6 | met | |" in page


def test_runtimes() -> None:
    settings = {**SETTINGS["settings"], "checkpoint": "w.pt", "task": "skin_lesion", "calibration": 64}
    result: dict[str, Any] = {
        **SETTINGS,
        "settings": settings,
        "times": {"network_fp32": timed(0.2), "onnxruntime_int8": timed(0.1)},
        "ratios": {"network_fp32": timed(1.0), "onnxruntime_int8": timed(2.0)},
        "dice": {"onnxruntime_int8": {"pooled": 0.99, "median": 0.99, "mean": 0.991, "least": 0.9}},
        "cases": 100,
        "versions": {"onnxruntime": "1.32.0", "openvino": "not installed"},
        "instructions": "AVX2",
    }
    page = runtimes(result)
    assert "| ONNX Runtime, int8 | 0.100 | 4.00 | 2.00 | 0.9910 | no |" in page
    assert "openvino not installed" in page
    assert "## Other runtimes, AVX2" in page


def test_studies_and_what_they_cost_before() -> None:
    fixed = {"start": 9.0, "reading, in other processes": 8.0}
    result = {
        **SETTINGS,
        "settings": {"studies": 30, "size": 64, "before": "0a1b2c3"},
        "stages": {
            "after": {**fixed, "network": 2.0, "structured report": 3.0},
            "before": {**fixed, "network": 2.0, "structured report": 5.5},
        },
        "totals": {"after": 22.0, "before": 24.5},
        "same_bytes": True,
        "files": 99,
    }
    page = studies(result)
    assert "| | commit `0a1b2c3` | now |" in page
    assert "| structured report | 5.50 | 3.00 |\n| network | 2.00 | 2.00 |\n| all | 24.50 | 22.00 |" in page
    assert "time of a study now goes to: structured report 60%, network 40%." in page
    assert "at the earlier commit / now | 1.5 | at least 1.5 | met |" in page
    assert "the same 99 files" in page
    assert "Not all files of the two commits are the same bytes" in studies({**result, "same_bytes": False})
    alone = studies({**result, "stages": {"after": result["stages"]["after"]}, "totals": {"after": 22.0}})
    assert "| network | 2.00 |" in alone
    assert "earlier" not in alone


def test_waiting() -> None:
    result = {
        **SETTINGS,
        "settings": {"pictures": 10, "size": 128},
        "load": 4.2,
        "times": {
            **{f"one thread {place}": timed(1.0) for place in ("alone", "beside")},
            **{"as PyTorch comes alone": timed(0.5), "as PyTorch comes beside": timed(2.5)},
            **{f"OMP_WAIT_POLICY=passive {place}": timed(0.75) for place in ("alone", "beside")},
        },
    }
    page = waiting(result)
    assert "| as PyTorch comes | 0.50 | 1.00 | 2.50 | 5.00 | 2.50 |" in page
    assert "takes 1.5 times as long with sleeping threads" in page


@pytest.mark.parametrize(("speed", "offered"), [(1.53, "not offered"), (1.7, "is offered")])
def test_int8_is_offered_by_speed_and_dice(speed: float, offered: str) -> None:
    part = {"layers": 35, "share": 0.3, "size": 192, "backbone": "hiera_mini", "ratios": {"onednn_int8": speed}}
    settings = SETTINGS["settings"] | {"calibration": 20, "pictures": 20}
    dice = {"skin_lesion": {"mean": 0.999}, "wet_amd": {"mean": 0.993}}
    result = {"instructions": "AVX2", "versions": {"torchao": "not installed"}, "dice": dice, "starter": part}
    page = int8(SETTINGS | {"settings": settings, "large": part} | result)
    assert offered in page
    assert f"| 35 | 30% | 1.43 | {speed:.2f} | not timed |" in page
    assert "0.9960" in page
    assert "0.9930 (`wet_amd`)" in page


def test_a_linear_layer_in_int8_is_that_of_float32_within_its_steps() -> None:
    torch.manual_seed(0)
    plain = PackedLinear(torch.nn.Linear(16, 8))
    quantised, x = Int8Linear(plain), torch.randn(2, 5, 16)
    with torch.inference_mode():
        expected = quantised(x)
        quantised.freeze()
        torch.testing.assert_close(expected, plain(x))
        weight = (plain.weight / quantised.weight_scales[:, None]).round() * quantised.weight_scales[:, None]
        steps = (x / quantised.scale).round() * quantised.scale
        torch.testing.assert_close(
            quantised(x), torch.nn.functional.linear(steps, weight, plain.bias), atol=1e-4, rtol=0
        )
        torch.testing.assert_close(quantised(x), expected, atol=0.1, rtol=0)
