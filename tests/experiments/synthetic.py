"""Results files without a training behind them."""

from __future__ import annotations

from typing import Any

import numpy as np

TASKS = ("wet_amd", "brain_tumor", "skin_lesion")
IMAGES = {"wet_amd": 6, "brain_tumor": 9, "skin_lesion": 4}


def run_of(row: str, seed: int, hits: float, tasks: tuple[str, ...] = TASKS, **more: Any) -> dict[str, Any]:
    """A run whose masks hit about `hits` of 100 lesion pixels on every image."""
    generator = np.random.default_rng([seed, len(row), int(100 * hits)])
    case, task, counts = [], [], []
    for name in tasks:
        for i in range(IMAGES[name]):
            tp = int(np.clip(generator.normal(100 * hits, 5), 0, 100))
            case.append(f"{name}/{i}.png")
            task.append(name)
            counts.append([tp, 20, 100 - tp, 880])
    name = f"{row}-{tasks[0]}-{seed}" if len(tasks) == 1 else f"{row}-{seed}"
    return {
        "name": name,
        "row": row,
        "seed": seed,
        "tasks": list(tasks),
        "options": {"epoch_cases": 24, "batch_size": 8},
        "parameters": 1_500_000,
        "epoch": 2,
        "clock": [{"epoch": e, "cpu_seconds": 30.0 * e, "wall_seconds": 60.0 * e} for e in (1, 2)],
        "metrics": {t: {"dice": hits} for t in tasks},
        "history": [{"epoch": e, "loss": 2.0 / e, "dice": 0.1 * e if e == 2 else None} for e in (1, 2)],
        "images": {"case": case, "task": task, "counts": counts},
        **more,
    }


def results_of(*runs: dict[str, Any]) -> dict[str, Any]:
    """Results of a suite of four rows, the last of which never ran."""
    prototypes: dict[str, Any] = {
        "split": [2, 3, 4],
        "gates": np.linspace(0, 1, 18).reshape(3, 6).tolist(),
        "similarity": [np.eye(3).tolist()] * 3,
        "separation": [[0.1, 0.5, 0.9]] * 3,
    }
    own = [
        run_of("A4", 0, 0.8, **prototypes),
        run_of("A4", 1, 0.82, **prototypes),
        run_of("UNet", 0, 0.6),
        run_of("A5", 0, 0.7, ("skin_lesion",)),
        run_of("A5", 0, 0.7, ("wet_amd",)),
    ]
    row: dict[str, Any] = {"tables": [2, 3], "paper": None, "planned": 2}
    rows = [
        {**row, "id": "A4", "title": "TP-Seg", "paper": 86.63},
        {**row, "id": "UNet", "title": "UNet", "tables": [2]},
        {**row, "id": "A5", "title": "per task", "paper": 86.41},
        {**row, "id": "B4", "title": "no shared route"},
    ]
    return {
        "schema": "tpseg-results/1",
        "suite": "made",
        "title": "made",
        "machine": "2 cores",
        "tasks": list(TASKS),
        "reference": "A4",
        "holdout": 0,
        "rows": rows,
        "runs": [*own, *runs],
    }
