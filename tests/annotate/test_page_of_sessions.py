"""The figures in the page of annotation are those of the benchmark."""

from __future__ import annotations

import json
import re
from inspect import signature
from pathlib import Path

from monai_tpseg.annotate import Session

ROOT = Path(__file__).resolve().parents[2]


def test_methods_have_the_arguments_of_the_page() -> None:
    page = (ROOT / "docs" / "annotate.md").read_text().split("## From Python")[1].split("### The prompt")[0]
    calls = dict(re.findall(r"`(\w+)\(([\w, ]*)\)`", page.split("| method | meaning |")[1]))
    assert len(calls) > 30
    for name, arguments in calls.items():
        assert arguments.split(", ") == ([*signature(getattr(Session, name)).parameters][1:] or [""]), name


def test_propagation() -> None:
    measured = json.loads((ROOT / "docs" / "results" / "annotate_propagation.json").read_text())
    page = (ROOT / "docs" / "annotate.md").read_text()
    rows = dict(re.findall(r"^\| `(\w+)`[^|]* \| ([\d. |]+) \|$", page, re.M))
    distances = ["all but the first", "1", "2", "3", "4", "beyond"]
    for way, values in measured["dice"].items():
        expected = [f"{values[key]:.2f}" for key in distances]
        assert [cell.strip() for cell in rows[way].split("|")] == expected, way
    assert f"{measured['volumes']} volumes" in page
