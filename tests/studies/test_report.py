"""The report: one file, worst first, nothing loaded from elsewhere, nothing of a record taken for markup."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from monai_tpseg.studies import Model, Run, StudyError, find_entries, prepare_output, write_report
from monai_tpseg.studies.report import collect

from .conftest import MARKER


@pytest.fixture(scope="module")
def done(corpus: Path, model: Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output of a run for one task."""
    out = tmp_path_factory.mktemp("report") / "out"
    Run(model, out, quiet=True)(prepare_output(out, find_entries(corpus, "skin_lesion"), "salted", False))
    return out


def test_all_cases_are_shown_worst_first(done: Path) -> None:
    page = write_report(done).read_text()
    shown = re.findall(r'<figure data-status="(\w+)" data-task="(\w*)">', page)
    order = ["failed", "review", "ok_empty", "ok", "skipped"]
    assert len(shown) == len(list((done / "cases").iterdir()))
    assert [status for status, _ in shown] == sorted((status for status, _ in shown), key=order.index)
    assert shown[0][0] == "failed"
    assert page.count("data:image/png;base64,") == len(shown) - sum(status == "failed" for status, _ in shown)
    for case in collect(done):
        assert page.count(case.record["case"]) >= 1 + len(case.lesions)


def test_nothing_is_loaded_from_elsewhere_and_nothing_is_private(done: Path) -> None:
    page = write_report(done).read_text()
    assert "default-src 'none'" in page
    assert not re.search(r"https?:|//[a-z]|@import|url\(", re.sub(r"base64,[\w+/=]+", "", page))
    assert MARKER not in page


def test_records_are_text_and_never_markup(done: Path, tmp_path: Path) -> None:
    out = shutil.copytree(done, tmp_path / "out")
    path = next((out / "cases").glob("*/result.json"))
    path.write_text(json.dumps(json.loads(path.read_text()) | {"case": "<script>alert(1)</script>"}))
    page = write_report(out).read_text()
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert" in page


def test_an_output_without_results_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="no results"):
        write_report(tmp_path)
