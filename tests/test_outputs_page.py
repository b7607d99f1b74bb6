"""The page of output formats says what the code writes."""

from __future__ import annotations

import json
import re
from dataclasses import fields
from importlib.resources import files
from pathlib import Path

from monai_tpseg.catalogue import CATEGORY, TASKS
from monai_tpseg.io.dicom.tracking import SEGMENTS
from monai_tpseg.results.measurements import FLAGS, REVIEW_FLAGS, Lesion

PAGE = (Path(__file__).resolve().parents[1] / "docs" / "outputs.md").read_text()


def section(title: str) -> str:
    return PAGE.split(f"\n## {title}\n")[1].split("\n## ")[0]


def test_columns() -> None:
    cells = re.findall(r"^\| (`[^|]+) \|", section("lesions.csv"), re.M)
    assert [name for cell in cells for name in re.findall(r"`(\w+)`", cell)] == [field.name for field in fields(Lesion)]
    assert f"after the {SEGMENTS}th" in PAGE
    assert f"{SEGMENTS} lesions one more segment" in PAGE


def test_codes() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (\d+ \w+) \| (\d+ \w+) \|$", section("Codes"), re.M)
    assert rows == [
        (task.name, *(f"{code.value} {code.meaning}" for code in (task.lesion, task.anatomy))) for task in TASKS
    ]
    assert f"{CATEGORY.value} {CATEGORY.meaning}" in PAGE


def test_keys_and_flags() -> None:
    text = section("result.json")
    schema = json.loads((files("monai_tpseg.results") / "result.schema.json").read_text())
    keys, flags = text.split("| flag | meaning |")
    cells = re.findall(r"^\| (`[^|]+) \|", keys, re.M)
    assert {name for cell in cells for name in re.findall(r"`(\w+)`", cell)} == set(schema["properties"])
    assert dict(re.findall(r"^\| `(\w+)` \| (.+) \|$", flags, re.M)) == FLAGS
    named = set(re.findall(r"`(\w+)`", text.strip().split("\n\n")[-1])) - {"review"}
    assert named == REVIEW_FLAGS
