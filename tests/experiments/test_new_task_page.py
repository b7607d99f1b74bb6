"""The results of docs/new-task.md: what the tables say follows from the runs, whichever way wins."""

from __future__ import annotations

import json
from typing import Any

import pytest

from benchmarks.new_task import RESULT
from benchmarks.new_task_page import HEADING, PAGE, page, section


def run(exemplars: int, draw: int, **dice: float) -> dict[str, Any]:
    return {"exemplars": exemplars, "draw": draw, "nearest": "b", "similarity": {"a": 0.1, "b": 0.6}, "dice": dice}


@pytest.fixture
def content() -> dict[str, Any]:
    """Two draws at one exemplar, of which the first was tuned; the control wins on average."""
    runs = [
        run(1, 0, row=0.5, random=0.1, identity=0.2, nearest=0.3, tuned=0.45),
        run(1, 1, row=0.5, random=0.2, identity=0.4, nearest=0.6),
    ]
    task = {"pictures": 7, "rows": {"a": 0.55, "b": 0.5}, "runs": runs}
    settings = {"draws": 2, "tuned_draws": 1, "steps": 30, "lr": 0.001, "size": [128, 128], "scored_on": "validation"}
    return {"machine": "2 cores, x86_64, CPU", "settings": settings, "tasks": {"skin_lesion": task}}


def test_a_cell_is_mean_and_spread_over_draws(content: dict[str, Any]) -> None:
    lines = section(content).splitlines()
    assert "| control: the nearest task's own rows | 50.0 ± 0.0 |" in lines
    assert "| `--start nearest` (default) | 45.0 ± 21.2 |" in lines
    assert "| `--start nearest --fine-tune` | 45.0 |" in lines


def test_a_control_that_wins_is_said_to(content: dict[str, Any]) -> None:
    text = section(content)
    assert "minus control: the nearest task's own rows: -5.0 at 1 (1 of 2 draws better)" in text
    assert "minus control: random prototypes: +30.0 at 1 (2 of 2 draws better)" in text
    assert "`--start nearest` beats both controls in 1 of 2 draws; `--start identity` beats both" in " ".join(
        text.split()
    )
    assert "`--start identity` beats both controls in 0 of 2 draws" in " ".join(text.split())
    assert "The better start over all draws is `nearest` on skin_lesion." in " ".join(text.split())
    assert "minus `--start nearest` (default): +15.0 at 1 (1 of 1 draws better)" in text
    assert "`b` in 2 of 2 draws, 0.60" in text
    assert "the rows of `a` are the best" in " ".join(text.split())


def test_the_page_is_what_its_results_say() -> None:
    text = PAGE.read_text()
    assert text.count(HEADING) == 1
    assert page(text, json.loads(RESULT.read_text())) == text
