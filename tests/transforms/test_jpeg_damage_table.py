"""The page says what the script about damaged JPEGs measured."""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks.page_tables import shown
from tests.scripts import load_script

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "dicom.md"


def test_page_shows_the_table_of_the_results() -> None:
    result = json.loads((ROOT / "docs" / "results" / "jpeg_damage.json").read_text())
    assert shown(PAGE, "jpeg damage") == load_script("benchmarks/jpeg_damage.py").table(result)
    intact = result["intact"]
    assert set(intact["refused"].values()) == {0}
    said = " ".join(PAGE.read_text().split())
    assert f"refused none of {intact['files']:,} intact pictures" in said
    assert f"would take {intact['with_transcoder']:.1f} times the CPU time of reading" in said


def test_the_script_notices_that_heavy_damage_is_refused(tmp_path: Path) -> None:
    measured = load_script("benchmarks/jpeg_damage.py").measure_form({"progressive": True}, 200, 2, tmp_path)
    assert measured["reader"] == measured["transcoder"] == measured["pictures"] == 2
