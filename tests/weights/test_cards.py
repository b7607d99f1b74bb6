"""The figures of a card: measured as the bundle's evaluation measures them, compared line by line."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from monai_tpseg.catalogue import TASK_NAMES
from monai_tpseg.networks import kprism_demo
from monai_tpseg.networks.weights_info import WeightsInfo, save_weights
from monai_tpseg.testing.phantoms import write_dataset
from monai_tpseg.transforms import pipelines_hash
from monai_tpseg.weights.pack import write_card
from tests.bundle.conftest import SOURCE, run
from tests.scripts import load_script

cards = load_script("benchmarks/starter_cards.py")
TWO = TASK_NAMES[-2:]


@pytest.fixture(scope="module")
def lesions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four training pictures per task, and one validation picture of each of two."""
    folder = tmp_path_factory.mktemp("lesions")
    write_dataset(folder, train_per_task=4, val_per_task=1, size=40)
    lists = json.loads((folder / "datalist.json").read_text())
    lists["validation"] = [entry for entry in lists["validation"] if entry["task"] in TWO]
    (folder / "datalist.json").write_text(json.dumps(lists))
    return folder


def test_dice_is_that_of_the_bundle(packed: Path, lesions: Path, tmp_path: Path) -> None:
    file = packed / "starter-tpseg.safetensors"
    found = cards.measure(file, lesions, "cpu")
    options = {"dataset_dir": str(lesions), "checkpoint": str(file), "output_dir": str(tmp_path), "num_workers": 0}
    run(SOURCE, "evaluate", **options, device="cpu", progress=False, overlay_images=False)
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    metrics = {task: row for task, row in metrics.items() if row["n"]}
    assert found["dice"] == {task: pytest.approx(100 * row["dice"], abs=0.01) for task, row in metrics.items()}
    assert found["validation"].startswith("2 pictures at their own size")


def test_prompts_are_those_of_the_simulated_user(lesions: Path, tmp_path: Path) -> None:
    torch.manual_seed(1)
    network = kprism_demo(len(TASK_NAMES)).eval()
    info = WeightsInfo(TASK_NAMES, {"architecture": "kprism", "backbone": "utnet_demo"}, (32, 32))
    save_weights(tmp_path / "k.pt", network.state_dict(), info)
    found = cards.measure(tmp_path / "k.pt", lesions, "cpu", limit=1)
    again = cards.measure(tmp_path / "k.pt", lesions, "cpu", limit=1)
    assert found == again
    assert list(found["dice"])[:4] == ["class", "1 click", "5 clicks", "10 clicks"]
    assert all(list(table) == [*TWO, "mean"] for table in found["dice"].values())
    assert set(found["measures"]) <= {f"clicks obeyed, {kind}, %" for kind in ("all", "positive", "negative")}


def test_a_click_is_obeyed_where_the_mask_says_so() -> None:
    assert cards.obedience([(1.0, True), (1.0, False), (-1.0, True), (1.0, True)]) == {
        "clicks obeyed, all, %": 75.0,
        "clicks obeyed, positive, %": 66.67,
        "clicks obeyed, negative, %": 100.0,
    }
    assert "clicks obeyed, negative, %" not in cards.obedience([(1.0, True)])


def test_differences_are_told_line_by_line() -> None:
    card = {"dice": {"class": {"wet_amd": 70.0, "mean": 70.0}}}
    assert cards.differences(card, {"dice": {"class": {"wet_amd": 70.05, "mean": 70.0}}}) == []
    (line,) = cards.differences(card, {"dice": {"class": {"wet_amd": 71.0, "mean": 70.0}}})
    assert line == "dice/class/wet_amd: the card says 70.0, measured 71.0"
    assert len(cards.differences({}, {"dice": {"wet_amd": 1.0}, "measures": {"x": 2.0}})) == 2


def test_the_script_writes_and_then_agrees(packed: Path, lesions: Path, tmp_path: Path) -> None:
    for suffix in (".safetensors", ".json"):
        shutil.copy(packed / f"starter-tpseg{suffix}", tmp_path)
    file = tmp_path / "starter-tpseg.safetensors"
    measured = cards.measure(file, lesions, "cpu", limit=1)
    card = write_card(file, measured).card
    assert cards.differences(card, {key: measured[key] for key in ("dice",)}) == []
    assert card["validation"] == measured["validation"]
    assert pipelines_hash() == json.loads(file.with_suffix(".json").read_text())["preprocessing"]
