"""Durations do not jump with the clock: only what a person reads as a date asks for the time of day."""

from __future__ import annotations

import ast
import io
import json
import time
from pathlib import Path
from typing import Any

import pytest
from tqdm import tqdm

from monai_tpseg.results.codes import Outcome, Status
from monai_tpseg.studies.case import CaseOutcome
from monai_tpseg.studies.events import Events

PACKAGE = Path(__file__).resolve().parents[1] / "monai_tpseg"
TIME_OF_DAY = {"time.time", "time.time_ns", "time.ctime", "datetime.now", "datetime.utcnow", "datetime.today"}
DATES = {
    "pacs/queue.py": "when a study is due, which outlives the process and the machine's start",
    "pacs/store.py": "how old a file is",
    "studies/events.py": "the time of an event",
    "results/structured_report.py": "date and time of the report",
    "io/dicom/segmentation.py": "date and time of the segmentation",
}
"""Module -> what it needs the time of day for."""


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_durations_are_of_a_clock_that_never_jumps(path: Path) -> None:
    if path.relative_to(PACKAGE).as_posix() in DATES:
        return
    calls = [node.func for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
    assert {ast.unparse(call) for call in calls} & TIME_OF_DAY == set()


def test_a_clock_that_jumps_changes_no_duration(monkeypatch: pytest.MonkeyPatch) -> None:
    log = io.StringIO()
    events: Any = Events(log, tqdm(disable=True))
    events.started(2)
    monkeypatch.setattr(time, "time", lambda: 0.0)  # set back to 1970 while a case is under way
    events.ended(CaseOutcome("a", Outcome(Status.OK)))
    assert 0 <= json.loads(log.getvalue().splitlines()[-1])["seconds"] < 60
