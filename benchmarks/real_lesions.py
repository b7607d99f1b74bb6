"""TP-Seg beside MONAI's UNet on real lesions of all eight tasks, trained from scratch under one budget.

Runs the bundle's own commands (train, then evaluate) for both networks with the same data, order, loss, schedule,
steps and image size, and writes what `docs/results.md` shows: a JSON with every figure, learning curves, sheets of
outlines, and the page itself. Runs that are done are not repeated, interrupted ones go on.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure

from monai_tpseg.networks.checkpoint import read_checkpoint
from monai_tpseg.tasks import TASK_NAMES

ROOT = Path(__file__).resolve().parents[1]
CONFIGS = ROOT / "bundles" / "tpseg_lesion_segmentation" / "configs"
NETWORKS: dict[str, tuple[str, list[str], list[str]]] = {
    # name -> (title, further config files, options)
    "tpseg": (
        "TP-Seg, small",
        [],
        ["--backbone", "hiera_demo", "--rfb_channels", "[32,48,64,96]", "--channels", "[48,48,64]"],
    ),
    "unet": ("MONAI UNet, no task input", ["benchmarks/peers/unet.json"], []),
}
BUDGET = ["--recipe", "from_scratch", "--image_size", "128", "--batch_size", "8", "--val_interval", "4"]
BUDGET += ["--num_workers", "0", "--seed", "0", "--cache_rate", "1.0", "--resume", "auto"]


def command(config: str, name: str, *options: str) -> list[str]:
    """Return one command of the bundle for a network."""
    files = [str(CONFIGS / f"{config}.json"), *(str(ROOT / extra) for extra in NETWORKS[name][1])]
    listed = files[0] if len(files) == 1 else "['" + "','".join(files) + "']"
    return [sys.executable, "-m", "monai.bundle", "run", "--config_file", listed, *options]


def shown(words: list[str]) -> str:
    """Return a command as one would type it in the repository."""
    quoted = [f'"{word}"' if "[" in word else shlex.quote(word) for word in words[1:]]
    return " ".join(["python", *quoted]).replace(str(ROOT) + "/", "").replace(" --", " \\\n    --")


def run(name: str, data: Path, folder: Path, epochs: int) -> dict[str, Any]:
    """Train and evaluate one network; return its figures."""
    train = command("train", name, "--dataset_dir", str(data), "--output_dir", str(folder), "--max_epochs", str(epochs))
    train += [*BUDGET, *NETWORKS[name][2]]
    last = folder / "last.pt"
    if not last.is_file() or read_checkpoint(last)["epoch"] < epochs:
        subprocess.run(train, check=True)
    evaluate = command("evaluate", name, "--dataset_dir", str(data), "--output_dir", str(folder / "evaluation"))
    evaluate += ["--checkpoint", str(folder / "model.pt"), "--num_workers", "0", "--overlay_images", "false"]
    subprocess.run(evaluate, check=True)
    started = min(int(f.name.split(".")[3]) for f in (folder / "tensorboard").glob("events.out.tfevents.*"))
    weights = read_checkpoint(folder / "model.pt")
    buffers = ("bank.prototypes", "gate.temperature", "gate.hard", "reinforcement")
    return {
        "title": NETWORKS[name][0],
        "parameters": sum(v.numel() for k, v in weights.items() if v.is_floating_point() and not k.endswith(buffers)),
        "minutes": round((last.stat().st_mtime - started) / 60, 1),
        "training": json.loads((folder / "model.json").read_text())["training"],
        "metrics": json.loads((folder / "evaluation" / "metrics.json").read_text()),
        "history": json.loads((folder / "history.json").read_text()),
        "command": shown([w.replace(str(data), "DATA").replace(str(folder), "OUT") for w in train]),
    }


def draw(results: dict[str, Any], path: Path) -> None:
    """Draw loss and mean validation Dice of both networks."""
    figure = Figure(figsize=(9, 3.4), layout="constrained")
    loss, dice = figure.subplots(1, 2)
    for entry in results.values():
        epochs = [row["epoch"] for row in entry["history"]]
        first = entry["history"][0]["loss"]
        loss.plot(epochs, [row["loss"] / first for row in entry["history"]], label=entry["title"])
        valid = [
            (row["epoch"], row["metrics"]["dice/mean"]) for row in entry["history"] if "dice/mean" in row["metrics"]
        ]
        dice.plot(*zip(*valid, strict=True), marker="o", label=entry["title"])
    loss.set(title="Training loss, relative to the first epoch", xlabel="epoch")
    dice.set(title="Mean Dice over tasks, validation list", xlabel="epoch", ylim=(0, 1))
    for axes in (loss, dice):
        axes.grid(alpha=0.3)
        axes.legend()
    figure.savefig(path, dpi=110)


def page(results: dict[str, Any], machine: str) -> str:
    """Return `docs/results.md`."""
    tp, unet = results["tpseg"], results["unet"]
    budget = tp["training"]
    rows = []
    for task in (*TASK_NAMES, "mean"):
        cells = [f"{e['metrics'][task][key]:.3f}" for e in (tp, unet) for key in METRICS]
        name = f"**{task}**" if task == "mean" else f"`{task}`"
        rows.append(f"| {name} | {tp['metrics'][task]['n']:.0f} | {' | '.join(cells)} |")
    header = " | ".join(["Dice", "IoU", "mean IoU", "data-set IoU"] * 2)
    difference = tp["metrics"]["mean"]["dice"] - unet["metrics"]["mean"]["dice"]
    return TEXT.format(
        rows="\n".join(rows),
        header=header,
        rule="---|" * 10,
        machine=machine,
        epochs=budget["max_epochs"],
        difference=difference,
        tp=tp,
        unet=unet,
        tp_m=tp["parameters"] / 1e6,
        unet_m=unet["parameters"] / 1e6,
    )


METRICS = ("dice", "iou_foreground", "iou_mean", "iou_dataset")

TEXT = """# Results

Made by `benchmarks/real_lesions.py`; every figure is in [results/lesions_128.json](results/lesions_128.json).

## Real lesions of eight tasks, from scratch, on two CPU cores

1,471 training and 374 validation pictures of public research data sets, all eight tasks (OCT, MR, histopathology,
ultrasound, endoscopy, CT, dermoscopy). They are a fraction of the paper's data, and for some tasks other sources, so
these figures compare two networks with each other, not with the paper's table. SAM 2 weights were not available: the
trunk is a very small Hiera trained from nothing. Nothing was tuned on the validation list but the choice of the epoch,
for both networks alike.

One model for all tasks each, {epochs} epochs, batch 8, 128 x 128 input, recipe `from_scratch`, seed 0, the same order
of pictures. TP-Seg is told the task; the UNet has no input for it, and tells tasks apart by the picture. Metrics are
taken at the pictures' own size; "IoU" is per image, "mean IoU" per image over both classes, "data-set IoU" over both
classes from one confusion matrix per task. [conventions.md](conventions.md) has the definitions.

| task | images | {header} |
|{rule}
{rows}

The four columns on the left are TP-Seg's, those on the right MONAI's `UNet`'s.

| | parameters | best epoch | minutes of training | mean Dice |
|---|---|---|---|---|
| {tp[title]} | {tp_m:.2f} M | {tp[training][epoch]} | {tp[minutes]} | {tp[metrics][mean][dice]:.3f} |
| {unet[title]} | {unet_m:.2f} M | {unet[training][epoch]} | {unet[minutes]} | {unet[metrics][mean][dice]:.3f} |

Difference in mean Dice, TP-Seg minus UNet: {difference:+.3f}. This is one seed of one small setting without pre-trained
weights, and differences between tasks of this size mean little. It does not show TP-Seg ahead of a UNet here.

Machine: {machine}. Steps are equal.
Both trainings ran side by side, one thread each, with other work on the machine, so the minutes are an upper bound.

![Curves](figures/lesions_128_curves.png)

Outlines of predictions (amber) and labels (blue) for the first, worst and best validation pictures of each task. The
pictures themselves are not ours to pass on; a run of your own draws them (`overlays/`).

![Outlines of TP-Seg](figures/lesions_128_outlines.png)

These runs were made before the loss took its present default at the image's edge (`count_include_pad`, which is now as
in the released loss), so a repetition differs slightly there.

### Commands

DATA holds `datalist.json` with the lists `training` and `validation`.

```bash
{tp[command]}
{unet[command]}
```

## Phantoms

`make demo` prints its own table. Phantoms show that the program works, not how it does on patients.
"""


def main() -> None:
    """Run the comparison and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with datalist.json")
    parser.add_argument("--output", type=Path, required=True, help="folder of the runs")
    parser.add_argument("--epochs", type=int, default=24, help="epochs of each training (default: %(default)s)")
    parser.add_argument("--docs", type=Path, default=ROOT / "docs", help="where the page goes (default: %(default)s)")
    args = parser.parse_args()

    results = {name: run(name, args.data, args.output / name, args.epochs) for name in NETWORKS}
    machine = f"{os.cpu_count()} cores, {platform.machine()}, torch {torch.__version__.split('+')[0]}, CPU"
    for folder in ("results", "figures"):
        (args.docs / folder).mkdir(parents=True, exist_ok=True)
    text = json.dumps({"machine": machine, "networks": results}, indent=1) + "\n"
    (args.docs / "results" / "lesions_128.json").write_text(text)
    draw(results, args.docs / "figures" / "lesions_128_curves.png")
    (sheet,) = (args.output / "tpseg" / "evaluation" / "overlays").glob("*.png")
    shutil.copyfile(sheet, args.docs / "figures" / "lesions_128_outlines.png")
    (args.docs / "results.md").write_text(page(results, machine))
    print(f"Wrote {args.docs / 'results.md'}")


if __name__ == "__main__":
    main()
