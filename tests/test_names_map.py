"""The table of option names in docs/bundle.md: what it calls an option of `tpseg` or a key of the bundle is one."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.test_messages import COMMANDS, OPTIONS

ROOT = Path(__file__).resolve().parents[1]
TABLE = (ROOT / "docs" / "bundle.md").read_text().split("| `tpseg` | the bundle | |\n")[1].split("\n\n")[0]
ROWS = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in TABLE.splitlines()[1:]]
KEYS = {
    key
    for name in ("train", "evaluate", "inference")
    for key in json.loads((ROOT / f"bundles/tpseg_lesion_segmentation/configs/{name}.json").read_text())
}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_both_sides_of_a_row_exist(row: list[str]) -> None:
    left, right = row[:2]
    command = ""
    for words in re.findall(r"`([^`]+)`", left):
        first = words.split()[0]
        command = first if first in COMMANDS else command
        options = re.findall(r"--([\w-]+)", words)
        assert options or command, words
        for option in options:
            known = OPTIONS[command] if command else set().union(*OPTIONS.values())
            assert option in known, f"tpseg {command} has no --{option}"
    keys = re.findall(r"--(\w+)", right)
    assert keys
    assert set(keys) - {"KEY"} <= KEYS


def test_every_row_was_read() -> None:
    assert len(ROWS) > 12
