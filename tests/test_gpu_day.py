"""The GPU day, small and on a CPU: every step ends well and leaves its JSON."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from benchmarks.gpu_day import Step, run, steps
from benchmarks.gpu_speed import Speed
from benchmarks.gpu_training import epochs_that_fit
from benchmarks.small_pictures import small

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.slow
@pytest.mark.longest
def test_the_dry_day_passes_end_to_end(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHON": sys.executable, "BUDGET": "1800", "DATA": "", "WHEELS": ""}
    environment.pop("DATA")
    words = [ROOT / "benchmarks" / "gpu_day.sh", tmp_path, "--dry"]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    logs = "\n".join(path.read_text()[-3000:] for path in tmp_path.glob("*.log"))
    assert done.returncode == 0, done.stdout + done.stderr + logs
    day = json.loads((tmp_path / "day.json").read_text())
    assert {name: step["status"] for name, step in day["steps"].items()} == dict.fromkeys(
        ("smoke", "speed", "train_tpseg", "train_unet"), 0
    )
    smoke, speed = (json.loads((tmp_path / f"{name}.json").read_text()) for name in ("smoke", "speed"))
    assert all(check["ok"] for check in smoke.values())
    assert {"train_none", "train_bf16", "resume", "fast_float32", "kprism_bfloat16"} <= set(smoke)
    assert speed["forward_bfloat16"]["seconds"] > 0
    assert speed["over_the_floor"]["forward_bfloat16"] > 0
    trained = json.loads((tmp_path / "train_tpseg.json").read_text())
    assert trained["epochs"] == 1
    assert "mean" in trained["evaluation"]


def test_a_step_ends_with_its_time_and_the_day_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "sleep"))
    (tmp_path / "sleep").write_text("#!/bin/sh\nsleep 30\n")
    (tmp_path / "sleep").chmod(0o755)
    ended = run(Step("speed", "gpu_speed", [], 1.0), 0.2, tmp_path)
    assert ended["status"] == "out of time"
    assert [step.name for step in steps(tmp_path, tmp_path, True)] == ["smoke", "speed", "train_tpseg", "train_unet"]


def test_epochs_are_planned_by_the_second_one_of_the_trial() -> None:
    clock = [{"epoch": 1, "wall_seconds": 9.0}, {"epoch": 2, "wall_seconds": 11.0}]
    assert epochs_that_fit(clock, used=14.0, left=110.0, most=300) == int(0.8 * (110 - 10) / 2)
    assert epochs_that_fit(clock, used=14.0, left=110.0, most=3) == 3
    assert epochs_that_fit(clock, used=14.0, left=1.0, most=300) == 1


def test_a_measurement_that_fails_says_so_and_the_next_is_taken(tmp_path: Path) -> None:
    speed = Speed.__new__(Speed)
    speed.args, speed.cuda, speed.found = type("Options", (), {"out": tmp_path})(), False, {}

    def too_large() -> float:
        raise torch.OutOfMemoryError("no room")

    assert not speed.take(iter([("a", too_large), ("b", lambda: 2.0)]), until=float("inf"))
    assert json.loads((tmp_path / "speed.json").read_text()) == {"a": {"error": "OutOfMemoryError: no room"}, "b": 2.0}
    assert not speed.take(iter([("c", lambda: 1.0)]), until=0.0)
    assert speed.found["c"] == {"error": "no time left"}


def test_small_pictures_keep_masks_binary(tmp_path: Path) -> None:
    from PIL import Image

    mask = Image.new("L", (40, 30))
    mask.paste(255, (10, 5, 30, 20))
    mask.save(tmp_path / "mask.png")
    shrunk = small(tmp_path / "mask.png", 20, label=True)
    assert shrunk.mode == "1"
    assert shrunk.size == (20, 20)
    covered = sum(1 for y in range(20) for x in range(20) if shrunk.getpixel((x, y)))
    assert covered == pytest.approx(400 * (20 * 15) / (40 * 30), abs=12)
    Image.new("RGBA", (40, 30), (10, 20, 30, 255)).save(tmp_path / "picture.png")
    assert small(tmp_path / "picture.png", 20, label=False).mode == "RGB"
