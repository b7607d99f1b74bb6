"""The rows of the recipe and the peers: one command, the same minutes, figures of a held-out part."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from monai_tpseg.catalogue import TASK_NAMES
from monai_tpseg.experiments import read_suite
from monai_tpseg.experiments.runner import run_suite
from monai_tpseg.testing.phantoms import write_dataset
from tests.scripts import load_script

recipe = load_script("benchmarks/recipe.py")


def test_a_row_is_trained_and_measured_on_the_held_out_fifth(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lesions = tmp_path / "lesions"
    write_dataset(lesions, train_per_task=5, val_per_task=1, size=40)
    data = recipe.join_data(lesions, None, tmp_path / "out", holdout=5)
    monkeypatch.setattr(recipe, "_EPOCHS", 1)
    monkeypatch.setattr(recipe, "steps_in", lambda minutes, options: 1)
    monkeypatch.setitem(recipe.KINDS, "rows", {"rim": recipe.ROWS["rim"]})
    tiny = {"image_size": 32, "batch_size": 2, "backbone": "hiera_demo"}
    suite = tmp_path / "suite.yaml"
    suite.write_text(yaml.safe_dump(recipe.make_suite("rows", 1, 5, data, tiny)))
    assert run_suite(read_suite(suite), data, tmp_path / "out", recipe.BUNDLE) == []
    results = tmp_path / "out" / "results.json"
    runs = {run["row"]: run for run in json.loads(results.read_text())["runs"]}
    assert set(runs) == {"rim"}
    assert runs["rim"]["options"]["soft_rim"] == 3
    images = json.loads(results.read_text())["runs"][0]["images"]["case"]
    trained = json.loads((lesions / "datalist.json").read_text())["training"]
    assert {name.removeprefix("lesions/") for name in images} <= {entry["image"] for entry in trained}


def write_lists(folder: Path) -> None:
    """A datalist of five training pictures and one validation picture per task."""
    folder.mkdir()
    counts = {"training": 5, "validation": 1}
    lists = {
        name: [
            {"image": f"{name}_{task}_{n}.png", "label": f"{name}_{task}_{n}_mask.png", "task": task}
            for task in TASK_NAMES
            for n in range(count)
        ]
        for name, count in counts.items()
    }
    (folder / "datalist.json").write_text(json.dumps(lists))


def test_fewer_pictures_are_those_of_the_first_folder_without_the_held_out_fifth(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("lesions", "more"):
        write_lists(tmp_path / name)
    data = recipe.join_data(tmp_path / "lesions", tmp_path / "more", tmp_path / "out", holdout=5)
    joined, fewer = (json.loads((data / name).read_text()) for name in ("datalist.json", "fewer.json"))
    assert len(joined["training"]) == len(TASK_NAMES) * 10
    assert [entry["image"].split("/")[0] for entry in fewer["training"]] == ["lesions"] * len(TASK_NAMES) * 5
    held_out = {entry["image"] for entry in fewer["validation"]}  # the last two of ten
    assert held_out == {f"more/training_{task}_{n}.png" for task in TASK_NAMES for n in (3, 4)}
    monkeypatch.setattr(recipe, "steps_in", lambda minutes, options: 100)
    suite = recipe.make_suite("rows", 8, 5, data)
    rows = {row["id"]: row["options"] for row in suite["rows"]}
    assert suite["name"] == "recipe_rows_8"
    assert rows["fewer"]["datalist"] == str(data / "fewer.json")
    assert rows["longer"]["epoch_cases"] == 2 * rows["base"]["epoch_cases"]


def test_every_row_is_a_training_that_there_is() -> None:
    keys = json.loads((recipe.BUNDLE / "configs" / "train.json").read_text())
    for rows in (recipe.ROWS, recipe.PEERS, recipe.rows_of("rows", "encoder.pt")):
        for _, options in rows.values():
            assert set(options) <= set(keys)


def test_a_slower_network_gets_fewer_steps() -> None:
    small = {**recipe.COMMON, "image_size": 32, "batch_size": 2, "backbone": "hiera_demo"}
    few, many = recipe.steps_in(0.05, {**small, "image_size": 128}), recipe.steps_in(0.05, small)
    assert few <= many


def test_a_pretrained_trunk_is_a_row_more() -> None:
    rows = recipe.rows_of("rows", "mae/encoder.pt")
    assert set(rows) - set(recipe.ROWS) == {"pretrained"}
    assert rows["pretrained"][1]["encoder_checkpoint"] == "mae/encoder.pt"
