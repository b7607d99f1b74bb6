"""The results page is what its script writes from the files in the repository."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from monai_tpseg.experiments.results import read_results, write_results
from tests.experiments.synthetic import results_of, run_of
from tests.scripts import load_script

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def script() -> Any:
    return load_script("benchmarks/results_page.py")


def test_page_is_in_step_with_the_results_files(script: Any) -> None:
    results = read_results(ROOT / "docs" / "results" / "lesions_128.json")
    assert script.page(results, ROOT / "docs") == (ROOT / "docs" / "results.md").read_text()


def test_results_hold_no_path_of_a_machine() -> None:
    for path in (ROOT / "docs" / "results").glob("*.json"):
        text = path.read_text()
        assert not [word for word in ('"/', "/work/", "/tmp/", "/home/") if word in text], path


def test_a_new_file_is_joined_with_what_is_there(script: Any, tmp_path: Path) -> None:
    (tmp_path / "results").mkdir()
    first, second = tmp_path / "first.json", tmp_path / "second.json"
    write_results(first, results_of())
    write_results(second, {**results_of(), "runs": [run_of("B4", 0, 0.7)]})
    script.add([first], tmp_path)
    script.add([second], tmp_path)
    joined = read_results(tmp_path / "results" / "made.json")
    assert [run["row"] for run in joined["runs"]][-1] == "B4"
    assert len(joined["runs"]) == len(results_of()["runs"]) + 1
    lines = (tmp_path / "results" / "made.json").read_text().splitlines()
    assert len([line for line in lines if line.startswith('{"name"')]) == len(joined["runs"])
    assert json.loads(first.read_text()) == results_of()


def test_verdict_and_ordering_name_what_is_clear(script: Any) -> None:
    results = results_of(run_of("B4", 0, 0.78))
    results["rows"][3]["paper"] = 86.40
    assert script.verdict(results)[0].startswith("- TP-Seg is ahead of UNet: +")
    told = {line.split(" | ")[0]: line for line in script.ordering(results)}
    assert told["| per task (A5)"].endswith("| as in the paper |")
