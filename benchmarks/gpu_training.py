"""Trains TP-Seg or a U-Net through the bundle for as many epochs as fit into the time, and evaluates what came out.

    python -m benchmarks.gpu_training tpseg --data DATA --out OUT --seconds 150

Two epochs of trial give the time of one; the training proper is planned by it, so that its schedule ends. The file
OUT/train_NAME.json holds losses, clock, metrics of the validation list, and those of the evaluation of TP-Seg from its
file in float32.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.timing import ROOT

CONFIGS = ROOT / "bundles" / "tpseg_lesion_segmentation" / "configs"
NETWORKS = {"tpseg": ["--backbone", "hiera_demo"], "unet": ["--architecture", "unet", "--width", "24"]}
KEPT = ("history.json", "clock.json", "validation/metrics.json", "model.json")
SHARE = 0.8  # of the time left that the epochs are planned for: the first one is slower, validation and pictures follow
EVALUATION = 25.0  # seconds that are kept for it


def bundle(config: str, seconds: float, *words: object) -> int | str:
    """Run a config of the bundle; return its exit status."""
    command = [sys.executable, "-m", "monai.bundle", "run", "--config_file", str(CONFIGS / f"{config}.json")]
    try:
        return subprocess.run([*command, *map(str, words)], check=False, timeout=max(seconds, 1.0)).returncode
    except subprocess.TimeoutExpired:
        return "out of time"


def epochs_that_fit(clock: list[dict[str, float]], used: float, left: float, most: int) -> int:
    """Return how many epochs fit into `left` seconds, after a trial of `used` seconds whose `clock` is this."""
    epoch = max(clock[-1]["wall_seconds"] - clock[0]["wall_seconds"], 0.05) / max(len(clock) - 1, 1)
    start = max(used - len(clock) * epoch, 0.0)
    return max(1, min(most, int(SHARE * (left - start) / epoch)))


def read(folder: Path) -> dict[str, Any]:
    """Return what a training has written, by name."""
    return {name: json.loads((folder / name).read_text()) for name in KEPT if (folder / name).is_file()}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("network", choices=tuple(NETWORKS))
    parser.add_argument("--data", required=True, help="folder with datalist.json")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--seconds", type=float, default=150)
    parser.add_argument("--dry", action="store_true", help="two epochs of 64 pixels")
    args = parser.parse_args()
    began = time.monotonic()

    def left() -> float:
        return args.seconds - 3 - (time.monotonic() - began)

    size, batch, workers, most = (64, 4, 0, 1) if args.dry else (256, 32, 8, 300)
    amp = "bf16"
    options = ["--dataset_dir", args.data, "--recipe", "from_scratch", "--image_size", size, "--batch_size", batch]
    options += ["--num_workers", workers, "--cache_rate", 1.0, "--overlay_images", "false", "--amp", amp]
    options += ["--device", args.device, *NETWORKS[args.network]]

    def train(folder: Path, epochs: int, seconds: float) -> int | str:
        return bundle(
            "train", seconds, *options, "--output_dir", folder, "--max_epochs", epochs, "--val_interval", epochs
        )

    with tempfile.TemporaryDirectory() as name:
        trial, run, evaluation = Path(name) / "trial", Path(name) / "run", Path(name) / "evaluation"
        result: dict[str, Any] = {"trial": train(trial, 2, left())}
        if result["trial"] == 0:
            clock = json.loads((trial / "clock.json").read_text())
            spare = EVALUATION if args.network == "tpseg" else 0.0
            result["epochs"] = epochs_that_fit(clock, time.monotonic() - began, left() - spare, most)
            result["status"] = train(run, result["epochs"], left())
        result |= {"seconds": time.monotonic() - began, **read(run)}
        (args.out / f"train_{args.network}.json").write_text(json.dumps(result, indent=1) + "\n")
        if args.network == "tpseg" and result.get("status") == 0:
            more = ["--dataset_dir", args.data, "--checkpoint", run / "model.pt", "--overlay_images", "false"]
            more += ["--output_dir", evaluation, "--device", args.device, "--num_workers", workers]
            result["evaluation_status"] = bundle("evaluate", left(), *more)
            if (evaluation / "metrics.json").is_file():
                result["evaluation"] = json.loads((evaluation / "metrics.json").read_text())
        (args.out / f"train_{args.network}.json").write_text(json.dumps(result, indent=1) + "\n")
    return int(result.get("status") != 0 or result.get("evaluation_status", 0) != 0)


if __name__ == "__main__":
    raise SystemExit(main())
