"""Compares scores that could tell pictures of another task, on a part of the training list: the table in docs/trust.md.

    python -m benchmarks.trust_scores --weights starter-tpseg --lesions LESIONS --more MORE --samples scores.npz --out \
        docs/results/trust_scores.json

Pictures of the training lists are asked for their own task and for two others. Half of them fit each score, the other
half is judged: how often an own picture scores lower than one of another task (area under the curve), and how many of
the others are above the limit that 5 % of the own pictures pass, mean of the tasks. Validation takes no part.
What the network says is kept in --samples, so that another score is tried without running it again.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from monai_tpseg.networks.weights_info import read_info
from monai_tpseg.trust.refusal import FALSE_ALARMS, Refusal, fit_refusal
from monai_tpseg.weights import weights_path

PICTURES = {"lesions": 100, "more": 50}  # of a task
Array = NDArray[Any]


def main() -> None:
    """Compare, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", default="starter-tpseg", help="name in the catalogue, or a file (%(default)s)")
    parser.add_argument("--lesions", type=Path, required=True, help="folder that holds datalist.json")
    parser.add_argument("--more", type=Path, required=True, help="a second one")
    parser.add_argument("--samples", type=Path, required=True, metavar="NPZ", help="made unless it is there")
    parser.add_argument("--pictures", type=int, default=300, help="of both lists, drawn at random (%(default)s)")
    parser.add_argument("--out", type=Path, required=True, help="JSON to write")
    args = parser.parse_args()
    tasks = read_info(weights_path(args.weights)).tasks
    if not args.samples.is_file():
        gather(args.weights, {"lesions": args.lesions, "more": args.more}, args.pictures, args.samples)
    with np.load(args.samples) as seen:
        parts = {key: seen[key] for key in ("row", "pooled", "energy", "others", "otherspooled", "othersenergy")}
    result = {"weights": args.weights, "pictures": len(parts["row"]), "scores": compared(parts, len(tasks))}
    args.out.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


def gather(weights: str, folders: dict[str, Path], count: int, out: Path) -> None:
    """Ask the network for pictures of both training lists, and keep what it says."""
    import torch
    from tqdm import tqdm

    from monai_tpseg.data import read_datalist
    from monai_tpseg.inferers.task_inferer import resize_antialiased
    from monai_tpseg.keys import IMAGE, TASK
    from monai_tpseg.studies import Model
    from monai_tpseg.transforms import LoadMedicalImaged
    from monai_tpseg.trust import observe

    model = Model(weights_path(weights), "cpu", judged=False)
    tasks, cases = model.info.tasks, []
    for name, folder in folders.items():
        found = list(read_datalist(folder / "datalist.json", "training", folder, tasks))
        random.Random(0).shuffle(found)
        cases += [case for task in tasks for case in [one for one in found if one[TASK] == task][: PICTURES[name]]]
    order = list(range(len(cases)))
    random.Random(1).shuffle(order)
    load, turns = LoadMedicalImaged(IMAGE), [0] * len(tasks)
    kept: dict[str, list[Any]] = {key: [] for key in ("row", "pooled", "energy", "others", "otherspooled")}
    kept["othersenergy"] = []

    def asked(picture: torch.Tensor, row: int) -> tuple[Array, float]:
        with torch.no_grad(), observe(model.network) as seen:
            logit = model.network(picture, row)
        assert seen is not None
        return seen.of(row)[0].numpy(), float(torch.log(2 * torch.cosh(logit.clamp(-40, 40) / 2)).mean())

    for n in tqdm(order[:count]):
        name = cases[n][TASK]
        image, row = load(dict(cases[n]))[IMAGE], tasks.index(name)
        prepared = model.segmenter.prepare(image, model.segmenter.modality(name))
        picture = resize_antialiased(prepared[None], model.info.image_size)
        rest = [other for other in range(len(tasks)) if other != row]
        others = [rest[(2 * turns[row] + k) % len(rest)] for k in range(2)]
        turns[row] += 1
        own, foreign = asked(picture, row), [asked(picture, other) for other in others]
        kept["row"].append(row)
        kept["pooled"].append(own[0])
        kept["energy"].append(own[1])
        kept["others"].append(others)
        kept["otherspooled"].append([one[0] for one in foreign])
        kept["othersenergy"].append([one[1] for one in foreign])
    np.savez(out, **{key: np.array(value) for key, value in kept.items()})


def compared(parts: dict[str, Array], tasks: int) -> dict[str, dict[str, float]]:
    """Area and share noticed of each score, mean of the tasks."""
    first = np.arange(len(parts["row"])) % 2 == 0
    own, foreign = parts["pooled"].astype(np.float64), parts["otherspooled"].astype(np.float64)
    pooled = np.concatenate([own[first], foreign[first].reshape(-1, own.shape[1])])
    asked = np.concatenate([parts["row"][first], parts["others"][first].ravel()])
    refusal = fit_refusal(pooled, asked, np.arange(len(asked)) < first.sum(), tasks)
    table: dict[str, list[tuple[float, float]]] = {}
    for row in range(tasks):
        if not refusal.knows(row):
            continue
        mine, others = ~first & (parts["row"] == row), ~first[:, None] & (parts["others"] == row)
        seen = [(own[mine], parts["energy"][mine]), (foreign[others], parts["othersenergy"][others])]
        if min(len(vectors) for vectors, _ in seen) < 5:
            continue
        for name, score in SCORES.items():
            low, high = (score(refusal, row, *one) for one in seen)
            table.setdefault(name, []).append((area(low, high), noticed(low, high)))
    means = {name: np.mean(found, axis=0) for name, found in table.items()}
    return {
        name: {"area": round(float(a), 3), "noticed": round(100 * float(n), 1), "tasks": len(table[name])}
        for name, (a, n) in means.items()
    }


def axes(refusal: Refusal, pooled: Array) -> Array:
    """Features on the principal axes."""
    return (pooled - refusal.centre) @ refusal.axes


def mahalanobis(refusal: Refusal, row: int, pooled: Array, energy: Array) -> Array:
    """Distance to the mean of the task's pictures on axes of unit variance within tasks."""
    z, mine = axes(refusal, pooled), refusal.references[refusal.rows == row]
    return np.linalg.norm(z - mine.mean(0), axis=1)


def nearest(refusal: Refusal, row: int, pooled: Array, energy: Array) -> Array:
    """Distance to the nearest picture of the task."""
    z, mine = axes(refusal, pooled), refusal.references[refusal.rows == row]
    return np.linalg.norm(z[:, None] - mine[None], axis=2).min(axis=1)


def discriminant(refusal: Refusal, row: int, pooled: Array, energy: Array) -> Array:
    """The side of a linear discriminant between the task's pictures and others."""
    return axes(refusal, pooled) @ refusal.directions[row]


def free_energy(refusal: Refusal, row: int, pooled: Array, energy: Array) -> Array:
    """Mean free energy of the pixels' two classes: high where the network is unsure of all of them."""
    return -energy


def larger(refusal: Refusal, row: int, pooled: Array, energy: Array) -> Array:
    """The larger of nearest picture and discriminant, as it is shipped."""
    return refusal.scores(pooled, row)


SCORES: dict[str, Callable[[Refusal, int, Array, Array], Array]] = {
    "energy": free_energy,
    "Mahalanobis distance": mahalanobis,
    "nearest picture": nearest,
    "linear discriminant": discriminant,
    "larger of nearest and discriminant": larger,
}


def area(low: Array, high: Array) -> float:
    """The share of pairs in which a picture of another task scores higher."""
    ranks = rankdata(np.concatenate([low, high]))[len(low) :]
    return float((ranks.sum() - len(high) * (len(high) + 1) / 2) / len(low) / len(high))


def noticed(low: Array, high: Array) -> float:
    """The share of other tasks' pictures above the limit that `FALSE_ALARMS` of the own ones pass."""
    return float((high > np.quantile(low, 1 - FALSE_ALARMS)).mean())


if __name__ == "__main__":
    main()
