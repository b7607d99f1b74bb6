"""Measures what is fitted for the trust in masks: refusal, expected Dice, contours. docs/trust.md has its figures.

    python -m benchmarks.trust --weights starter-tpseg --lesions DATA --fit MORE --out trust.json
    python -m benchmarks.trust --weights starter-tpseg --lesions DATA --out trust.json

With --fit the files beside the weights are made anew first: refusal and expected Dice from up to 100 training pictures
of a task out of both lists, contours from the validation list.

Refusal: each validation picture is asked for every task (`--asked` pictures of a task), then natural pictures, noise,
upside-down and inverted pictures. Expected Dice: mean absolute error, cover of the interval, and how many of the cases
with Dice under 0.5 the worst fifth by prediction holds. Contours: over 200 random splits of the validation predictions
in halves, one calibrates and the other is judged.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from numpy.typing import NDArray
from tqdm import tqdm

from monai_tpseg.catalogue import get_task
from monai_tpseg.cli.main import main as tpseg
from monai_tpseg.data import read_datalist
from monai_tpseg.keys import IMAGE, LABEL, TASK
from monai_tpseg.metrics import dice_per_image
from monai_tpseg.studies import Model
from monai_tpseg.transforms import LoadMedicalImaged
from monai_tpseg.trust.contours import STEPS, Curves, curves_of, thresholds_of
from monai_tpseg.weights import weights_path

SPLITS = 200
Case = Mapping[str, Any]


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", default="starter-tpseg", help="name in the catalogue, or a file (%(default)s)")
    parser.add_argument("--lesions", type=Path, required=True, help="folder that holds datalist.json")
    parser.add_argument("--asked", type=int, default=10, help="pictures of a task asked for all tasks (%(default)s)")
    parser.add_argument("--most", type=int, default=0, help="validation pictures of a task (all)")
    parser.add_argument("--fit", type=Path, metavar="MORE", help="fit first; folder of the further training list")
    parser.add_argument("--fitted", type=int, default=100, help="training pictures of a task to fit (%(default)s)")
    parser.add_argument("--out", type=Path, required=True, help="JSON to write")
    args = parser.parse_args()
    if args.fit is not None:
        fit(args.weights, args.lesions, args.fit, args.fitted)
    model = Model(weights_path(args.weights), "cpu")
    tasks = model.info.tasks
    found = read_datalist(args.lesions / "datalist.json", "validation", args.lesions, tasks)
    cases = [case for task in tasks for case in [c for c in found if c[TASK] == task][: args.most or None]]
    seen = [look(model, case) for case in tqdm(cases, desc="own task")]
    result = {
        "weights": args.weights,
        "weights_sha256": model.info.sha256,
        "cases": len(cases),
        "false_alarms": alarms(seen, tasks),
        "asked": matrix(model, cases, args.asked),
        "others": others(model, cases),
        "expected_dice": expected(seen, tasks),
        "contours": contours(seen, tasks),
    }
    args.out.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


def fit(weights: str, lesions: Path, more: Path, most: int) -> None:
    """Make the files beside the weights anew, by the command that a site uses.

    Raises:
        SystemExit: it fails.
    """
    lists = [folder / "datalist.json" for folder in (lesions, more)]
    common = ["calibrate", "--checkpoint", weights, "--device", "cpu"]
    training = ["--fit", "trust", "--list", "training", "--most", str(most)]
    runs = [[*common, *training, "--data", str(lists[0]), "--data", str(lists[1])], [*common, "--data", str(lists[0])]]
    for words in runs:
        if status := tpseg(words):
            raise SystemExit(status)


def load(case: Case) -> tuple[MetaTensor, torch.Tensor]:
    """Read image and label of a case."""
    read = LoadMedicalImaged(IMAGE, label_keys=LABEL)(dict(case))
    return read[IMAGE], (torch.as_tensor(read[LABEL]).as_subclass(torch.Tensor) > 0).to(torch.uint8)


def look(model: Model, case: Case) -> dict[str, Any]:
    """Segment a case for its own task: what was said, what is true."""
    image, label = load(case)
    found = model.segment_image(image, case[TASK])
    dice = float(dice_per_image(found.mask[None].to(torch.uint8), label[None])[0])
    return {
        "task": case[TASK],
        "trust": found.trust,
        "dice": dice,
        "curves": curves_of(found.prob.numpy(), label.numpy()),
    }


def alarms(seen: Sequence[dict[str, Any]], tasks: Sequence[str]) -> dict[str, float]:
    """Share of pictures that are refused for their own task, in percent."""
    shares = {t: np.mean([one["trust"].refused for one in seen if one["task"] == t]) for t in tasks}
    return {
        name: round(100 * float(value), 1) for name, value in {**shares, "mean": np.mean([*shares.values()])}.items()
    }


def matrix(model: Model, cases: Sequence[Case], count: int) -> dict[str, Any]:
    """Row: asked for; column: what the picture is; percent refused."""
    tasks = model.info.tasks
    rows: dict[str, dict[str, float]] = {asked: {} for asked in tasks}
    for task in tqdm(tasks, desc="asked"):
        images = [load(case)[0] for case in cases if case[TASK] == task][:count]
        for asked in tasks:
            rows[asked][task] = refused(model, images, asked)
    modality = {task: get_task(task, model.info.modalities).modality for task in tasks}
    across = [
        rows[a][b] for a in tasks for b in tasks if modality[a] is not modality[b]
    ]  # thyroid and breast are both ultrasound
    return {"percent": rows, "pictures": count, "across_modalities": round(float(np.mean(across)), 1)}


def refused(model: Model, images: Sequence[MetaTensor], task: str) -> float:
    """Percent of images that are refused for a task."""
    return round(100 * float(np.mean([model.segment_image(image, task).trust.refused for image in images])), 1)


def others(model: Model, cases: Sequence[Case]) -> dict[str, dict[str, float]]:
    """Percent refused of pictures that no task knows, and of the task's own ones turned upside down or inverted."""
    table: dict[str, dict[str, float]] = {}
    for task in tqdm(model.info.tasks, desc="others"):
        own = [load(case)[0] for case in cases if case[TASK] == task][:6]
        changed: dict[str, Callable[[MetaTensor], Any]] = {
            "upside down": lambda x: x.flip(1),
            "inverted": lambda x: x.max() - x,
        }
        kinds = {name: [like(x, change(x)) for x in own] for name, change in changed.items()}
        kinds |= {name: [like(own[0], make(own[0], n)) for n in range(6)] for name, make in MADE.items()}
        table[task] = {name: refused(model, images, task) for name, images in kinds.items()}
    return table


def like(image: MetaTensor, values: Any) -> MetaTensor:
    """Other values in the place of an image."""
    return MetaTensor(torch.as_tensor(values).as_subclass(torch.Tensor).float(), meta=image.meta)


def noise(image: MetaTensor, seed: int) -> NDArray[np.float32]:
    """White noise."""
    return np.random.default_rng(seed).uniform(0, 255, image.shape).astype(np.float32)


def clouds(image: MetaTensor, seed: int) -> NDArray[np.float32]:
    """A scene with the spectrum of natural pictures, 1 / frequency, in colour."""
    rng, (_, height, width) = np.random.default_rng(seed), image.shape
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width)[None]) + 1 / max(height, width)
    scene = np.fft.ifft2(np.fft.fft2(rng.normal(size=(3, height, width))) / frequency).real
    low, high = np.quantile(scene, [0.01, 0.99])
    return (255 * np.clip((scene - low) / (high - low), 0, 1)).astype(np.float32)


def shapes(image: MetaTensor, seed: int) -> NDArray[np.float32]:
    """Flat rectangles in bright colours, as of a drawing or a screen."""
    rng, (_, height, width) = np.random.default_rng(seed), image.shape
    scene = np.full(image.shape, 255, np.float32)
    for _ in range(12):
        (top, left), (tall, wide) = rng.integers(0, [height, width]), rng.integers(8, [height // 2, width // 2])
        scene[:, top : top + tall, left : left + wide] = rng.uniform(0, 255, (3, 1, 1))
    return scene


MADE = {"noise": noise, "natural spectrum": clouds, "drawing": shapes}


def expected(seen: Sequence[dict[str, Any]], tasks: Sequence[str]) -> dict[str, Any]:
    """Error, cover, worst fifth, and what a calibration plot shows."""
    said = [one["trust"].dice for one in seen]
    value, dice = np.array([one.value for one in said]), np.array([one["dice"] for one in seen])
    low, worst = dice < 0.5, np.argsort(value)[: len(dice) // 5]
    bins = np.array_split(np.argsort(value), 6)
    of_task = {t: np.array([one["task"] == t for one in seen]) for t in tasks}
    return {
        "mean_absolute_error": round(float(np.abs(value - dice).mean()), 3),
        "of_task": {t: round(float(np.abs(value - dice)[own].mean()), 3) for t, own in of_task.items()},
        "bias": round(float((value - dice).mean()), 3),
        "within_interval": round(float(np.mean([s.low <= d <= s.high for s, d in zip(said, dice, strict=True)])), 3),
        "low_cases": int(low.sum()),
        "worst_fifth_holds": round(float(low[worst].sum() / max(low.sum(), 1)), 3),
        "most_it_could_hold": round(min(1.0, len(worst) / max(int(low.sum()), 1)), 3),
        "calibration": [[round(float(x[b].mean()), 3) for x in (value, dice)] for b in bins],
    }


def contours(seen: Sequence[dict[str, Any]], tasks: Sequence[str], share: float = 0.1) -> dict[str, Any]:
    """Realised mean risks over random halves, per task."""
    rng, table = np.random.default_rng(0), {}
    for task in tasks:
        curves: list[Curves] = [one["curves"] for one in seen if one["task"] == task]
        if len(curves) < 4:
            continue
        risks = []
        for _ in range(SPLITS):
            first, second = ([curves[i] for i in part] for part in np.array_split(rng.permutation(len(curves)), 2))
            found = thresholds_of(first, share, share)
            outer, inner = (round(one.value * STEPS) for one in (found.outer, found.inner))
            missed = [one.missed[outer] for one in second if one.missed is not None]
            risks.append((np.mean(missed), np.mean([one.false[inner] for one in second])))
        error = np.sqrt(share * (1 - share) / len(curves))
        missed_mean, false_mean = np.mean(risks, axis=0)
        table[task] = {
            "cases": len(curves),
            "missed": round(float(missed_mean), 4),
            "false": round(float(false_mean), 4),
            "allowed": round(float(share + 2 * error), 4),
        }
    return {"promised": share, "splits": SPLITS, "tasks": table}


if __name__ == "__main__":
    main()
