"""Writes docs/results-kprism.md and its figure from docs/results/kprism_lesions.json.

python benchmarks/kprism_lesions.py --data DATA --out OUT    # trains and measures
python benchmarks/kprism_results_page.py
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from monai_tpseg.experiments.statistics import compare_values, interval_of_values
from monai_tpseg.experiments.tables import Table
from monai_tpseg.files import complete
from monai_tpseg.metrics import MEAN
from monai_tpseg.tasks import TASK_NAMES

DOCS = Path(__file__).resolve().parents[1] / "docs"
AFTER = (0, 1, 3, 5, 10)
TRAINED = {"mixed": "mixed", "clicks": "clicks only", "semantic": "class only"}
STARTS = {"semantic": "a class", "in_context": "an exemplar", "interactive": "nothing"}
WRONG = {
    "other_task": "of another task",
    "inverted": "mask inverted",
    "shifted": "mask moved by half of the picture",
}
Results = dict[str, Any]


class Measured:
    """An evaluation as arrays.

    Attributes:
        dice: (N, 1 + clicks), of each picture before the first click and after each.
        tasks: of each picture, N.
        noc: task or mean -> "noc85" and "noc90"; empty without clicks.
    """

    def __init__(self, results: Results, training: str, start: str, **wanted: Any) -> None:
        asked = {"training": training, "start": start, **wanted}
        found = [e for e in results["evaluations"] if all(e[key] == value for key, value in asked.items())]
        self.dice = np.array(found[0]["dice"])
        self.tasks: list[str] = results["images"]["task"]
        self.noc: dict[str, dict[str, float]] = found[0]["noc"]

    def means(self, click: int = 0) -> dict[str, float]:
        """Return the mean over the pictures of each task, and over tasks."""
        names = np.array(self.tasks)
        means = {task: float(self.dice[names == task, click].mean()) for task in TASK_NAMES}
        return {**means, MEAN: float(np.mean(list(means.values())))}


def percent(value: float) -> str:
    return f"{100 * value:.1f}"


def span(low: float, high: float, sign: str = "") -> str:
    return f"{100 * low:{sign}.1f} to {100 * high:{sign}.1f}"


def difference(first: Measured, second: Measured, clicks: tuple[int, int] = (0, 0)) -> tuple[str, str]:
    """Return the difference in points of mean Dice after as many clicks each, and its 95 % interval."""
    found = compare_values(first.dice[:, clicks[0]], second.dice[:, clicks[1]], first.tasks)
    return f"{100 * found.difference:+.1f}", span(found.low, found.high, "+")


def by_exemplars(results: Results) -> dict[str, Measured]:
    """Return the evaluations with 1, 3 and 5 exemplars."""
    first = {"1 exemplar": Measured(results, "mixed", "in_context", clicks=10)}
    return first | {f"{n} exemplars": Measured(results, "mixed", "in_context", exemplars=n) for n in (3, 5)}


def modes(results: Results) -> Table:
    """Dice of each task without a click."""
    named = {"mixed, by class": Measured(results, "mixed", "semantic")}
    named["class only, by class"] = Measured(results, "semantic", "semantic")
    named |= {f"mixed, by {name}": found for name, found in by_exemplars(results).items()}
    rows = []
    for name, found in named.items():
        cells = [percent(value) for value in found.means().values()]
        rows.append((name, *cells, span(*interval_of_values(found.dice[:, 0], found.tasks))))
    return Table("", ("training, prompt", *TASK_NAMES, MEAN, "95 % interval"), tuple(rows))


def clicking(results: Results) -> dict[str, Measured]:
    """Return the evaluations with clicks by training and start."""
    found = [(e["training"], e["start"]) for e in results["evaluations"] if e["clicks"]]
    names = [f"{TRAINED[training]}, from {STARTS[start]}" for training, start in found]
    return {name: Measured(results, *which, clicks=10) for name, which in zip(names, found, strict=True)}


def clicks(results: Results) -> Table:
    """Dice after clicks and the number of clicks, means over tasks."""
    rows = [_clicks(name, found, MEAN) for name, found in clicking(results).items()]
    return Table("", ("training, start", *(f"Dice after {n}" for n in AFTER), "NoC85", "NoC90"), tuple(rows))


def clicks_by_task(found: Measured) -> Table:
    """The same of each task."""
    rows = [_clicks(task, found, task) for task in (*TASK_NAMES, MEAN)]
    return Table("", ("task", *(f"Dice after {n}" for n in AFTER), "NoC85", "NoC90"), tuple(rows))


def _clicks(name: str, found: Measured, task: str) -> tuple[str, ...]:
    dice = [percent(found.means(n)[task]) for n in AFTER]
    return (name, *dice, *(f"{found.noc[task][key]:.2f}" for key in ("noc85", "noc90")))


def exemplars(results: Results) -> Table:
    """Dice by exemplars, right and wrong, against one right one."""
    named = by_exemplars(results)
    one = named["1 exemplar"]
    for shown, words in WRONG.items():
        named[f"1, {words}"] = Measured(results, "mixed", "in_context", shown=shown)
    rows = []
    for name, found in named.items():
        gap = ("", "") if found is one else difference(found, one)
        rows.append((name, *(percent(value) for value in found.means().values()), *gap))
    return Table("", ("exemplars", *TASK_NAMES, MEAN, "minus 1 exemplar", "95 % interval"), tuple(rows))


def trainings(results: Results) -> Table:
    """What the trainings cost."""
    rows = []
    for name, entry in results["trainings"].items():
        shares = " / ".join(f"{100 * share:.0f}" for share in entry["shares"])
        minutes = [f"{entry[key] / 60:.1f}" for key in ("cpu_seconds", "wall_seconds")]
        parameters = f"{entry['parameters'] / 1e6:.2f} M"
        rows.append(
            (TRAINED[name], shares, parameters, *minutes, f"{entry['loss'][0]:.1f}", f"{entry['loss'][-1]:.1f}")
        )
    header = ("training", "class / exemplar / click, % of batches", "parameters", "CPU minutes", "wall minutes")
    return Table("", (*header, "loss, first epoch", "loss, last epoch"), tuple(rows))


def trials(results: Results) -> Table:
    """What was tried on a part of the training list."""
    rows = []
    for trial in results["trials"]:
        curve = [percent(trial["curve"][n]) for n in (0, 1, 3, 5)]
        rows.append((trial["name"], f"{trial['loss'][-1]:.1f}", *curve, f"{trial['cpu_seconds'] / 60:.1f}"))
    header = ("trial", "loss, last epoch", *(f"Dice after {n}" for n in (0, 1, 3, 5)), "CPU minutes")
    return Table("", header, tuple(rows))


def verdict(results: Results) -> list[str]:
    """Return what the comparisons say, a sentence each."""
    by_class, alone = (Measured(results, "mixed", start, clicks=10) for start in ("semantic", "interactive"))
    shown = Measured(results, "mixed", "in_context", clicks=10)
    only_class, only_clicks = (
        Measured(results, t, s) for t, s in (("semantic", "semantic"), ("clicks", "interactive"))
    )
    pairs: list[tuple[str, Measured, Measured, tuple[int, int]]] = [
        ("By class, mixed against class only", by_class, only_class, (0, 0)),
        ("By class and ten clicks, mixed against class only", by_class, only_class, (10, 10)),
        ("By ten clicks alone, mixed against clicks only", alone, only_clicks, (10, 10)),
        ("By one exemplar against by class, mixed", shown, by_class, (0, 0)),
        ("By class, five clicks against none, mixed", by_class, by_class, (5, 0)),
        ("By class, ten clicks against five, mixed", by_class, by_class, (10, 5)),
    ]
    gaps = [(name, *difference(first, second, which)) for name, first, second, which in pairs]
    return [f"- {name}: {gap} points of mean Dice, 95 % interval {around}." for name, gap, around in gaps]


def draw(results: Results) -> Figure:
    """Draw Dice against clicks: the mean of every training and start, and each task of the mixed training."""
    figure = Figure(figsize=(12, 4.6), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    curves = {name: [found.means(n) for n in range(11)] for name, found in clicking(results).items()}
    for i, (name, means) in enumerate(curves.items()):
        left.plot([m[MEAN] for m in means], "o-", color=colormaps["tab10"](i), markersize=4, label=name)
    means = curves[f"{TRAINED['mixed']}, from {STARTS['interactive']}"]
    for i, task in enumerate(TASK_NAMES):
        right.plot([m[task] for m in means], "o-", color=colormaps["tab10"](i), markersize=3, linewidth=1, label=task)
    right.plot([m[MEAN] for m in means], "o-", color="black", markersize=4, linewidth=2.5, label=MEAN)
    left.set(xlabel="clicks", ylabel="Dice", ylim=(0, 1), title="Mean over tasks")
    right.set(xlabel="clicks", title="Mixed training, clicks alone")
    for axes in (left, right):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8, loc="lower right")
    return figure


def page(results: Results) -> str:
    """Return `docs/results-kprism.md`."""
    options = results["options"]
    return TEXT.format(
        **options,
        machine=results["machine"],
        steps=options["max_epochs"] * -(-options["epoch_cases"] // options["batch_size"]),
        verdict="\n".join(verdict(results)),
        modes=modes(results).markdown(),
        clicks=clicks(results).markdown(),
        by_task=clicks_by_task(Measured(results, "mixed", "interactive")).markdown(),
        from_class=clicks_by_task(Measured(results, "mixed", "semantic")).markdown(),
        exemplars=exemplars(results).markdown(),
        trainings=trainings(results).markdown(),
        trials=trials(results).markdown(),
        notes=NOTES.strip(),
    )


NOTES = """
"""

TEXT = """# Results of K-Prism

Written by `benchmarks/kprism_results_page.py` from [results/kprism_lesions.json](results/kprism_lesions.json).
TP-Seg and its peers: [results.md](results.md). What the network is: [kprism.md](kprism.md).

1,471 training and 374 validation pictures of public research data sets, eight tasks, those of [results.md](results.md).
Three trainings from nothing, which differ in what a batch starts from: a class, one exemplar or a click (mixed), always
a click (clicks only), always a class (class only). Each batch then gets simulated clicks in two more rounds. Everything
else is equal: {steps} steps of batch {batch_size} at {image_size} x {image_size}, the pictures in the same order, one
seed, `{backbone}` with {channels} channels, learning rate {lr}. These are minutes on a processor where the paper has
days on GPUs and other data, so the figures compare rows with each other, not with the paper. Weights are those of the
last step; nothing was chosen on the validation list. Metrics are taken at the pictures' own size.
Machine: {machine}, one thread, beside other work.

{verdict}

{notes}

## By class and by exemplar

{modes}
## Clicks

Simulated clicks in the middle of the largest error ([kprism.md](kprism.md)); the mask before the first click of "from
nothing" is empty. NoC is the mean number of clicks until the IoU is 0.85 or 0.9, and 10 for a picture that never gets
there.

{clicks}
![Dice against clicks](figures/kprism_clicks.png)

Mixed training, clicks alone:

{by_task}
Mixed training, clicks after a class:

{from_class}
## Exemplars, right and wrong

Exemplars come from the training list, the first of three and of five being the one that is shown alone. Wrong ones: the
picture and mask of the next task in the list, the right picture with background and lesion exchanged, and with the mask
moved by half of height and width.

{exemplars}
## Trainings

{trainings}
## Choices made on a part of the training list

Mixed trainings on nine tenths of each task's training list, validated on the last tenth from a class with five clicks.

{trials}
## Commands

    python benchmarks/kprism_lesions.py --data DATA --out OUT
    python benchmarks/kprism_results_page.py
"""


def write(results: Results, docs: Path) -> Iterable[Path]:
    """Write the figure and the page."""
    figure, text = docs / "figures" / "kprism_clicks.png", docs / "results-kprism.md"
    with complete(figure) as part:
        draw(results).savefig(part, dpi=110)
    with complete(text) as part:
        part.write_text(page(results))
    return figure, text


def main(arguments: Sequence[str] | None = None) -> None:
    """Write page and figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--docs", type=Path, default=DOCS, help="folder of the page (default: %(default)s)")
    args = parser.parse_args(arguments)
    results = json.loads((args.docs / "results" / "kprism_lesions.json").read_text())
    for path in write(results, args.docs):
        print(f"Wrote {path}")


if __name__ == "__main__":
    main()
