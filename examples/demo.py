"""From nothing to segmented pictures, a volume and a DICOM series, on data the project makes itself, in two parts.

First the weights that are shipped segment a picture, a volume and a DICOM series, which takes less than a minute. Then
a small network is trained on phantoms, evaluated and used, which takes about three minutes on two cores. Both run the
commands that a user would type, one after the other. Everything lands in one folder; a run that was interrupted goes
on where it stopped.
"""

from __future__ import annotations

import argparse
import json
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
from PIL import Image

CONFIGS = Path(__file__).resolve().parents[1] / "bundles" / "tpseg_lesion_segmentation" / "configs"
CASES = {  # input of the inference -> its task
    "skin_lesion.png": "skin_lesion",
    "brain_tumor.nii.gz": "brain_tumor",
    "lung_infection_series": "lung_infection",
}


def run(*words: object) -> None:
    """Show a command and run it; stop with its status if it fails."""
    command = [str(word) for word in words]
    print("\n$ python " + shlex.join(command), flush=True)
    status = subprocess.run([sys.executable, *command], check=False).returncode
    if status:
        raise SystemExit(status)


def bundle(config: str, *options: object) -> None:
    """Run one config of the bundle."""
    run("-m", "monai.bundle", "run", "--config_file", CONFIGS / f"{config}.json", *options)


def read_mask(path: Path) -> np.ndarray:
    """Return a mask as booleans, from PNG or NIfTI."""
    values = np.asarray(Image.open(path)) if path.suffix == ".png" else np.asarray(nib.load(path).dataobj)
    return np.asarray(values > 0)


def dice(found: np.ndarray, label: np.ndarray) -> float:
    """Return the Dice of two masks of one shape."""
    return float(2 * (found & label).sum() / (found.sum() + label.sum()))


def table(evaluation: Path) -> tuple[str, float]:
    """Return the table per task and the mean Dice of an evaluation."""
    metrics = json.loads((evaluation / "metrics.json").read_text())
    lines = [f"{'task':16} {'images':>6} {'Dice':>6} {'IoU':>6} {'mean IoU':>9} {'data-set IoU':>13}"]
    for task, row in metrics.items():
        values = f"{row['dice']:6.3f} {row['iou_foreground']:6.3f} {row['iou_mean']:9.3f} {row['iou_dataset']:13.3f}"
        lines.append(f"{task:16} {row['n']:6.0f} {values}")
    return "\n".join(lines), float(metrics["mean"]["dice"])


def swap_tasks(datalist: Path) -> Path:
    """Write the validation list with each picture asked for its other lesion, but compared with the right label."""
    entries = json.loads(datalist.read_text())["validation"]
    tasks: dict[str, list[str]] = {}
    for entry in entries:
        tasks.setdefault(entry["image"], []).append(entry["task"])
    swapped = [
        {**entry, "task": next(task for task in tasks[entry["image"]] if task != entry["task"])}
        for entry in entries
        if len(tasks[entry["image"]]) == 2
    ]
    target = datalist.with_name("wrong_task.json")
    target.write_text(json.dumps({"validation": swapped}, indent=1))
    return target


def own_kind(datalist: Path) -> Path:
    """Write the validation list with each picture asked for the lesion of its own modality alone."""
    entries = json.loads(datalist.read_text())["validation"]
    own = [entry for entry in entries if Path(entry["image"]).name.startswith(entry["task"])]
    target = datalist.with_name("own_kind.json")
    target.write_text(json.dumps({"validation": own}, indent=1))
    return target


def first_masks(cases: Path, out: Path) -> None:
    """Part one: the shipped weights on one case of each kind."""
    print("\nPart 1 of 2: the weights that are shipped, without training.")
    for name, task in CASES.items():
        run("-m", "monai_tpseg", "run", cases / name, "--task", task, "--out", out, "--names", "source", "--resume")
    overlays = sorted((out / "cases").glob("*/*_overlay.png"))
    print("\nLook at " + "\n        ".join(map(str, overlays)))
    print("They were trained on pictures of patients, and these are phantoms: your own pictures suit them better.")


def main() -> None:
    """Run the demo."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--output", type=Path, default=Path("demo_output"), help="folder for everything (default: %(default)s)"
    )
    parser.add_argument("--epochs", type=int, default=16, help="epochs of the training (default: %(default)s)")
    parser.add_argument("--minimum", type=float, default=0.8, help="fail below this mean Dice (default: %(default)s)")
    parser.add_argument("--first", action="store_true", help="the first part alone")
    args = parser.parse_args()
    data, weights = args.output / "data", args.output / "run" / "model.pt"

    if not (data / "datalist.json").is_file():
        run("-m", "monai_tpseg.testing.phantoms", data, "--train-per-task", 48, "--val-per-task", 8, "--size", 64)
    first_masks(data / "demo", args.output / "first_masks")
    if args.first:
        return
    print("\nPart 2 of 2: a small network is trained on phantoms, evaluated and used.")
    network = (
        "--backbone",
        "hiera_demo",
        "--recipe",
        "from_scratch",
        "--augmentation",
        "flips",
        "--lr",
        0.002,
        "--image_size",
        64,
    )
    length = (
        "--max_epochs",
        args.epochs,
        "--batch_size",
        16,
        "--val_interval",
        5,
        "--num_workers",
        0,
        "--cache_rate",
        1.0,
    )
    folder = ("--dataset_dir", data, "--output_dir")
    bundle("train", *folder, args.output / "run", *network, *length, "--resume", "auto")
    bundle("evaluate", *folder, args.output / "evaluation", "--checkpoint", weights, "--num_workers", 0)
    wrong = args.output / "wrong_task"
    listed = ("--datalist", swap_tasks(data / "datalist.json"))
    bundle("evaluate", *folder, wrong, *listed, "--checkpoint", weights, "--num_workers", 0)
    shown = args.output / "own_kind"
    listed = ("--datalist", own_kind(data / "datalist.json"))
    bundle("evaluate", *folder, shown, *listed, "--checkpoint", weights, "--num_workers", 0)
    results = args.output / "results"
    for name, task in CASES.items():
        source = ("--dataset_dir", data / "demo" / name, "--task", task)
        bundle("inference", *source, "--output_dir", results, "--checkpoint", weights)

    shutil.copyfile(shown / "overlays" / "evaluation.png", args.output / "contact_sheet.png")
    shutil.copyfile(args.output / "evaluation" / "metrics.csv", args.output / "metrics.csv")
    text, mean = table(args.output / "evaluation")
    print("\nUnseen phantoms, at their own size:\n" + text)
    other = table(wrong)[1]
    print(f"\nPictures with two lesions, asked for the other one: mean Dice {other:.3f}; the task decides.")
    print("\nThe three cases of inference:")
    for name, task in CASES.items():
        stem = name.removesuffix(".nii.gz").removesuffix(".png")
        suffix = ".png" if name.endswith(".png") else ".nii.gz"
        mask = results / f"{stem}_{task}_mask{suffix}"
        value = dice(read_mask(mask), read_mask(data / "demo" / f"{stem}_label{suffix}"))
        print(f"  {name:24} Dice {value:.3f}   {mask}")
    print(f"\nMean Dice {mean:.3f}. Look at {args.output / 'contact_sheet.png'} and the overlays in {results}.")
    if mean < args.minimum:
        raise SystemExit(f"Mean Dice {mean:.3f} is below {args.minimum}.")
    if mean - other < 0.2:
        raise SystemExit(f"The wrong task loses only {mean - other:.3f} of Dice: the network does not use the task.")


if __name__ == "__main__":
    main()
