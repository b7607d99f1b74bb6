"""Adds a task to weights that never saw it, from 1, 5, 9 exemplars, beside controls: docs/results/new_task.json.

The weights come from the suites without_<task>.yaml; exemplars are drawn from that task's training list, masks are
scored on its validation list at the pictures' own size. --tune scores on training pictures that are no exemplars.

    tpseg experiment benchmarks/suites/without_skin_lesion.yaml --data DATA --out RUNS/skin_lesion
    tpseg experiment benchmarks/suites/without_breast_lesion.yaml --data DATA --out RUNS/breast_lesion
    python -m benchmarks.new_task --data DATA --runs RUNS
    python -m benchmarks.new_task_page    # then the page
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from benchmarks.timing import ROOT
from monai_tpseg.data import read_datalist
from monai_tpseg.engines.new_task import fresh_network, load_tpseg, read_exemplar_tensors
from monai_tpseg.engines.row_tuning import tune_row
from monai_tpseg.files import write_atomically
from monai_tpseg.inferers import TaskInferer
from monai_tpseg.keys import IMAGE, LABEL
from monai_tpseg.metrics import dice_per_image
from monai_tpseg.networks import TPSeg
from monai_tpseg.networks.new_task_rows import add_task, borrow_rows, copy_rows, nearest_task
from monai_tpseg.networks.weights_info import WeightsInfo, read_info
from monai_tpseg.transforms import CropToRegiond, LoadMedicalImaged, NormalizeByModalityd

RESULT = ROOT / "docs" / "results" / "new_task.json"
TASKS = ("skin_lesion", "breast_lesion")
COUNTS = (1, 5, 9)
DRAWS, TUNED_DRAWS = 4, 2  # of exemplars; as many of them are fine-tuned
STEPS, LR = 30, 1e-3
TUNING_SHARE = 30  # with --tune: exemplars from so many training pictures, scored on as many others


class Held(NamedTuple):
    """A task that weights never saw: the network, what it will be called, its pictures."""

    network: TPSeg
    info: WeightsInfo  # with the task
    exemplars: tuple[Tensor, Tensor]  # (N, 3, H, W), (N, 1, H, W)
    pictures: list[tuple[Tensor, Tensor]]  # (3, H, W), (1, H, W) at their own size


def hold(task: str, data: Path, runs: Path, tune: bool) -> Held:
    """Load weights and pictures."""
    path = next((runs / task / "runs").glob("*/model.pt"))
    known = read_info(path, verify=True)
    info = replace(known, tasks=(*known.tasks, task))
    lists = [
        [
            case
            for case in read_datalist(data / "datalist.json", section, data, (*known.tasks, task))
            if case["task"] == task
        ]
        for section in ("training", "validation")
    ]
    mixed = [lists[0][i] for i in np.random.default_rng(0).permutation(len(lists[0]))]
    shown, scored = (mixed[:TUNING_SHARE], mixed[TUNING_SHARE : 2 * TUNING_SHARE]) if tune else (mixed, lists[1])
    return Held(load_tpseg(path), info, read_exemplar_tensors(shown[: 4 * max(COUNTS)], info), _pictures(scored))


def _pictures(cases: Sequence[dict[str, Any]]) -> list[tuple[Tensor, Tensor]]:
    read = []
    for case in cases:
        loaded: dict[Any, Any] = dict(case)
        for step in (LoadMedicalImaged(IMAGE, label_keys=LABEL), CropToRegiond((IMAGE, LABEL)), NormalizeByModalityd()):
            loaded = step(loaded)
        read.append((torch.as_tensor(loaded[IMAGE]), torch.as_tensor(loaded[LABEL])))
    return read


@torch.no_grad()
def score(held: Held, network: TPSeg, row: int) -> float:
    """Return the mean Dice over the pictures."""
    infer, values = TaskInferer(held.info.image_size), []
    for image, label in held.pictures:
        mask = (infer(image[None], network, task=row) >= 0.5).float()
        values.append(float(dice_per_image(mask, label[None])))
    return float(np.mean(values))


def draw(held: Held, count: int, number: int) -> tuple[Tensor, Tensor]:
    """Return `count` exemplars."""
    chosen = np.random.default_rng([count, number]).permutation(len(held.exemplars[0]))[:count]
    return held.exemplars[0][chosen], held.exemplars[1][chosen]


def measure(held: Held, own: Callable[[int], float], count: int, number: int) -> dict[str, Any]:
    """Return the Dice of every way to make the new task from one draw of exemplars."""
    image, label = draw(held, count, number)
    row, dice = held.network.num_tasks, {}
    nearest = nearest_task(held.network, image, label)
    dice["row"] = own(nearest.row)
    random = fresh_network(held.info, seed=number)
    copy_rows(held.network, random)
    borrow_rows(random, nearest.row, row, heads_only=True)
    dice["random"] = score(held, random, row)
    for start in ("identity", "nearest"):
        wider = fresh_network(held.info, seed=number)
        add_task(held.network, wider, image, label, start)
        dice[start] = score(held, wider, row)
    if number < TUNED_DRAWS:
        tune_row(wider, row, image, label, STEPS, LR, seed=number)
        dice["tuned"] = score(held, wider, row)
    similarity = {held.info.tasks[i]: round(float(s), 3) for i, s in enumerate(nearest.similarities)}
    return {"exemplars": count, "draw": number, "nearest": held.info.tasks[nearest.row], "similarity": similarity,
            "dice": {name: round(value, 4) for name, value in dice.items()}}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--data", type=Path, required=True, help="folder that holds datalist.json")
    parser.add_argument("--runs", type=Path, required=True, help="RUNS/<task> is the --out of the suite without it")
    parser.add_argument("--only", nargs="+", default=list(TASKS), choices=TASKS, help="run these tasks alone")
    parser.add_argument("--out", type=Path, default=RESULT, help="JSON to write; what it holds of other tasks stays")
    parser.add_argument("--tune", action="store_true", help="score on training pictures that are no exemplars")
    args = parser.parse_args()
    content = json.loads(args.out.read_text()) if args.out.is_file() else {}
    for task in args.only:
        held, started, rows = hold(task, args.data, args.runs, args.tune), time.process_time(), dict[int, float]()

        def own(row: int, held: Held = held, rows: dict[int, float] = rows) -> float:
            rows[row] = rows[row] if row in rows else score(held, held.network, row)
            return rows[row]

        runs = [measure(held, own, count, number) for count in COUNTS for number in range(DRAWS)]
        alone = {name: round(own(row), 4) for row, name in enumerate(held.info.tasks[:-1])}
        content = {
            "machine": f"{os.cpu_count()} cores, {platform.machine()}, CPU",
            "torch": torch.__version__,
            "settings": {
                "draws": DRAWS,
                "tuned_draws": TUNED_DRAWS,
                "steps": STEPS,
                "lr": LR,
                "size": list(held.info.image_size),
                "scored_on": "training" if args.tune else "validation",
            },
            "tasks": content.get("tasks", {})
            | {
                task: {
                    "pictures": len(held.pictures),
                    "rows": alone,
                    "runs": runs,
                    "cpu_seconds": round(time.process_time() - started),
                }
            },
        }
        write_atomically(args.out, (json.dumps(content, indent=1) + "\n").encode())


if __name__ == "__main__":
    main()
