"""Many studies, a tenth of them broken: each accounted for once; a run that is killed and goes on changes nothing."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from monai_tpseg.cli import main
from monai_tpseg.io.errors import ReadError
from monai_tpseg.studies import read_manifest
from monai_tpseg.testing.phantoms import BROKEN, PhantomStudy, write_studies
from monai_tpseg.transforms import LoadMedicalImage

COUNT = 30
KILLS = 2
SEED = 7


@pytest.fixture(scope="module")
def studies(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[PhantomStudy]]:
    """A tree of studies, with what is in it."""
    folder = tmp_path_factory.mktemp("tree") / "studies"
    return folder, write_studies(folder, COUNT, size=40)


def arguments(tree: Path, out: Path, weights: Path) -> list[str]:
    run = ["run", "--data", str(tree / "manifest.csv"), "--out", str(out), "--checkpoint", str(weights)]
    return [*run, "--resume", "--quiet", "--device", "cpu"]


def contents(out: Path) -> dict[str, bytes]:
    """Everything of all cases, by name, hidden files too."""
    return {str(path.relative_to(out)): path.read_bytes() for path in out.glob("cases/**/*") if path.is_file()}


@pytest.fixture(scope="module")
def whole(studies: tuple[Path, list[PhantomStudy]], weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output of a run that nobody stopped."""
    out = tmp_path_factory.mktemp("whole") / "out"
    out.mkdir()
    (out / "manifest.csv").write_text(salted(studies[0]))
    assert main(arguments(studies[0], out, weights)) == 3
    return out


def salted(tree: Path) -> str:
    """The manifest with a salt that is the same for both outputs, so that they can be compared."""
    lines = (tree / "manifest.csv").read_text().splitlines()
    body = "\n".join(f"{line},{tree},{'5a' * 16}" for line in lines[1:])
    return f"{lines[0]},root,salt\n{body}\n"


def test_each_study_is_accounted_for_once(whole: Path, studies: tuple[Path, list[PhantomStudy]]) -> None:
    sources = {entry.case: entry.path for entry in read_manifest(whole / "manifest.csv")}
    records = {path.parent.name: json.loads(path.read_text()) for path in whole.glob("cases/*/result.json")}
    assert len(sources) == COUNT
    assert set(records) == set(sources)
    by_path = {sources[name]: record for name, record in records.items()}
    for study in studies[1]:
        record = by_path[study.path]
        assert record["code"] == BROKEN.get(study.broken, ""), study
        assert (record["status"] in ("failed", "skipped")) == bool(study.broken), study
    events = [json.loads(line) for line in (whole / "events.jsonl").read_text().splitlines()]
    cases = [event["case"] for event in events if event["event"] == "case"]
    assert sorted(cases) == sorted(sources)
    assert [event["event"] for event in events if event["event"] != "case"] == ["start", "end"]


def test_each_way_to_be_broken_has_its_code(tmp_path: Path) -> None:
    broken = [study for study in write_studies(tmp_path, 10 * len(BROKEN), size=32) if study.broken]
    found = {}
    for study in broken:
        with pytest.raises(ReadError) as caught:
            LoadMedicalImage()(tmp_path / study.path)
        found[study.broken] = caught.value.code
    assert found == BROKEN


@pytest.mark.slow
def test_a_run_that_is_killed_goes_on_to_the_same_results(
    whole: Path, studies: tuple[Path, list[PhantomStudy]], weights: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "manifest.csv").write_text(salted(studies[0]))
    command = [sys.executable, "-m", "monai_tpseg", *arguments(studies[0], out, weights)]
    for point in sorted(random.Random(SEED).sample(range(3, COUNT - 3), KILLS)):
        process = subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"})
        while process.poll() is None and len(list(out.glob("cases/[!.]*/result.json"))) < point:
            time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        complete = {path.parent.name for path in out.glob("cases/[!.]*/result.json")}
        assert point <= len(complete) < COUNT
    assert main(arguments(studies[0], out, weights)) == 3
    assert contents(out) == contents(whole)
    assert (out / "manifest.csv").read_bytes() == (whole / "manifest.csv").read_bytes()
    events = [json.loads(line) for line in (out / "events.jsonl").read_text().splitlines()]
    last = max(n for n, event in enumerate(events) if event["event"] == "start")
    kept = {event["case"] for event in events[last:] if event.get("kept")}
    assert kept <= complete
    assert len(complete - kept) <= KILLS + 1  # what was complete but failed is tried again


@pytest.mark.slow
def test_a_run_that_is_asked_to_stop_says_how_to_go_on(
    studies: tuple[Path, list[PhantomStudy]], weights: Path, tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "monai_tpseg", *arguments(studies[0], tmp_path, weights)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    while process.poll() is None and not list(tmp_path.glob("cases/[!.]*/result.json")):
        time.sleep(0.001)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate()
    assert process.returncode == 143
    assert said == "Stopped. Repeat the command with --resume to continue.\n"
    assert not list(tmp_path.glob("cases/.*"))
    end = json.loads((tmp_path / "events.jsonl").read_text().splitlines()[-1])
    assert (end["event"], end["complete"]) == ("end", False)
