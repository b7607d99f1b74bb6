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


def frozen_results(*hits: float) -> dict[str, Any]:
    """Results of the suite of the frozen trunk, each row with so many hits."""
    results = {**results_of(), "suite": "frozen_trunk"}
    row: dict[str, Any] = {"tables": [3], "paper": 80.0, "planned": 2}
    names = ("A1", "A2", "A3", "A4", "B1", "B2")
    results["rows"] = [{**row, "id": name, "title": f"row {name}"} for name in names]
    results["runs"] = [run_of(name, 0, value) for name, value in zip(names, hits, strict=False)]
    for run in results["runs"]:
        run["options"]["max_epochs"] = 2
    return results


@pytest.mark.parametrize(
    ("hits", "said"),
    [
        ((0.3, 0.4, 0.5, 0.9, 0.6, 0.7), "A4 appears, and LoRA and the plain adapter are both below A4: A1 "),
        ((0.5, 0.4, 0.3, 0.6, 0.6, 0.9), "A4 does not appear, and LoRA and the plain adapter are not both"),
        ((0.5, 0.4), "A1 to A4, B1 and B2 have not all been run yet"),
    ],
)
def test_the_order_on_a_frozen_trunk_is_told_as_it_is(
    script: Any, tmp_path: Path, hits: tuple[float, ...], said: str
) -> None:
    assert "Not run yet" in script.frozen(tmp_path)
    (tmp_path / "results").mkdir()
    write_results(tmp_path / "results" / "frozen_trunk.json", frozen_results(*hits))
    trunk = tmp_path / "mae"
    trunk.mkdir()
    training = {"pictures": 1200, "mask_ratio": 0.6, "steps": 40, "batch_size": 8}
    (trunk / "encoder.json").write_text(json.dumps({"training": training}))
    (trunk / "history.json").write_text(json.dumps([{"loss": 1.25}, {"loss": 0.5}]))
    (trunk / "clock.json").write_text(json.dumps([{"cpu_seconds": 30.0}, {"cpu_seconds": 90.0}]))
    script.add_trunk(trunk, tmp_path)
    section = " ".join(script.frozen(tmp_path).split())
    assert said in section
    assert "on 1,200 training pictures" in section
    assert "0.6 of each hidden, 1.5 CPU minutes. Its error on the hidden part fell from 1.25 to 0.50" in section


def test_verdict_and_ordering_name_what_is_clear(script: Any) -> None:
    results = results_of(run_of("B4", 0, 0.78))
    results["rows"][3]["paper"] = 86.40
    assert script.verdict(results)[0].startswith("- TP-Seg is ahead of UNet: +")
    told = {line.split(" | ")[0]: line for line in script.ordering(results)}
    assert told["| per task (A5)"].endswith("| as in the paper |")


def mean_dice(images: dict[str, Any]) -> float:
    """Mean over tasks of the mean Dice of their images, from the counts alone."""
    by_task: dict[str, list[float]] = {}
    for task, (tp, fp, fn, _) in zip(images["task"], images["counts"], strict=True):
        by_task.setdefault(task, []).append(2 * tp / (2 * tp + fp + fn))
    return sum(sum(values) / len(values) for values in by_task.values()) / len(by_task)


def test_each_option_of_the_recipe_has_its_gain_over_the_first_row(script: Any, tmp_path: Path) -> None:
    assert "not been compared yet" in script.recipe_steps(tmp_path)
    (tmp_path / "results").mkdir()
    names = {"base": "first row", "stem": "another stem", "px192": "more pixels"}
    results = {**results_of(), "suite": "recipe_rows_8", "reference": "base", "title": "Rows, a held-out fifth"}
    results["rows"] = [{"tables": [2], "paper": None, "planned": 1, "id": n, "title": t} for n, t in names.items()]
    results["runs"] = [run_of("base", 0, 0.5), run_of("stem", 0, 0.75)]
    for run in results["runs"]:
        run["options"] |= {"max_epochs": 2, "epoch_cases": 48, "batch_size": 16}
    write_results(tmp_path / "results" / "recipe_rows_8.json", results)
    means = [100 * mean_dice(run["images"]) for run in results["runs"]]
    told = {line.split("|")[1].strip(): line for line in script.recipe_steps(tmp_path).splitlines() if line[:1] == "|"}
    assert told["first row"].startswith(f"| first row | {means[0]:.1f} | - | - | 6 |")
    assert told["another stem"].startswith(f"| another stem | {means[1]:.1f} | {means[1] - means[0]:+.1f} | ")
    assert "Not run: more pixels." in script.recipe_steps(tmp_path)


def test_peers_of_several_budgets_are_parts_in_order_of_their_minutes(script: Any, tmp_path: Path) -> None:
    assert "not been run yet" in script.same_minutes(tmp_path)
    (tmp_path / "results").mkdir()
    for minutes in (30, 8):
        title = f"Peers, {minutes} minutes each, validation"
        results = {**results_of(), "suite": f"recipe_peers_{minutes}", "title": title}
        for run in results["runs"]:
            run["options"] |= {"max_epochs": minutes, "epoch_cases": 48, "batch_size": 16}
        write_results(tmp_path / "results" / f"recipe_peers_{minutes}.json", results)
    lines = script.same_minutes(tmp_path).splitlines()
    parts = [line for line in lines if line.startswith("### ")]
    assert parts == ["### Peers, 8 minutes each, validation", "### Peers, 30 minutes each, validation"]
    seen = [line for line in lines if line.startswith("Training pictures seen")]
    assert f"{8 * 48:,}" in seen[0]
    assert f"{30 * 48:,}" in seen[1]
