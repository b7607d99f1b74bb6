"""A small suite through the bundle's own commands: results, skipping, interruption, failure."""

from __future__ import annotations

import ast
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import monai.bundle
import pytest
import torch
import yaml

from monai_tpseg.catalogue import TASK_NAMES
from monai_tpseg.experiments import Suite, SuiteError, read_suite, runner
from monai_tpseg.experiments.results import ResultsFile, read_results
from monai_tpseg.networks.weights_info import read_info
from tests.bundle.conftest import SMALL
from tests.full_disc import largest_file

Call = Callable[[list[str], Path], bool]


def suite_of(folder: Path, *rows: dict[str, Any], **options: Any) -> Suite:
    path = folder / "suite.yaml"
    common = {**SMALL, "epoch_cases": 8, "val_interval": 2, **options}
    path.write_text(yaml.safe_dump({"name": "small", "options": common, "rows": list(rows)}))
    return read_suite(path)


def in_process(words: list[str], folder: Path) -> bool:
    """Run the command in this process: the same words, without the start of another interpreter."""
    options = dict(zip((w.removeprefix("--") for w in words[3::2]), words[4::2], strict=True))
    monai.bundle.run(**{key: _value(word) for key, word in options.items()})
    return True


def _value(word: str) -> Any:
    try:
        return ast.literal_eval(word)
    except (ValueError, SyntaxError):
        return word


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The commands that were run, in this process."""
    seen: list[list[str]] = []

    def call(words: list[str], folder: Path) -> bool:
        seen.append(words)
        return in_process(words, folder)

    monkeypatch.setattr(runner, "_call", call)
    return seen


def test_rows_train_are_measured_and_done_once(
    bundle_dir: Path, phantoms: Path, tmp_path: Path, calls: list[list[str]]
) -> None:
    suite = suite_of(
        tmp_path,
        {"id": "A4"},
        {"id": "A1", "options": {"adapter": "none", "decoder": "unet", "val_interval": 1}},
        {"id": "UNet", "options": {"architecture": "unet", "width": 4}, "per_task": ["skin_lesion"]},
    )
    out = tmp_path / "out"
    assert runner.run_suite(suite, phantoms, out, bundle_dir) == []
    results = read_results(out / "results.json")
    assert [run["name"] for run in results["runs"]] == ["A4-0", "A1-0", "UNet-skin_lesion-0"]
    assert [row["planned"] for row in results["rows"]] == [1, 1, 1]
    for run in results["runs"]:
        assert [entry["epoch"] for entry in run["clock"]] == [1, 2]
        assert 0 < run["clock"][0]["cpu_seconds"] < run["clock"][1]["cpu_seconds"]
        counts = torch.tensor(run["images"]["counts"])
        assert not any(name.startswith("/") for name in run["images"]["case"])
        tp, fp, fn, _ = counts.unbind(1)
        dice = torch.where(tp + fp + fn > 0, 2 * tp / (2 * tp + fp + fn).clamp_min(1), 1.0)
        own = [i for i, task in enumerate(run["images"]["task"]) if task == "skin_lesion"]
        assert float(dice[own].mean()) == pytest.approx(run["metrics"]["skin_lesion"]["dice"], abs=1e-4)
    tpseg, plain, peer = results["runs"]
    assert len(tpseg["split"]) == len(TASK_NAMES)
    assert [len(matrix) for matrix in tpseg["similarity"]] == [len(TASK_NAMES)] * 3
    assert "split" not in plain
    assert "similarity" not in peer
    assert read_info(out / "runs" / "A1-0" / "model.pt").network["decoder"] == "unet"
    assert peer["tasks"] == ["skin_lesion"]

    calls.clear()
    assert runner.run_suite(suite, phantoms, out, bundle_dir) == []
    assert calls == []
    other = suite_of(tmp_path, {"id": "A4", "options": {"alpha": 0.6}})
    with pytest.raises(SuiteError, match="holds a run of other options; remove it"):
        runner.run_suite(other, phantoms, out, bundle_dir)


def test_interrupted_suite_goes_on_and_ends_as_if_it_had_not_been(
    bundle_dir: Path, phantoms: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    suite = suite_of(tmp_path, {"id": "A4"}, max_epochs=3, val_interval=3)
    straight, broken = tmp_path / "straight", tmp_path / "broken"
    monkeypatch.setattr(runner, "_call", in_process)
    runner.run_suite(suite, phantoms, straight, bundle_dir)

    def killed(words: list[str], folder: Path) -> bool:
        from monai_tpseg.handlers.curves import LearningCurves

        def stop(self: Any, engine: Any) -> None:
            if engine.state.epoch == 3:
                raise KeyboardInterrupt

        monkeypatch.setattr(LearningCurves, "_epoch_started", stop)
        return in_process(words, folder)

    with monkeypatch.context() as patch:
        patch.setattr(runner, "_call", killed)
        with pytest.raises(KeyboardInterrupt):
            runner.run_suite(suite, phantoms, broken, bundle_dir)
    monkeypatch.undo()
    monkeypatch.setattr(runner, "_call", in_process)
    assert not (broken / "results.json").exists()
    assert len(json.loads((broken / "runs" / "A4-0" / "clock.json").read_text())) == 2
    monkeypatch.chdir(tmp_path)
    runner.run_suite(suite, phantoms, broken, bundle_dir)
    first, second = (read_results(folder / "results.json")["runs"][0] for folder in (straight, broken))
    assert first["images"] == second["images"]
    assert [entry["epoch"] for entry in second["clock"]] == [1, 2, 3]


def test_one_failing_row_leaves_the_others(bundle_dir: Path, phantoms: Path, tmp_path: Path) -> None:
    suite = suite_of(tmp_path, {"id": "bad", "options": {"adapter": "prompt"}})
    assert runner.run_suite(suite, phantoms, tmp_path / "out", bundle_dir) == ["bad-0"]
    log = (tmp_path / "out" / "runs" / "bad-0" / "log.txt").read_text()
    assert "Unknown adapter 'prompt'; choose one of tca, lora, plain, none" in log


def test_wrong_places_are_named(bundle_dir: Path, tmp_path: Path) -> None:
    suite = suite_of(tmp_path, {"id": "A4"})
    with pytest.raises(SuiteError, match=r"No bundle at .*--bundle"):
        runner.run_suite(suite, tmp_path, tmp_path / "out", tmp_path)
    with pytest.raises(SuiteError, match="No datalist at"):
        runner.run_suite(suite, tmp_path, tmp_path / "out", bundle_dir)


def test_results_of_another_suite_or_schema_are_refused(tmp_path: Path) -> None:
    suite = suite_of(tmp_path, {"id": "A4"})
    path = tmp_path / "results.json"
    whole = {"schema": "tpseg-results/1", "suite": "other", "tasks": [], "rows": [], "runs": []}
    path.write_text(json.dumps(whole))
    with pytest.raises(SuiteError, match="results of suite 'other'"):
        ResultsFile(path, suite)
    path.write_text('{"schema": "tpseg-results/0"}')
    with pytest.raises(SuiteError, match="has schema 'tpseg-results/0'"):
        read_results(path)
    path.write_text("[]")
    with pytest.raises(SuiteError, match="not a results file"):
        read_results(path)
    path.write_bytes(json.dumps(whole).encode()[:40])
    with pytest.raises(SuiteError, match=r"not a results file of tpseg experiment \(.* at line 1, column"):
        read_results(path)
    for change, place in ({"runs": 5}, "runs"), ({"runs": [{}]}, r"runs\[0\]"), ({"rows": ["A4"]}, r"rows\[0\]"):
        path.write_text(json.dumps({**whole, **change}))
        with pytest.raises(SuiteError, match=f"is damaged at {place}; restore it"):
            ResultsFile(path, suite)


def test_a_damaged_record_of_a_run_is_not_called_another_run(bundle_dir: Path, phantoms: Path, tmp_path: Path) -> None:
    suite = suite_of(tmp_path, {"id": "A4"})
    state = tmp_path / "out" / "runs" / "A4-0" / "run.json"
    state.parent.mkdir(parents=True)
    for content, words in (bytes(40), "unknown options, as 'run.json' is damaged"), (b"{}", "a run of other options"):
        state.write_bytes(content)
        with pytest.raises(SuiteError, match=words):
            runner.run_suite(suite, phantoms, tmp_path / "out", bundle_dir)
        assert state.read_bytes() == content


def test_a_full_disc_ends_the_suite_and_not_row_after_row(
    bundle_dir: Path, phantoms: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    suite = suite_of(tmp_path, {"id": "A"}, {"id": "B"})
    monkeypatch.setattr(runner, "_call", lambda words, folder: False)
    assert runner.run_suite(suite, phantoms, tmp_path / "room", bundle_dir) == ["A-0", "B-0"]
    with largest_file(2**16), pytest.raises(OSError, match=r"cannot be written .*; choose another --out"):
        runner.run_suite(suite, phantoms, tmp_path / "full", bundle_dir)
    assert [path.name for path in (tmp_path / "full" / "runs").iterdir()] == ["A-0"]
