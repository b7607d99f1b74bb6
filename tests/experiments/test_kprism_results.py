"""K-Prism on real lesions: the scripts that train and measure it, and the page that is written from their results."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from monai_tpseg.catalogue import TASK_NAMES
from tests.scripts import load_script

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = ROOT / "bundles" / "kprism_universal_segmentation" / "configs"


@pytest.fixture(scope="module")
def lesions() -> Any:
    return load_script("benchmarks/kprism_lesions.py")


@pytest.fixture(scope="module")
def wrong() -> Any:
    return load_script("benchmarks/kprism_wrong.py")


@pytest.fixture(scope="module")
def page() -> Any:
    return load_script("benchmarks/kprism_results_page.py")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Two pictures per task in the training list, one in the other."""
    mask = np.zeros((6, 8), dtype=np.uint8)
    mask[0, :3] = 255
    lists: dict[str, list[dict[str, str]]] = {"training": [], "validation": []}
    for task in TASK_NAMES:
        for i in range(3):
            Image.fromarray(mask).save(tmp_path / f"{task}{i}.png")
            entry = {"image": f"{task}{i}.jpg", "label": f"{task}{i}.png", "task": task}
            lists["training" if i else "validation"].append(entry)
    (tmp_path / "datalist.json").write_text(json.dumps(lists))
    return tmp_path


def test_page_is_in_step_with_the_results_file(page: Any) -> None:
    results = json.loads((ROOT / "docs" / "results" / "kprism_lesions.json").read_text())
    assert page.page(results) == (ROOT / "docs" / "results-kprism.md").read_text()


def test_mean_over_tasks_counts_each_task_once(page: Any) -> None:
    dice = [[float(i == 0), 1.0] for i in range(len(TASK_NAMES))] + [[1.0, 0.0]]
    entry = {"training": "mixed", "start": "semantic", "clicks": 1, "dice": dice, "noc": {}}
    results = {"evaluations": [entry], "images": {"task": [*TASK_NAMES, TASK_NAMES[0]]}}
    assert page.find(results, "mixed", "interactive") is None
    found = page.find(results, "mixed", "semantic")
    assert found.means(0)["mean"] == pytest.approx(1 / 8)
    assert found.means(1)["mean"] == pytest.approx(7.5 / 8)
    assert page.difference(found, found, (1, 0))[0] == "+81.2"


def test_page_of_a_part_names_what_has_not_been_run(page: Any) -> None:
    results = json.loads((ROOT / "docs" / "results" / "kprism_lesions.json").read_text())
    kept = [e for e in results["evaluations"] if e["training"] == "mixed" and e["clicks"]]
    text = page.page({**results, "evaluations": kept[:1]})
    assert "Not run yet: class only, by class, mixed, by 1 exemplar" in text
    page.draw({**results, "evaluations": []})


def test_options_are_keys_of_the_configs(lesions: Any) -> None:
    train, evaluate = (json.loads((CONFIGS / f"{name}.json").read_text()) for name in ("train", "evaluate"))
    for options in (lesions.OPTIONS, lesions.TRIAL, lesions.QUIET, lesions.shares("mixed"), *lesions.TRIALS.values()):
        assert set(options) <= set(train)
    assert {*lesions.QUIET, "start", "clicks", "exemplars", "checkpoint"} <= set(evaluate)
    assert all(sum(lesions.shares(name).values()) == pytest.approx(1) for name in lesions.TRAININGS)


def test_every_evaluation_has_a_folder_of_its_own(lesions: Any) -> None:
    folders = [(e.training, e.name) for e in lesions.EVALUATIONS]
    assert len(set(folders)) == len(folders)


def test_a_training_is_not_repeated_and_never_mixed_with_another(
    lesions: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[Any] = []
    monkeypatch.setattr(lesions, "bundle", lambda config, options, log: calls.append(options))
    for _ in range(2):
        lesions.train(tmp_path / "mixed", tmp_path, tmp_path / "datalist.json", lesions.OPTIONS)
    assert [options["resume"] for options in calls] == ["auto"]
    assert calls[0]["val_interval"] == lesions.OPTIONS["max_epochs"]
    with pytest.raises(SystemExit, match="other options"):
        lesions.train(tmp_path / "mixed", tmp_path, tmp_path / "datalist.json", {**lesions.OPTIONS, "lr": 1.0})


def test_a_failed_call_ends_with_the_name_of_its_log(lesions: Any, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"evaluate.json failed; see .*log.txt"):
        lesions.bundle("evaluate", {"dataset_dir": tmp_path, "checkpoint": tmp_path / "none.pt"}, tmp_path / "log.txt")
    assert "none.pt" in (tmp_path / "log.txt").read_text()


def test_wrong_exemplars_change_the_training_list_alone(wrong: Any, data: Path) -> None:
    paths = wrong.write_wrong(data, data / "wrong")
    right = json.loads(paths["right"].read_text())
    lists = {name: json.loads(path.read_text()) for name, path in paths.items()}
    for content in lists.values():
        assert content["validation"] == right["validation"]
        assert len(content["training"]) == len(right["training"])
    for entry, other in zip(right["training"], lists["other_task"]["training"], strict=True):
        assert other["image"] == entry["image"]
        assert other["task"] != entry["task"]
    assert {entry["task"] for entry in lists["other_task"]["training"]} == set(TASK_NAMES)


def test_wrong_masks(wrong: Any, data: Path) -> None:
    paths = wrong.write_wrong(data, data / "wrong")
    masks = {}
    for name in ("right", "inverted", "shifted"):
        entry = json.loads(paths[name].read_text())["training"][0]
        masks[name] = np.asarray(Image.open(data / entry["label"]))
    assert np.array_equal(masks["inverted"] == 0, masks["right"] == 255)
    assert np.argwhere(masks["shifted"]).tolist() == [[3, 4], [3, 5], [3, 6]]


def test_dice_of_each_picture_with_and_without_clicks(lesions: Any, tmp_path: Path) -> None:
    for clicks, name, columns in ((0, "metrics_per_image", "dice,tp"), (1, "clicks_per_image", "dice_0,dice_1")):
        evaluation = lesions.Evaluation("mixed", "semantic", clicks)
        folder = tmp_path / "mixed" / evaluation.name
        folder.mkdir(parents=True)
        rows = [f"{tmp_path}/{case}.png,skin_lesion,0.5,0.75" for case in "ba"]
        (folder / f"{name}.csv").write_text("\n".join([f"case,task,{columns}", *rows]) + "\n")
        (folder / "clicks.json").write_text('{"mean": {"noc85": 0.1234, "noc90": 1, "n": 2}}')
        found = lesions.measured(evaluation, tmp_path, tmp_path)
        assert found["case"] == ["a.png", "b.png"]
        assert found["dice"] == [[0.5, 0.75][: 1 + clicks]] * 2
        assert found["noc"] == ({"mean": {"noc85": 0.123, "noc90": 1}} if clicks else {})


def test_pictures_of_all_evaluations_must_be_the_same(lesions: Any) -> None:
    first = {"case": ["a"], "task": ["skin_lesion"], "dice": [[0.5]]}
    entries = [dict(first), dict(first)]
    assert lesions.pictures(entries) == {"case": ["a"], "task": ["skin_lesion"]}
    assert entries == [{"dice": [[0.5]]}] * 2
    with pytest.raises(ValueError, match="different pictures"):
        lesions.pictures([dict(first), {**first, "case": ["b"]}])
