"""Trains K-Prism three times on one datalist, measures every kind of prompt, writes docs/results/kprism_lesions.json.

All trainings take the same steps on the same pictures in the same order; they differ in what their batches start from.
Everything runs through the bundle's own train.json and evaluate.json. What is done is kept in OUT and not done again;
a training that was interrupted goes on from its last epoch.

    python -m benchmarks.kprism_lesions --data DATA --out OUT           # DATA holds datalist.json
    python -m benchmarks.kprism_lesions --data DATA --out OUT --tune    # only the trials on a part of the training list
    python -m benchmarks.kprism_results_page                            # then docs/results-kprism.md and its figure
"""

from __future__ import annotations

import argparse
import csv
import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch

from benchmarks.kprism_wrong import write_wrong
from monai_tpseg.catalogue import TASK_NAMES
from monai_tpseg.experiments.datalist import write_datalist
from monai_tpseg.files import complete, write_atomically
from monai_tpseg.networks import build_described

ROOT = Path(__file__).resolve().parents[1]
CONFIGS = ROOT / "bundles" / "kprism_universal_segmentation" / "configs"
TRAININGS: dict[str, tuple[float, float, float]] = {  # shares of batches that start from a class, exemplars, a click
    "mixed": (0.3, 0.3, 0.4),
    "clicks": (0.0, 0.0, 1.0),
    "semantic": (1.0, 0.0, 0.0),
}
OPTIONS: dict[str, Any] = {
    "backbone": "hiera_demo",
    "channels": 48,
    "width": 8,
    "image_size": 128,
    "batch_size": 8,
    "epoch_cases": 368,  # 46 steps; the sampler gives every task as many
    "max_epochs": 8,
    "lr": 0.001,
    "warmup": 0.05,
}
QUIET: dict[str, Any] = {"device": "cpu", "num_workers": 0, "overlay_images": False, "progress": False}
TRIAL: dict[str, Any] = {"epoch_cases": 320, "max_epochs": 4, "val_interval": 4, "val_clicks": 5}
TRIALS: dict[str, dict[str, Any]] = {
    "lr 0.001": {},
    "lr 0.003": {"lr": 0.003},
}
HOLDOUT = 10  # the trials are validated on the last tenth of each task's training list


class Evaluation(NamedTuple):
    """One call of evaluate.json.

    Attributes:
        training: whose weights.
        start: what the first mask comes from.
        clicks: simulated clicks after it.
        exemplars: references a case.
        shown: "right", or what is wrong with the exemplars: see `write_wrong`.
    """

    training: str
    start: str
    clicks: int = 0
    exemplars: int = 1
    shown: str = "right"

    @property
    def name(self) -> str:
        """Folder of its files, in that of the training."""
        shown = f"_{self.exemplars}_{self.shown}" if self.start == "in_context" else ""
        return f"{self.start}{shown}_{self.clicks}"


EVALUATIONS = (
    Evaluation("mixed", "semantic", 10),
    Evaluation("mixed", "in_context", 10),
    Evaluation("mixed", "interactive", 10),
    Evaluation("clicks", "interactive", 10),
    Evaluation("semantic", "semantic", 10),
    *(Evaluation("mixed", "in_context", exemplars=number) for number in (3, 5)),
    *(Evaluation("mixed", "in_context", shown=wrong) for wrong in ("other_task", "inverted", "shifted")),
)


def bundle(config: str, options: Mapping[str, Any], log: Path) -> None:
    """Run a config of the bundle in a process of its own, its output appended to `log`.

    Raises:
        SystemExit: it failed.
    """
    words = [sys.executable, "-m", "monai.bundle", "run", "--config_file", str(CONFIGS / f"{config}.json")]
    words += [word for key, value in (QUIET | dict(options)).items() for word in (f"--{key}", str(value))]
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as stream:
        ended = subprocess.run(words, stdout=stream, stderr=subprocess.STDOUT, check=False)
    if ended.returncode:
        raise SystemExit(f"{config}.json failed; see '{log}'.")


def train(folder: Path, data: Path, datalist: Path, options: Mapping[str, Any]) -> None:
    """Train into `folder` unless it holds a finished training of these options.

    Raises:
        SystemExit: the training failed, or the folder holds one of other options.
    """
    written, state = json.dumps(dict(options), indent=1) + "\n", folder / "options.json"
    if state.is_file() and state.read_text() != written:
        raise SystemExit(f"'{folder}' contains a training with other options; remove it, or choose another --out.")
    write_atomically(state, written.encode())
    if (folder / "trained").is_file():
        return
    given = {"dataset_dir": data, "datalist": datalist, "output_dir": folder, "resume": "auto"}
    given |= {"cache_rate": 1.0, "validate::dataset::cache_rate": 0.0}
    print(f"training {folder.name}", flush=True)
    bundle("train", {**given, "val_interval": options["max_epochs"], **options}, folder / "log.txt")
    write_atomically(folder / "trained", b"")


def training_list(data: Path, path: Path) -> Path:
    """Write the datalist of the trainings, validated on one picture a task: what counts is measured afterwards."""
    lists = json.loads((data / "datalist.json").read_text())
    first = {entry["task"]: entry for entry in reversed(lists["validation"])}
    write_atomically(path, json.dumps({**lists, "validation": list(first.values())}).encode())
    return path


def shares(training: str) -> dict[str, float]:
    """Return a training's options of train.json."""
    keys = ("semantic_share", "in_context_share", "interactive_share")
    return dict(zip(keys, TRAININGS[training], strict=True))


def evaluate(evaluation: Evaluation, data: Path, out: Path, lists: Mapping[str, Path]) -> None:
    """Run an evaluation unless its files are there."""
    folder = out / evaluation.training / evaluation.name
    if (folder / "metrics_per_image.csv").is_file():
        return
    options = {"dataset_dir": data, "datalist": lists[evaluation.shown], "output_dir": folder}
    options |= {"checkpoint": out / evaluation.training / "model.pt", "start": evaluation.start}
    options |= {"clicks": evaluation.clicks, "exemplars": evaluation.exemplars}
    print(f"evaluating {evaluation.training}/{evaluation.name}", flush=True)
    bundle("evaluate", options, out / evaluation.training / "log.txt")


def describe(folder: Path) -> dict[str, Any]:
    """Return what a finished training leaves: parameters, seconds and loss by epoch."""
    network = build_described(folder / "model.pt")
    clock = json.loads((folder / "clock.json").read_text())
    history = json.loads((folder / "history.json").read_text())
    return {
        "parameters": sum(p.numel() for p in network.parameters()),
        "cpu_seconds": clock[-1]["cpu_seconds"],
        "wall_seconds": clock[-1]["wall_seconds"],
        "loss": [round(entry["loss"], 4) for entry in history],
    }


def measured(evaluation: Evaluation, data: Path, out: Path) -> dict[str, Any]:
    """Return an evaluation's results: the Dice of each picture before the first click and after each, and NoC."""
    folder = out / evaluation.training / evaluation.name
    name, prefix = ("clicks_per_image", "dice_") if evaluation.clicks else ("metrics_per_image", "dice")
    with (folder / f"{name}.csv").open(encoding="utf-8", newline="") as stream:
        rows = sorted(csv.DictReader(stream), key=lambda row: (row["task"], row["case"]))
    clicks = json.loads((folder / "clicks.json").read_text()) if evaluation.clicks else {}
    return {
        **evaluation._asdict(),
        "noc": {task: {key: round(v[key], 3) for key in ("noc85", "noc90")} for task, v in clicks.items()},
        "case": [Path(row["case"]).relative_to(data.absolute()).as_posix() for row in rows],
        "task": [row["task"] for row in rows],
        "dice": [[round(float(v), 4) for key, v in row.items() if key.startswith(prefix)] for row in rows],
    }


def pictures(evaluations: list[dict[str, Any]]) -> dict[str, Any]:
    """Take the names and tasks of the pictures, the same in all evaluations, out of them and return them.

    Raises:
        ValueError: evaluations are of different pictures.
    """
    taken = [{key: entry.pop(key) for key in ("case", "task")} for entry in evaluations]
    if any(each != taken[0] for each in taken):
        raise ValueError("The evaluations are of different pictures; remove their folders and run them again.")
    return taken[0]


def write(path: Path, content: Mapping[str, Any]) -> None:
    """Write the results, an evaluation and a trial a line."""
    lines = [f' "{key}": {json.dumps(value)}' for key, value in content.items() if not isinstance(value, list)]
    for key, value in content.items():
        if isinstance(value, list):
            lines.append(f' "{key}": [\n  ' + ",\n  ".join(json.dumps(entry) for entry in value) + "\n ]")
    with complete(path) as part:
        part.write_text("{\n" + ",\n".join(lines) + "\n}\n")


def tune(data: Path, out: Path) -> list[dict[str, Any]]:
    """Run the trials on a part of the training list and return what each reached on the rest of it."""
    datalist = out / "tune" / "datalist.json"
    write_datalist(data / "datalist.json", datalist, TASK_NAMES, HOLDOUT)
    found = []
    for name, options in TRIALS.items():
        folder = out / "tune" / name.replace(" ", "_")
        train(folder, data, datalist, {**OPTIONS, **TRIAL, **shares("mixed"), **options})
        curve = json.loads((folder / "validation" / "clicks.json").read_text())["mean"]["curve"]
        found.append({"name": name, "options": options, **describe(folder), "curve": [round(v, 4) for v in curve]})
    return found


def main() -> None:
    """Train, evaluate, collect."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder that holds datalist.json")
    parser.add_argument("--out", type=Path, required=True, help="folder of trainings and evaluations")
    parser.add_argument("--tune", action="store_true", help="only the trials on a part of the training list")
    parser.add_argument("--only", nargs="+", choices=TRAININGS, default=list(TRAININGS), help="trainings to run now")
    parser.add_argument("--json", type=Path, default=ROOT / "docs" / "results" / "kprism_lesions.json")
    args = parser.parse_args()
    trials = tune(args.data, args.out)
    if args.tune:
        for trial in trials:
            print(trial["name"], trial["loss"], [round(value, 3) for value in trial["curve"]])
        return
    datalist = training_list(args.data, args.out / "datalist.json")
    for name in args.only:
        train(args.out / name, args.data, datalist, {**OPTIONS, **shares(name)})
    lists = write_wrong(args.data, args.out / "wrong")
    for evaluation in EVALUATIONS:
        if evaluation.training in args.only:
            evaluate(evaluation, args.data, args.out, lists)
    trained = [name for name in TRAININGS if (args.out / name / "trained").is_file()]
    done = [e for e in EVALUATIONS if (args.out / e.training / e.name / "metrics_per_image.csv").is_file()]
    evaluations = [measured(e, args.data, args.out) for e in done]
    content = {
        "schema": "tpseg-kprism-results/1",
        "machine": f"2 cores, x86_64, torch {torch.__version__.split('+')[0]}, CPU",
        "options": OPTIONS,
        "trial": TRIAL,
        "trainings": {name: {"shares": TRAININGS[name], **describe(args.out / name)} for name in trained},
        "images": pictures(evaluations),
        "trials": trials,
        "evaluations": evaluations,
    }
    write(args.json, content)
    print(f"Wrote {args.json}")


if __name__ == "__main__":
    main()
