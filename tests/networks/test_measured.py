"""bf16 or float32: measured once for a CPU, remembered, and never in the way."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from monai_tpseg.networks.fast.measured import bf16_gain, measure_bf16_gain, processor


def test_a_processor_is_measured_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache, calls = tmp_path / "of" / "user" / "bf16.json", []

    def measure() -> float:
        calls.append(1)
        return 2.5

    assert [bf16_gain(cache, measure) for _ in range(3)] == [2.5] * 3
    assert calls == [1]
    assert json.loads(cache.read_text()) == {processor(): 2.5}
    monkeypatch.setattr("monai_tpseg.networks.fast.measured.processor", lambda: "another, 2 threads")
    assert bf16_gain(cache, lambda: 0.3) == 0.3
    assert len(json.loads(cache.read_text())) == 2


@pytest.mark.parametrize("content", ["", "[1]", "{", '{"x": "fast"}', "\xff"])
def test_a_damaged_cache_is_replaced(content: str, tmp_path: Path) -> None:
    cache = tmp_path / "bf16.json"
    cache.write_bytes(content.encode("latin-1"))
    assert bf16_gain(cache, lambda: 1.5) == 1.5
    assert json.loads(cache.read_text())[processor()] == 1.5


def test_a_cache_that_cannot_be_written_costs_a_measurement(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert bf16_gain(tmp_path / "file" / "bf16.json", lambda: 1.5) == 1.5


def test_instructions_and_threads_are_part_of_the_name(monkeypatch: pytest.MonkeyPatch) -> None:
    before = processor()
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    assert processor() != before
    assert torch.__version__ in before


def test_measuring_compares_the_same_work_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, cost, ran = [0.0], {torch.float32: 0.3, torch.bfloat16: 0.1}, []

    def work(dtype: torch.dtype) -> object:
        def run() -> None:
            ran.append(dtype)
            clock[0] += cost[dtype]

        return run

    monkeypatch.setattr("monai_tpseg.networks.fast.measured._work", work)
    monkeypatch.setattr("monai_tpseg.networks.fast.measured.time.perf_counter", lambda: clock[0])
    assert measure_bf16_gain() == pytest.approx(3.0)
    assert ran == [torch.float32, torch.bfloat16] * 4  # one that is not timed, and the least of three
