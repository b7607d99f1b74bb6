"""Measures the expected Dice on the validation list and draws its calibration; docs/trust.md has its figures.

    python -m benchmarks.expected_dice --weights starter-tpseg --lesions DATA --samples validation.npz --out \
        docs/results/expected_dice.json --figure docs/figures/expected_dice.png

What the network says of each validation picture is kept in --samples, so that another fit is measured without running
it again. Besides what lies beside the weights it measures the same regression fitted on the validation list itself,
each case predicted by a fit without it: what a site gets that calibrates on its own cases (tpseg calibrate --fit dice
--list validation), and what these features can tell at all; and once more with the agreement of the mask with that of
the mirrored picture, which costs a second pass and which what is shipped does without.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from monai_tpseg.defaults import THRESHOLD
from monai_tpseg.networks.weights_info import read_info
from monai_tpseg.trust.fitted_files import read_fitted
from monai_tpseg.trust.quality import DiceModel, fit_dice
from monai_tpseg.trust.record import ExpectedDice
from monai_tpseg.weights import weights_path

FOLDS = 10
GROUPS = 8  # of predictions, in the plot
LOW = 0.5  # a Dice below it is a mask that is wrong
Array = NDArray[Any]


def main() -> None:
    """Measure, write and draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", default="starter-tpseg", help="name in the catalogue, or a file (%(default)s)")
    parser.add_argument("--lesions", type=Path, required=True, help="folder that holds datalist.json")
    parser.add_argument("--samples", type=Path, required=True, metavar="NPZ", help="made unless it is there")
    parser.add_argument("--out", type=Path, required=True, help="JSON to write")
    parser.add_argument("--figure", type=Path, required=True, help="PNG to write")
    args = parser.parse_args()
    if not args.samples.is_file():
        gather(args.weights, args.lesions, args.samples)
    weights = weights_path(args.weights)
    info = read_info(weights)
    fitted = read_fitted(weights, info.sha256)
    if fitted is None or fitted.dice is None:
        raise SystemExit(f"Nothing is fitted beside '{weights}'; run tpseg calibrate --fit trust first.")
    with np.load(args.samples) as seen:
        features, rows, dice, mirrored = (seen[key] for key in ("features", "rows", "dice", "mirrored"))
    shipped = [fitted.dice.expect(one, int(row)) for one, row in zip(features, rows, strict=True)]
    own = held_out(features, rows, dice, len(info.tasks))
    twice = held_out(np.hstack([features, mirrored]), rows, dice, len(info.tasks))
    result = {
        "weights": args.weights,
        "weights_sha256": info.sha256,
        "fitted": fitted.provenance,
        "cases": len(dice),
        "shipped": measured(shipped, rows, dice, info.tasks),
        "fitted on the validation list, held out": measured(own, rows, dice, info.tasks),
        "the same with the mirrored picture": measured(twice, rows, dice, info.tasks),
    }
    args.out.write_text(json.dumps(result, indent=1) + "\n")
    draw({"beside the weights": shipped, "fitted on these pictures, held out": own}, dice, args.figure)
    print(json.dumps(result, indent=1))


def gather(weights: str, lesions: Path, out: Path) -> None:
    """Segment the validation list and keep what the expected Dice is made of."""
    from tqdm import tqdm

    from monai_tpseg.data import read_datalist
    from monai_tpseg.studies import Model
    from monai_tpseg.studies.trust_fitting import collect

    model = Model(weights_path(weights), "cpu", judged=False)
    cases = read_datalist(lesions / "datalist.json", "validation", lesions, model.info.tasks)
    samples = list(collect(model, tqdm(cases)))
    np.savez(
        out,
        features=np.stack([one.features for one in samples]),
        rows=np.array([one.row for one in samples]),
        dice=np.array([one.dice for one in samples]),
        mirrored=np.array([mirrored(model, case) for case in tqdm(cases)]),
    )


def mirrored(model: Any, case: Any) -> list[float]:
    """Return how the mask of a picture and that of the mirrored one agree: Dice of the probabilities, of the masks."""
    import torch

    from monai_tpseg.keys import IMAGE, TASK
    from monai_tpseg.transforms import LoadMedicalImaged

    image = LoadMedicalImaged(IMAGE)(dict(case))[IMAGE]
    turned = image.clone()
    turned.set_array(image.as_tensor().flip(-1))
    first, second = (torch.as_tensor(model.segment_image(one, str(case[TASK])).prob) for one in (image, turned))
    pairs = (first, second.flip(-1)), ((first >= THRESHOLD).float(), (second.flip(-1) >= THRESHOLD).float())
    return [agreement(*pair) for pair in pairs]


def agreement(a: Any, b: Any) -> float:
    """Return twice what two maps share, of their sum; 1 where both are empty."""
    total = float(a.sum() + b.sum())
    return 2 * float(a.minimum(b).sum()) / total if total else 1.0


def held_out(features: Array, rows: Array, dice: Array, tasks: int) -> list[ExpectedDice]:
    """Each case by a fit on the cases of the other folds."""
    folds = np.random.default_rng(0).permutation(len(dice)) % FOLDS
    fits: list[DiceModel] = [fit_dice(*(x[folds != k] for x in (features, rows, dice)), tasks) for k in range(FOLDS)]
    return [fits[folds[n]].expect(features[n], int(rows[n])) for n in range(len(dice))]


def measured(said: list[ExpectedDice], rows: Array, dice: Array, tasks: tuple[str, ...]) -> dict[str, Any]:
    """Error, cover of the interval, and what the worst fifth by prediction holds."""
    value, low, high = (np.array([getattr(one, key) for one in said]) for key in ("value", "low", "high"))
    error, wrong, worst = np.abs(value - dice), dice < LOW, np.argsort(value)[: len(dice) // 5]
    return {
        "mean_absolute_error": round(float(error.mean()), 3),
        "of_task": {task: round(float(error[rows == row].mean()), 3) for row, task in enumerate(tasks)},
        "bias": round(float((value - dice).mean()), 3),
        "within_interval": round(float(((low <= dice) & (dice <= high)).mean()), 3),
        "low_cases": int(wrong.sum()),
        "worst_fifth_holds": round(float(wrong[worst].sum() / wrong.sum()), 3),
        "most_it_could_hold": round(min(1.0, len(worst) / int(wrong.sum())), 3),
        "groups": [[round(float(x[part].mean()), 3) for x in (value, dice)] for part in groups(value)],
    }


def groups(value: Array) -> list[Array]:
    """Cases in groups of equal size by what was expected."""
    return np.array_split(np.argsort(value, kind="stable"), GROUPS)


def draw(said: dict[str, list[ExpectedDice]], dice: Array, path: Path) -> None:
    """A panel for each: cases as points, the mean of each group on its mean prediction, the diagonal is right."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 4.4), layout="constrained")
    for axes, (title, found) in zip(figure.subplots(1, len(said), sharey=True), said.items(), strict=True):
        value = np.array([one.value for one in found])
        axes.plot([0, 1], [0, 1], color="0.6", linewidth=1, linestyle="--")
        axes.scatter(value, dice, s=9, color="#56b4e9", alpha=0.6, label="case")
        middles = np.array([[x[part].mean() for x in (value, dice)] for part in groups(value)])
        axes.plot(*middles.T, marker="o", color="#d55e00", label=f"mean of an {GROUPS}th of the cases")
        axes.set(title=title, xlabel="expected Dice", xlim=(0, 1), ylim=(-0.02, 1.02), aspect="equal")
        axes.legend(loc="upper left", frameon=False, fontsize=8)
    figure.axes[0].set_ylabel("Dice")
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
