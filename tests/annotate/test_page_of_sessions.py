"""The figures in the page of annotation are those of the benchmark."""

from __future__ import annotations

import json
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_propagation() -> None:
    measured = json.loads((ROOT / "docs" / "results" / "annotate_propagation.json").read_text())
    page = (ROOT / "docs" / "annotate.md").read_text()
    rows = dict(re.findall(r"^\| `(\w+)`[^|]* \| ([\d. |]+) \|$", page, re.M))
    distances = ["all but the first", "1", "2", "3", "4", "beyond"]
    for way, values in measured["dice"].items():
        expected = [f"{values[key]:.2f}" for key in distances]
        assert [cell.strip() for cell in rows[way].split("|")] == expected, way
    assert f"{measured['volumes']} volumes" in page
