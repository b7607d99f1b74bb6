"""Writes docs/results-kprism.md and its figure from docs/results/kprism_lesions.json.

Run it after the first of these, and again after every further evaluation:

    python -m benchmarks.kprism_lesions --data DATA --out OUT    # trains and measures
    python -m benchmarks.kprism_results_page
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.kprism_curves import TRAINED, Measured, Results, clicking, draw, find
from monai_tpseg.catalogue import TASK_NAMES
from monai_tpseg.experiments.statistics import compare_values, interval_of_values
from monai_tpseg.experiments.tables import Table
from monai_tpseg.files import complete
from monai_tpseg.metrics import MEAN

DOCS = Path(__file__).resolve().parents[1] / "docs"
AFTER = (0, 1, 3, 5, 10)
WRONG = {
    "other_task": "of another task",
    "inverted": "mask inverted",
    "shifted": "mask shifted by half of the picture",
}


def percent(value: float) -> str:
    return f"{100 * value:.1f}"


def span(low: float, high: float, sign: str = "") -> str:
    return f"{100 * low:{sign}.1f} to {100 * high:{sign}.1f}"


def difference(first: Measured, second: Measured, clicks: tuple[int, int] = (0, 0)) -> tuple[str, str]:
    """Return the difference in points of mean Dice after as many clicks each, and its 95 % interval."""
    found = compare_values(first.dice[:, clicks[0]], second.dice[:, clicks[1]], first.tasks)
    return f"{100 * found.difference:+.1f}", span(found.low, found.high, "+")


def table(header: Sequence[str], named: dict[str, Measured | None], cells: Callable[[Measured], Sequence[str]]) -> str:
    """Return a row for each evaluation; those that have not been run are named below."""
    rows = tuple((name, *cells(found)) for name, found in named.items() if found is not None)
    missing = tuple(name for name, found in named.items() if found is None)
    return Table("", tuple(header), rows, missing).markdown()


def by_exemplars(results: Results) -> dict[str, Measured | None]:
    """Return the evaluations with 1, 3 and 5 exemplars."""
    first = {"1 exemplar": find(results, "mixed", "in_context", exemplars=1, shown="right")}
    return first | {f"{n} exemplars": find(results, "mixed", "in_context", exemplars=n) for n in (3, 5)}


def modes(results: Results) -> str:
    """Dice of each task without a click."""
    named = {f"{TRAINED[name]}, by class": find(results, name, "semantic") for name in ("mixed", "semantic")}
    named |= {f"mixed, by {name}": found for name, found in by_exemplars(results).items()}

    def cells(found: Measured) -> list[str]:
        return [*map(percent, found.means().values()), span(*interval_of_values(found.dice[:, 0], found.tasks))]

    return table(("training, prompt", *TASK_NAMES, MEAN, "95 % interval"), named, cells)


CLICKS = (*(f"Dice after {n}" for n in AFTER), "NoC85", "NoC90")


def clicks(results: Results) -> str:
    """Dice after clicks and the number of clicks, means over tasks."""
    return table(("training, start", *CLICKS), clicking(results), lambda found: _clicks(found, MEAN))


def clicks_by_task(results: Results, training: str, start: str) -> str:
    """The same of each task."""
    found = find(results, training, start, clicks=10)
    if found is None:
        return "Not run yet.\n"
    rows = [(task, *_clicks(found, task)) for task in (*TASK_NAMES, MEAN)]
    return Table("", ("task", *CLICKS), tuple(rows)).markdown()


def _clicks(found: Measured, task: str) -> list[str]:
    dice = [percent(found.means(n)[task]) for n in AFTER]
    return [*dice, *(f"{found.noc[task][key]:.2f}" for key in ("noc85", "noc90"))]


def exemplars(results: Results) -> str:
    """Dice by exemplars, right and wrong, against one right one."""
    named = by_exemplars(results)
    one = named["1 exemplar"]
    named |= {f"1, {words}": find(results, "mixed", "in_context", shown=shown) for shown, words in WRONG.items()}

    def cells(found: Measured) -> list[str]:
        gap = ("", "") if one is None or found is one else difference(found, one)
        return [*map(percent, found.means().values()), *gap]

    return table(("exemplars", *TASK_NAMES, MEAN, "minus 1 exemplar", "95 % interval"), named, cells)


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
    by_class, alone = (find(results, "mixed", start) for start in ("semantic", "interactive"))
    shown = find(results, "mixed", "in_context", clicks=10)
    only_class, only_clicks = find(results, "semantic", "semantic"), find(results, "clicks", "interactive")
    pairs: list[tuple[str, Measured | None, Measured | None, tuple[int, int]]] = [
        ("By class, mixed against class only", by_class, only_class, (0, 0)),
        ("By class and ten clicks, mixed against class only", by_class, only_class, (10, 10)),
        ("By ten clicks alone, mixed against clicks only", alone, only_clicks, (10, 10)),
        ("By one exemplar against by class, mixed", shown, by_class, (0, 0)),
        ("By class, five clicks against none, mixed", by_class, by_class, (5, 0)),
        ("By class, ten clicks against five, mixed", by_class, by_class, (10, 5)),
    ]
    lines = []
    for name, first, second, which in pairs:
        if first is not None and second is not None:
            gap, around = difference(first, second, which)
            lines.append(f"- {name}: {gap} points of mean Dice, 95 % interval {around}.")
    return lines


def steps(options: dict[str, Any]) -> int:
    """Return the optimiser steps of a training."""
    return int(options["max_epochs"] * -(-options["epoch_cases"] // options["batch_size"]))


def page(results: Results) -> str:
    """Return `docs/results-kprism.md`."""
    options, trial = results["options"], {**results["options"], **results["trial"]}
    return TEXT.format(
        **options,
        machine=results["machine"],
        steps=steps(options),
        trial_steps=steps(trial),
        verdict="\n".join(verdict(results)),
        modes=modes(results),
        clicks=clicks(results),
        by_task=clicks_by_task(results, "mixed", "interactive"),
        from_class=clicks_by_task(results, "mixed", "semantic"),
        exemplars=exemplars(results),
        trainings=trainings(results).markdown(),
        trials=trials(results).markdown(),
        notes=NOTES.strip(),
    )


NOTES = """
Six pictures of wet_amd and four of breast_lesion contain no lesion: there, an empty mask has a Dice of 1 and any other
mask 0, so the mean for an empty first mask is 4.2. After so few steps the network marks nothing in wet_amd by class
(27.3 is the share of the six) and few brain tumours; a click finds them.

At an equal number of steps the specialists lead in their own mode: the mixed training has spent 30 % of its batches on
classes and 40 % on clicks. An exemplar performs as well as a class here, but mainly conveys the kind of picture: more
exemplars make no measurable difference, and a wrong one costs little. These networks have not yet learned to use the
mask of the exemplar.
"""

TEXT = """# Results of K-Prism

Written by `benchmarks/kprism_results_page.py` from [results/kprism_lesions.json](results/kprism_lesions.json).
For TP-Seg and its peers, see [results.md](results.md); for the network, [kprism.md](kprism.md).

The data are the 1,471 training and 374 validation pictures of [results.md](results.md), from public research data sets,
with eight tasks. Three trainings from scratch differ in the initial prompt of a batch: a class, one exemplar or a click
(mixed), always a click (clicks only), or always a class (class only). Each batch then gets simulated clicks in two more
rounds. Everything else is equal: {steps} steps with batch size {batch_size} at {image_size} x {image_size}, the same
order of pictures, one seed, `{backbone}` with {channels} channels, learning rate {lr}. These are minutes on a CPU; the
paper used days on GPUs and other data. Compare the rows with each other, not with the paper. The weights are those of
the last step; no choice was made on the validation list. Metrics are computed at the original size of the pictures.
Machine: {machine}, one thread, shared with other work.

{verdict}

{notes}

## By class and by exemplar

{modes}
## Clicks

Clicks are simulated in the middle of the largest error ([kprism.md](kprism.md)); "from nothing" starts with an empty
mask. NoC is the mean number of clicks until the IoU reaches 0.85 or 0.9, with 10 for a picture that never reaches it.

{clicks}
![Dice against clicks](figures/kprism_clicks.png)

Mixed training, clicks only:

{by_task}
Mixed training, clicks after a class prompt:

{from_class}
## Exemplars, right and wrong

Exemplars come from the training list; the single exemplar is also the first of three and of five. Wrong exemplars are
the picture and mask of the next task in the list, and the right picture with an inverted mask or with a mask shifted by
half its height and width.

{exemplars}
## Trainings

{trainings}
## Choices made on part of the training list

Mixed training of {trial_steps} steps on nine tenths of the training list of each task, validated on the last tenth from
a class, with five clicks. The trainings above used the first; the other was run afterwards, and nothing else was tried.

{trials}
## Commands

    python -m benchmarks.kprism_lesions --data DATA --out OUT
    python -m benchmarks.kprism_results_page
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
