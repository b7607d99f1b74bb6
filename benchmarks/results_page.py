"""Writes docs/results.md, its tables and its figures from the results files under docs/results.

The files come from `tpseg experiment` (see docs/experiments.md); rows that have not been run are named as missing, so
that the page can be written again after every run:

    python -m benchmarks.results_page --add OUT/results.json    # take a new results file into docs/results first
    python -m benchmarks.results_page
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from monai_tpseg.experiments.figures import write_figures
from monai_tpseg.experiments.results import merge, read_results, write_results
from monai_tpseg.experiments.statistics import Comparison, Scores, compare, row_scores
from monai_tpseg.experiments.tables import make_table

DOCS = Path(__file__).resolve().parents[1] / "docs"
ROWS = "recipe_rows_8.json"
TRUNK = "frozen_trunk_encoder.json"
"""Beside the results: what the trunk of `frozen_trunk` was pretrained on."""

PEERS = ("UNet", "UNet-time", "SAM2-UNet", "SwinUNETR", "DynUNet", "AttentionUnet", "FlexibleUNet")


def add(paths: Sequence[Path], docs: Path) -> None:
    """Join results files with those of their suite under `docs/results`."""
    for path in paths:
        content = read_results(path)
        target = docs / "results" / f"{content['suite']}.json"
        before = [read_results(target)] if target.is_file() else []
        write_results(target, merge([*before, content]))


def scored(results: dict[str, Any]) -> dict[str, Scores]:
    """Return the scores of all rows that have any."""
    found = {row["id"]: row_scores(results, row["id"]) for row in results["rows"]}
    return {row: scores for row, scores in found.items() if scores is not None}


def interval(c: Comparison) -> str:
    """Return the 95 % interval of a difference, in percent."""
    return f"{100 * c.low:+.1f} to {100 * c.high:+.1f}"


def verdict(results: dict[str, Any]) -> list[str]:
    """Return one sentence per peer on whether the reference row is ahead of it, with the interval."""
    scores, titles = scored(results), {row["id"]: row["title"] for row in results["rows"]}
    reference = results["reference"]
    lines = []
    for peer in PEERS:
        if peer in scores and reference in scores:
            c = compare(scores[reference], scores[peer])
            word = "ahead of" if c.low > 0 else "behind" if c.high < 0 else "not clearly different from"
            gap = f"{100 * c.difference:+.1f} points of mean Dice, 95 % interval {interval(c)}"
            lines.append(f"- {titles[reference]} is {word} {titles[peer]}: {gap}.")
    return lines


def ordering(results: dict[str, Any]) -> list[str]:
    """Return the table that sets our difference to the reference beside the paper's, row by row."""
    scores, reference = scored(results), results["reference"]
    rows = {row["id"]: row for row in results["rows"]}
    lines = ["| row | paper | here | 95 % interval | |", "|---|---|---|---|---|"]
    for name, row in rows.items():
        if name == reference or row["paper"] is None or name not in scores or reference not in scores:
            continue
        c, paper = compare(scores[name], scores[reference]), row["paper"] - rows[reference]["paper"]
        clear = c.low > 0 or c.high < 0
        same = (c.difference > 0) == (paper > 0)
        said = "within noise" if not clear else "as in the paper" if same else "against the paper"
        gap = f"{100 * c.difference:+.1f} | {interval(c)}"
        lines.append(f"| {row['title']} ({name}) | {paper:+.2f} | {gap} | {said} |")
    return lines


def summary(docs: Path, suite: str) -> str:
    """Return the table at the top of the page: TP-Seg beside UNet under every budget."""
    names = [f"{suite}_368", suite, f"{suite}_long", *(path.stem for path in peers_paths(docs))]
    lines = ["| budget | TP-Seg | MONAI UNet | difference | 95 % interval |", "|---|---|---|---|---|"]
    for name in names:
        results = read_results(docs / "results" / f"{name}.json")
        scores, reference = scored(results), results["reference"]
        if not {reference, "UNet"} <= set(scores):
            continue
        ours, peer = (100 * float(np.mean(scores[row].mean())) for row in (reference, "UNet"))
        c = compare(scores[reference], scores["UNet"])
        budget = f"{name.rsplit('_', 1)[1]} minutes each" if "peers" in name else f"{steps_of(results)} steps each"
        lines.append(f"| {budget} | {ours:.1f} | {peer:.1f} | {100 * c.difference:+.1f} | {interval(c)} |")
    return "\n".join(lines)


def tuning(docs: Path) -> list[str]:
    """Return the section on choices made on a held-out part of the training list, for every such results file."""
    lines: list[str] = []
    for path in sorted((docs / "results").glob("tune*.json")):
        results = read_results(path)
        share = f"the last of {results['holdout']} parts of each task's training list"
        lines += [f"### {results['title']}", "", f"Validated on {share}; suite `{results['suite']}`.", ""]
        lines += [make_table(results, 2).markdown()]
    return lines


def tables_of(results: dict[str, Any], *numbers: int) -> str:
    """Return tables of the paper with their titles."""
    return "\n".join(f"### {t.title}\n\n{t.markdown()}" for t in (make_table(results, n) for n in numbers))


def shorter(docs: Path, suite: str) -> str:
    """Return the section on all rows under a smaller budget."""
    results = read_results(docs / "results" / f"{suite}.json")
    return SHORTER.format(
        suite=suite,
        steps=steps_of(results),
        verdict="\n".join(verdict(results)),
        tables=tables_of(results, 2, 3, 4).strip(),
        ordering="\n".join(ordering(results)),
    )


def longer(docs: Path, suite: str) -> str:
    """Return the section on some rows under a larger budget."""
    results = read_results(docs / "results" / f"{suite}.json")
    return LONGER.format(
        suite=suite,
        steps=steps_of(results),
        verdict="\n".join(verdict(results)),
        tables=tables_of(results, 2, 5).strip(),
        ordering="\n".join(ordering(results)),
    )


def add_trunk(run: Path, docs: Path) -> None:
    """Keep what the page says of the trunk: from the folder that `tpseg pretrain` left."""
    training = json.loads((run / "encoder.json").read_text())["training"]
    losses = [entry["loss"] for entry in json.loads((run / "history.json").read_text())]
    seconds = json.loads((run / "clock.json").read_text())[-1]["cpu_seconds"]
    content = {**training, "losses": losses, "cpu_seconds": seconds}
    (docs / "results" / TRUNK).write_text(json.dumps(content, indent=1) + "\n")


def frozen(docs: Path) -> str:
    """Return the section on the ablations on a frozen trunk that was pretrained without labels."""
    path = docs / "results" / "frozen_trunk.json"
    if not path.is_file():
        return NOT_FROZEN + FROZEN_COMMANDS
    results, how = read_results(path), json.loads((docs / "results" / TRUNK).read_text())
    return (FROZEN + FROZEN_COMMANDS).format(
        pictures=f"{how['pictures']:,}",
        seen=how["steps"],
        batch=how["batch_size"],
        ratio=how["mask_ratio"],
        first=how["losses"][0],
        last=how["losses"][-1],
        minutes=how["cpu_seconds"] / 60,
        steps=steps_of(results),
        tables=tables_of(results, 3, 5).strip(),
        ordering="\n".join(ordering(results)),
        order=order_found(results),
    )


def order_found(results: dict[str, Any]) -> str:
    """Return one sentence on whether A1 < A2 < A3 < A4 and B1, B2 below A4 appear, by the means alone."""
    means = {row: 100 * float(np.mean(scores.mean())) for row, scores in scored(results).items()}
    if not {"A1", "A2", "A3", "A4", "B1", "B2"} <= set(means):
        return "A1 to A4, B1 and B2 have not all been run yet, so the paper's order cannot be judged."
    chain = [row for row, _ in sorted(means.items(), key=lambda pair: pair[1])]
    found = [row for row in chain if row.startswith("A")] == ["A1", "A2", "A3", "A4"]
    below = max(means["B1"], means["B2"]) < means["A4"]
    told = "appears" if found else "does not appear"
    others = "are both below A4" if below else "are not both below A4"
    shown = " < ".join(f"{row} {means[row]:.1f}" for row in chain)
    return f"In the means, the order A1 < A2 < A3 < A4 {told}, and LoRA and the plain adapter {others}: {shown}."


def peers_paths(docs: Path) -> list[Path]:
    """Return the results files of the starter weights' recipe and its peers, the shortest time first."""
    return sorted((docs / "results").glob("recipe_peers_*.json"), key=lambda path: int(path.stem.rsplit("_", 1)[1]))


def same_minutes(docs: Path) -> str:
    """Return the section on the starter weights' recipe and its peers with the same data and minutes."""
    paths = peers_paths(docs)
    parts = [SAME_MINUTES] if paths else [SAME_MINUTES, "The peers have not been run yet.\n"]
    for path in paths:
        results = read_results(path)
        said = "\n".join(verdict(results))
        parts.append(f"### {results['title']}\n\n{pictures_seen(results)}\n\n{said}\n")
        parts.append(f"{tables_of(results, 2, 5).strip()}\n".replace("### ", "#### "))
    return "\n".join(parts)


def recipe_steps(docs: Path) -> str:
    """Return the part on what each option of the recipe gains, on a held-out part of the training lists."""
    path = docs / "results" / ROWS
    if not path.is_file():
        return NO_STEPS
    results = read_results(path)
    scores, reference = scored(results), results["reference"]
    runs = {run["row"]: run for run in results["runs"]}
    lines = ["| option | mean Dice | gain | 95 % interval | steps | CPU minutes |", "|---|---|---|---|---|---|"]
    missing = []
    for row in results["rows"]:
        name = row["id"]
        if name not in scores:
            missing.append(row["title"])
            continue
        gain = "- | -"
        if name != reference:
            c = compare(scores[name], scores[reference])
            gain = f"{100 * c.difference:+.1f} | {interval(c)}"
        minutes = runs[name]["clock"][-1]["cpu_seconds"] / 60
        mean = 100 * float(np.mean(scores[name].mean()))
        lines.append(f"| {row['title']} | {mean:.1f} | {gain} | {steps_in(runs[name])} | {minutes:.1f} |")
    told = PRETRAINED if "pretrained" in scores else ""
    told += f"\nNot run: {'; '.join(missing)}.\n" if missing else ""
    images = len(scores[reference].cases)
    return STEPS.format(title=results["title"], images=f"{images:,}", table="\n".join(lines)) + told


def pictures_seen(results: dict[str, Any]) -> str:
    """Return one sentence with the number of training pictures that each row has seen."""
    seen = {run["row"]: run["options"]["epoch_cases"] * run["options"]["max_epochs"] for run in results["runs"]}
    return "Training pictures seen, repetitions included: " + ", ".join(f"{row} {n:,}" for row, n in seen.items()) + "."


def repeated(results: dict[str, Any], docs: Path) -> list[str]:
    """Return the table of rows that were run a second time into a folder of their own."""
    again = read_results(docs / "results" / f"{results['suite']}_again.json")
    first = {run["name"]: run for run in results["runs"]}
    lines = ["| run | mean Dice | again |", "|---|---|---|"]
    for run in again["runs"]:
        before, now = (100 * r["metrics"]["mean"]["dice"] for r in (first[run["name"]], run))
        lines.append(f"| {run['name']} | {before:.1f} | {now:.1f} |")
    return lines


def steps_of(results: dict[str, Any]) -> int:
    """Return the steps of the first run, which every row without an option of its own has."""
    return steps_in(results["runs"][0])


def steps_in(run: dict[str, Any]) -> int:
    """Return the training steps of a run."""
    options = run["options"]
    return int(options["max_epochs"] * options["epoch_cases"] // options["batch_size"])


def page(results: dict[str, Any], docs: Path) -> str:
    """Return `docs/results.md`."""
    return TEXT.format(
        suite=results["suite"],
        summary=summary(docs, results["suite"]),
        machine=results["machine"],
        steps=steps_of(results),
        verdict="\n".join(verdict(results)) or "No peer has been run yet.",
        tables=tables_of(results, 2, 3, 4, 5),
        ordering="\n".join(ordering(results)),
        tuning="\n".join(tuning(docs)) or "No choice was made: the recipe is unchanged.",
        longer=longer(docs, f"{results['suite']}_long"),
        shorter=shorter(docs, f"{results['suite']}_368"),
        repeated="\n".join(repeated(results, docs)),
        frozen=frozen(docs),
        same_minutes=same_minutes(docs) + recipe_steps(docs),
    )


SHORTER = """## All rows after {steps} steps

The same networks, data and seeds with a smaller budget and the prototype momentum 0.9 of the paper
([results/{suite}.json](results/{suite}.json), suite `{suite}`).
One additional row uses the paper's recipe unchanged except for the trunk, which is trained because it has no pretrained
weights. The [README](../README.md#recipes) lists the changes of the recipe `from_scratch`.

{verdict}

{tables}

The paper's ordering, as above:

{ordering}
"""

LONGER = """## The closest rows after {steps} steps

The same networks, data and recipe with 4.8 times the steps, one seed, one validation after the last step
([results/{suite}.json](results/{suite}.json), suite `{suite}`), to see whether the order holds in longer training.

{verdict}

{tables}

The paper's ordering, as above:

{ordering}
"""

FROZEN = """## Frozen pretrained trunk

The paper's claim concerns a frozen pretrained trunk. The SAM 2 weights are not available, so this trunk was pretrained
without labels (`tpseg pretrain`, [pretraining.md](pretraining.md)) on {pictures} training pictures, those of this data
and further public ones of the same kinds: {seen} steps of {batch} pictures at 128 x 128, {ratio:g} of each hidden,
{minutes:.1f} CPU minutes. Its error on the hidden part fell from {first:.2f} to {last:.2f} (1 is uniform grey). This is
very little compared with the pretraining of SAM 2.

The trunk was then frozen, and every row was trained for {steps} steps with batch size 8 on the training list, in bf16,
with one validation after the last step ([results/frozen_trunk.json](results/frozen_trunk.json), suite `frozen_trunk`).

{order}

{tables}

The paper's ordering, as above:

{ordering}
"""

NOT_FROZEN = """## Frozen pretrained trunk

The paper's claim concerns a frozen pretrained trunk: does its order A1 < A2 < A3 < A4, with LoRA and the plain adapter
below A4, appear once the trunk is frozen? Not run yet: neither the pretraining without labels
([pretraining.md](pretraining.md)) nor any row on it has been trained on these pictures. The suite contains eight rows
with equal budgets, two seeds and one validation after the last step:
"""

FROZEN_COMMANDS = """
    tpseg pretrain --data LESIONS MORE --out mae --image-size 128 --batch-size 32 --minutes 18 --lr 0.0015 --amp bf16
    tpseg experiment benchmarks/suites/frozen_trunk.yaml --data LESIONS --out OUT
    python -m benchmarks.results_page --trunk mae --add OUT/results.json
"""

SAME_MINUTES = """## The recipe of the starter weights and its peers with equal data and time

All rows train on the 7,839 training pictures of both lists, at 128 x 128 with batch size 16, for as many steps as fit
into the same time: a step of each network is timed first, so cheaper networks get more steps. TP-Seg has the trunk,
stem, skip and weight averaging of `starter-tpseg` ([weights.md](weights.md)), which was trained for 130
minutes and finally at 192 x 192. The timing covers the network only, so that the CPU minutes of Table 5, which include
reading the pictures, differ. With a few minutes per row the result says which network learns fastest, not which one is
best.

    python -m benchmarks.recipe peers --lesions LESIONS --more MORE --out OUT --minutes M --validation
    python -m benchmarks.results_page --add OUT/results.json
"""

PRETRAINED = """
The minutes of the pretrained trunk are those of fine-tuning. Before, it was pretrained for 14 CPU minutes without
labels on all training pictures, those held out included; `--encoder mae/encoder.pt` adds the row:

    tpseg pretrain --data LESIONS MORE --out mae --image-size 128 --batch-size 32 --minutes 15 --lr 0.0015 --stem patch
"""

NO_STEPS = "\nThe options of the recipe have not been compared yet.\n"

STEPS = """
### Options of the recipe

{title}. It has {images} pictures of the training lists, which these rows do not train on.
Each option is changed alone, for as many steps as fit into the same time; gains are over the first row. The held-out
fifth is the end of each task's list, so it has mostly pictures of MORE; the row that trains on LESIONS alone has seen
none of these sources. So small a budget favours networks that learn fast. The starter weights have the convolutional
patch embedding, the skip and the moving average; these were not compared at the length of their training.

    python -m benchmarks.recipe rows --lesions LESIONS --more MORE --out OUT --minutes M --only ROW ...

{table}
"""

TEXT = """# Results

How accurate TP-Seg is beside other networks, and what its parts contribute, on real lesions and with small budgets on a
CPU. Mean Dice over eight tasks in percent; rows given in steps and rows given in minutes have different training data:

{summary}

[The paper's ordering](#the-papers-ordering) shows what the parts of the network contribute here and in the paper.
[weights.md](weights.md) has the figures of the starter weights.

Written by `benchmarks/results_page.py` from the files under [results](results); `tpseg table docs/results/{suite}.json`
builds every table again ([experiments.md](experiments.md)).
[results-kprism.md](results-kprism.md) has K-Prism on the same pictures, by class, exemplars and clicks.

## Real lesions of eight tasks, from scratch

The data are 1,471 training and 374 validation pictures from public research data sets, covering all eight tasks (OCT,
MR, histopathology, ultrasound, endoscopy, CT, dermoscopy). They are a fraction of the paper's data, and for some tasks
come from other sources. SAM 2 weights were not available: the trunk is a very small Hiera trained from scratch. The
figures therefore compare rows with each other at one small budget, not with the paper's table.

Every row has {steps} steps with batch size 8 at 128 x 128, the recipe `from_scratch`, the same pictures in the same
order for a given seed, and one validation after the last step; no choice was made on the validation list. TP-Seg is
given the task; peers have no input for it. Metrics are computed at the original size of the pictures
([conventions.md](conventions.md)).
Machine: {machine}, CPU, one thread, shared with other work: CPU minutes are more reliable than wall minutes.

{verdict}

{tables}

### The paper's ordering

Difference from TP-Seg (A4) in mean Dice, in points: in the paper, with SAM 2's weights, and here, without them.

{ordering}

### Repeated rows

The same commands with an empty folder, after faster CPU arithmetic had changed the rounding of the network
([results/{suite}_again.json](results/{suite}_again.json)): rounding differences grow during training, so two runs with
the same seed differ.

{repeated}

### Figures

![Curves](figures/curves.png)

![Prototype similarity](figures/similarity.png)

![Prototype separation](figures/separation.png)

![Gates](figures/gates.png)

The first validation picture with a lesion of every task: label in blue, predictions in amber; A4-0 is TP-Seg. We may
not redistribute the pictures; without `--outlines`, your own run draws them.

![Outlines](figures/outlines.png)

## Choices made on part of the training list

{tuning}

{shorter}
{longer}
{frozen}
{same_minutes}
## Commands

DATA contains `datalist.json` with the lists `training` and `validation`.

    tpseg experiment benchmarks/suites/{suite}.yaml --data DATA --out OUT
    tpseg table OUT/results.json --out tables
    tpseg grid OUT/runs/A4-0 OUT/runs/UNet-0 OUT/runs/SAM2-UNet-0 --data DATA --outlines --out outlines.png
    tpseg experiment benchmarks/suites/tune128.yaml --data DATA --out TUNE
    tpseg experiment benchmarks/suites/{suite}_long.yaml --data DATA --out LONG

The full table of the paper needs its eight data sets, the SAM 2 weights (`sam2.1_hiera_large.pt`, given as
`encoder_checkpoint` in `options` of the suite) and a GPU:

    tpseg experiment benchmarks/suites/paper.yaml --data DATA --out OUT

## Phantoms

`make demo` prints its own table. Phantoms show that the program works, not how well it works on patients.
"""


def main() -> None:
    """Take in new results and write page and figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--add", nargs="+", type=Path, default=[], metavar="RESULTS", help="results files to take in")
    parser.add_argument("--trunk", type=Path, metavar="RUN", help="folder of the trunk of the suite frozen_trunk")
    parser.add_argument("--suite", default="lesions_128", help="suite that the page is about (default: %(default)s)")
    parser.add_argument("--docs", type=Path, default=DOCS, help="folder of the page (default: %(default)s)")
    args = parser.parse_args()
    add(args.add, args.docs)
    if args.trunk is not None:
        add_trunk(args.trunk, args.docs)
    results = read_results(args.docs / "results" / f"{args.suite}.json")
    write_figures(results, args.docs / "figures")
    (args.docs / "results.md").write_text(page(results, args.docs))
    print(f"Wrote {args.docs / 'results.md'}")


if __name__ == "__main__":
    main()
