"""Writes the results into docs/new-task.md, below its heading, from docs/results/new_task.json.

python -m benchmarks.new_task_page
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from statistics import mean, stdev
from textwrap import fill
from typing import Any

from benchmarks.new_task import RESULT
from benchmarks.timing import ROOT

PAGE = ROOT / "docs" / "new-task.md"
HEADING = "## Accuracy\n"
STARTS = ("nearest", "identity")
PAIRS = (("nearest", "row"), ("nearest", "random"), ("identity", "row"), ("identity", "random"), ("tuned", "nearest"))
WIDTH = 118  # letters of a line
ROWS = {
    "row": "control: the nearest task's own rows",
    "random": "control: random prototypes",
    "identity": "`--start identity`",
    "nearest": "`--start nearest` (default)",
    "tuned": "`--start nearest --fine-tune`",
}


def values(task: dict[str, Any], count: int, row: str) -> list[float]:
    """Return the Dice of a row at a number of exemplars, one a draw, in percent."""
    return [100 * run["dice"][row] for run in task["runs"] if run["exemplars"] == count and row in run["dice"]]


def cell(dice: Sequence[float]) -> str:
    """Return mean and spread."""
    if not dice:
        return ""
    return f"{mean(dice):.1f} ± {stdev(dice):.1f}" if len(dice) > 1 else f"{dice[0]:.1f}"


def counts(task: dict[str, Any]) -> list[int]:
    """Return the numbers of exemplars."""
    return sorted({run["exemplars"] for run in task["runs"]})


def table(task: dict[str, Any]) -> list[str]:
    """Return Dice over the number of exemplars."""
    numbers = counts(task)
    head = " | ".join(f"{n} exemplar{'s' * (n > 1)}" for n in numbers)
    lines = [f"| Dice, percent | {head} |", "|---" * (1 + len(numbers)) + "|"]
    for row, title in ROWS.items():
        lines.append(f"| {title} | {' | '.join(cell(values(task, n, row)) for n in numbers)} |")
    return lines


def borrowed(task: dict[str, Any]) -> str:
    """Return which task was nearest, and how similar."""
    found: dict[str, list[float]] = {}
    for run in task["runs"]:
        found.setdefault(run["nearest"], []).append(run["similarity"][run["nearest"]])
    each = [f"`{name}` in {len(s)} of {len(task['runs'])} draws, {mean(s):.2f}" for name, s in found.items()]
    best = max(task["rows"], key=lambda name: task["rows"][name])
    own = f"Of all old tasks, the rows of `{best}` are the best on these pictures: {100 * task['rows'][best]:.1f}."
    return fill(f"Nearest task and its mean similarity: {'; '.join(each)}. {own}", WIDTH)


def verdicts(task: dict[str, Any]) -> list[str]:
    """Return what the draws say of each way against its control, draw by draw."""
    lines = []
    for row, control in PAIRS:
        said = []
        for n in counts(task):
            ours, theirs = values(task, n, row), values(task, n, control)
            gains = [a - b for a, b in zip(ours, theirs, strict=False)]
            won = sum(gain > 0 for gain in gains)
            said.append(f"{mean(gains):+.1f} at {n} ({won} of {len(gains)} draws better)")
        lines.append(f"- {ROWS[row]} minus {ROWS[control]}: {', '.join(said)}.")
    return lines


def summary(content: dict[str, Any]) -> str:
    """Return how often each start beats both controls, and which start is better on which task."""
    runs = [run["dice"] for task in content["tasks"].values() for run in task["runs"]]
    won = {start: sum(dice[start] > max(dice["row"], dice["random"]) for dice in runs) for start in STARTS}
    text = "; ".join(f"`--start {start}` beats both controls in {n} of {len(runs)} draws" for start, n in won.items())
    better = {}
    for name, task in content["tasks"].items():
        means = {start: mean(run["dice"][start] for run in task["runs"]) for start in STARTS}
        better[name] = max(means, key=lambda start: means[start])
    each = ", ".join(f"`{start}` on {name}" for name, start in better.items())
    return fill(f"Summary: {text}. The better start over all draws is {each}.", WIDTH, break_on_hyphens=False)


def section(content: dict[str, Any]) -> str:
    """Return everything below the heading."""
    s = content["settings"]
    height, width = s["size"]
    suites = ", ".join(f"`benchmarks/suites/without_{task}.yaml`" for task in content["tasks"])
    text = (
        f"A very small TP-Seg is trained from scratch on real lesions with one task left out, at {height} x {width} "
        f"pixels ({suites}). Exemplars are drawn {s['draws']} times from that task's training list. Dice is the mean "
        f"over its {s['scored_on']} pictures at their "
        "original size; ± is the standard deviation over draws. Start, prototypes and fine-tuning were chosen on "
        "training pictures of skin_lesion that were not exemplars; breast_lesion was not used for any choice. "
        f"Fine-tuning: {s['steps']} steps, learning rate {s['lr']:g}, for the first {s['tuned_draws']} draws. "
        f"{content['machine']}."
    )
    made = (
        "`benchmarks/new_task.py` measures `docs/results/new_task.json`; `benchmarks/new_task_page.py` writes this "
        "section from it."
    )
    lines = [fill(made, WIDTH), "", fill(text, WIDTH, break_on_hyphens=False), "", summary(content)]
    for name, task in content["tasks"].items():
        lines += ["", f"### {name}, {task['pictures']} pictures", "", *table(task), "", borrowed(task), ""]
        lines += verdicts(task)
    return "\n".join(lines) + "\n"


def page(text: str, content: dict[str, Any]) -> str:
    """Return the page with its results written anew."""
    return text.split(HEADING)[0] + HEADING + "\n" + section(content)


def main() -> None:
    PAGE.write_text(page(PAGE.read_text(), json.loads(RESULT.read_text())))


if __name__ == "__main__":
    main()
