"""K-Prism from nothing: phantoms, training, evaluation in three ways, one picture segmented by three kinds of prompts.

Runs the commands that a user would type, one after the other, in about three minutes on two cores. Everything lands in
one folder; a training that was interrupted goes on where it stopped.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
from demo import dice, read_mask, run

from monai_tpseg.clicks import next_clicks

CONFIGS = Path(__file__).resolve().parents[1] / "bundles" / "kprism_universal_segmentation" / "configs"
TASK = "skin_lesion"


def bundle(config: str, *options: object) -> None:
    """Run one config of the bundle."""
    run("-m", "monai.bundle", "run", "--config_file", CONFIGS / f"{config}.json", *options)


def write_prompts(data: Path, folder: Path) -> dict[str, tuple[object, ...]]:
    """Write exemplars and clicks for the picture of the demo; return the options of each kind of prompt."""
    folder.mkdir(parents=True, exist_ok=True)
    listed = json.loads((data / "datalist.json").read_text())["training"]
    shown = [{k: str((data / e[k]).absolute()) for k in ("image", "label")} for e in listed if e["task"] == TASK]
    (folder / "exemplars.json").write_text(json.dumps(shown[:3]))
    label = torch.from_numpy(read_mask(data / "demo" / f"{TASK}_label.png"))[None, None]
    clicks = torch.cat([next_clicks(torch.zeros_like(label), label), next_clicks(torch.ones_like(label), label)], dim=1)
    (folder / "clicks.json").write_text(json.dumps({f"{TASK}.png": clicks[0].tolist()}))
    by_exemplars, by_clicks = ("--exemplars", folder / "exemplars.json"), ("--clicks", folder / "clicks.json")
    return {"class": (), "exemplars": by_exemplars, "clicks": by_clicks}


def main() -> None:
    """Run the demo."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--output", type=Path, default=Path("kprism_output"), help="folder for everything (default: %(default)s)"
    )
    parser.add_argument("--epochs", type=int, default=10, help="epochs of the training (default: %(default)s)")
    parser.add_argument(
        "--minimum", type=float, default=0.8, help="fail below this Dice after ten clicks (%(default)s)"
    )
    args = parser.parse_args()
    data, weights = args.output / "data", args.output / "run" / "model.pt"

    if not (data / "datalist.json").is_file():
        run("-m", "monai_tpseg.testing.phantoms", data, "--train-per-task", 12, "--val-per-task", 2, "--size", 64)
    folder = ("--dataset_dir", data, "--num_workers", 0, "--output_dir")
    network = ("--backbone", "utnet_demo", "--image_size", 64, "--batch_size", 8, "--lr", 0.003)
    length = ("--max_epochs", args.epochs, "--val_interval", 5, "--cache_rate", 1.0, "--augmentation", "false")
    bundle("train", *folder, args.output / "run", *network, *length, "--resume", "auto")
    for start in ("semantic", "in_context", "interactive"):
        bundle("evaluate", *folder, args.output / start, "--checkpoint", weights, "--start", start)
    prompts = write_prompts(data, args.output / "prompts")
    source = ("--dataset_dir", data / "demo" / f"{TASK}.png", "--task", TASK, "--checkpoint", weights)
    for name, options in prompts.items():
        bundle("inference", *source, "--output_dir", args.output / "results" / name, *options)

    print("\nUnseen phantoms, mean Dice over tasks:")
    for start in ("semantic", "in_context"):
        metrics = json.loads((args.output / start / "metrics.json").read_text())
        print(f"  {start:12} {metrics['mean']['dice']:.3f}")
    clicks = json.loads((args.output / "interactive" / "clicks.json").read_text())["mean"]
    print("  interactive  " + ", ".join(f"{clicks[f'dice_after_{n}']:.3f} after {n}" for n in (1, 3, 5, 10)))
    print(f"  NoC85 {clicks['noc85']:.2f}, NoC90 {clicks['noc90']:.2f} of 10 clicks")
    print("\nThe picture of the inference:")
    for name in prompts:
        mask = args.output / "results" / name / f"{TASK}_{TASK}_mask.png"
        value = dice(read_mask(mask), read_mask(data / "demo" / f"{TASK}_label.png"))
        print(f"  by {name:10} Dice {value:.3f}   {mask}")
    if clicks["dice_after_10"] < args.minimum:
        raise SystemExit(f"Dice after ten clicks is {clicks['dice_after_10']:.3f}, below {args.minimum}.")


if __name__ == "__main__":
    main()
