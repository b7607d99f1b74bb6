"""The page about studies says what the benchmark measured, and what it measured is whole."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType

import pytest

from benchmarks.page_tables import shown
from tests.scripts import load_script

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "docs" / "results" / "studies.json"


@pytest.fixture(scope="module")
def benchmark() -> ModuleType:
    """The script, which lies outside of the package."""
    return load_script("benchmarks/studies.py")


def test_page_shows_the_table_of_the_results(benchmark: ModuleType) -> None:
    assert shown(ROOT / "docs" / "studies.md", "studies") == benchmark.table(json.loads(RESULTS.read_text()))


def test_results_are_of_500_studies_and_every_check_holds() -> None:
    result = json.loads(RESULTS.read_text())
    assert result["settings"]["studies"] == sum(result["statuses"].values()) == 500
    assert len(result["kills"]) == 3
    assert [name for name, good in result["checks"].items() if not good] == []
    assert len(result["checks"]) == 12


def test_a_check_that_fails_is_named_in_the_table(benchmark: ModuleType) -> None:
    result = json.loads(RESULTS.read_text())
    result["checks"]["each study once"] = False
    assert "11 of 12 hold; not: each study once" in benchmark.table(result)
