"""`tpseg calibrate` fits, `tpseg run` says what it found, and weights without anything fitted run as before."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from PIL import Image

from monai_tpseg.cli.main import main
from monai_tpseg.networks.checkpoint import CheckpointError
from monai_tpseg.networks.weights import read_info
from monai_tpseg.results import __file__ as results_file
from monai_tpseg.studies import Model, Settings
from monai_tpseg.testing.phantoms import make_phantom
from monai_tpseg.trust.files import contours_path, read_contours, read_fitted, trust_path

from ..studies.conftest import write_weights

TASKS = ("skin_lesion", "brain_tumor")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of two tasks, and a datalist of 14 phantoms each; the first of each task lie apart."""
    out: Path = tmp_path_factory.mktemp("calibrate")
    write_weights(out / "model.pt", tasks=TASKS)
    entries = []
    for task in TASKS:
        for n in range(14):
            made = make_phantom(task, n, 32)
            image, label = (f"{task}_{n}{kind}.png" for kind in ("", "_mask"))
            Image.fromarray(made.image).save(out / image)
            Image.fromarray(np.asarray(made.label, np.uint8) * 255).save(out / label)
            entries.append({"image": image, "label": label, "task": task})
    (out / "datalist.json").write_text(json.dumps({"validation": entries}))
    return out


@pytest.fixture(scope="module")
def fitted(folder: Path) -> Path:
    """The weights, with all that is fitted beside them."""
    for kind in ("trust", "contours"):
        words = ["--data", str(folder / "datalist.json"), "--checkpoint", str(folder / "model.pt"), "--miss", "0.2"]
        assert main(["calibrate", *words, "--fit", kind, "--quiet"]) == 0
    return folder / "model.pt"


def run(folder: Path, out: Path, *words: str) -> dict[str, Any]:
    checkpoint = folder / "model.pt"
    source, task = folder / "skin_lesion_1.png", "skin_lesion"
    main(["run", str(source), "--task", task, "--out", str(out), "--checkpoint", str(checkpoint), "--quiet", *words])
    (path,) = out.glob("cases/*/result.json")
    record: dict[str, Any] = json.loads(path.read_text())
    schema = json.loads(Path(results_file).with_name("result.schema.json").read_text())
    jsonschema.Draft202012Validator(schema).validate(record)
    return record


def test_nothing_is_known_of_weights_alone(tmp_path: Path, folder: Path) -> None:
    (tmp_path / "w").mkdir()
    for name in ("model.pt", "model.json", "skin_lesion_1.png"):
        (tmp_path / "w" / name).write_bytes((folder / name).read_bytes())
    record = run(tmp_path / "w", tmp_path / "out")
    assert record["trust"] == {"not_this_task": None, "expected_dice": None, "contours": None}
    assert record["status"] in ("ok", "ok_empty")
    with pytest.raises(ValueError, match=r"tpseg calibrate --fit trust, or leave --refuse out"):
        Model(tmp_path / "w" / "model.pt", "cpu", Settings(refuse=True))
    with pytest.raises(CheckpointError, match=r"No calibrated contours beside .*tpseg calibrate --data"):
        Model(tmp_path / "w" / "model.pt", "cpu", Settings(contours=True))


def test_a_run_says_what_was_fitted(tmp_path: Path, folder: Path, fitted: Path) -> None:
    known = run(folder, tmp_path / "a")["trust"]
    assert known["not_this_task"]["limit"] > 0
    assert known["not_this_task"]["false_alarms"] == 0.05
    dice = known["expected_dice"]
    assert 0 <= dice["low"] <= dice["value"] <= dice["high"] <= 1
    assert known["contours"] is None
    again = run(folder, tmp_path / "b", "--contours")["trust"]["contours"]
    thresholds = read_contours(fitted, read_info(fitted).sha256)
    assert thresholds is not None
    assert thresholds.data["cases"] == 28
    outer = thresholds.tasks["skin_lesion"].outer
    assert again["outer_threshold"] == pytest.approx(min(outer.value, 0.5))
    assert again["inner_voxels"] <= again["outer_voxels"]


def test_a_picture_of_something_else(tmp_path: Path, folder: Path, fitted: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "skin_lesion_1.png")
    for name in ("model.pt", "model.json", "model.trust.safetensors"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    record = run(tmp_path, tmp_path / "a")
    assert record["trust"]["not_this_task"]["score"] > record["trust"]["not_this_task"]["limit"]
    assert (record["status"], record["flags"][0]) == ("review", "not_this_task")
    record = run(tmp_path, tmp_path / "b", "--refuse")
    assert (record["status"], record["code"]) == ("skipped", "S_NOT_THIS_TASK")
    assert "files" not in record
    assert record["trust"]["not_this_task"]["score"] > record["trust"]["not_this_task"]["limit"]


def test_files_of_other_weights_and_damaged_ones(tmp_path: Path, fitted: Path) -> None:
    other = write_weights(tmp_path / "model.pt", seed=1, tasks=TASKS)
    for path in (trust_path, contours_path):
        path(other).write_bytes(path(fitted).read_bytes())
    sha256 = read_info(other).sha256
    for read in (read_fitted, read_contours):
        with pytest.raises(CheckpointError, match="was made for other weights"):
            read(other, sha256)
    for path, read in ((trust_path, read_fitted), (contours_path, read_contours)):
        path(other).write_bytes(b"{")
        with pytest.raises(CheckpointError, match="is damaged"):
            read(other, sha256)


@pytest.mark.parametrize(
    ("words", "message"), [(["--miss", "1.5"], "--miss must be a share"), (["--most", "-1"], "--most")]
)
def test_bad_numbers(folder: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str) -> None:
    data = ["--data", str(folder / "datalist.json"), "--checkpoint", str(folder / "model.pt")]
    assert main(["calibrate", *data, *words]) == 1
    assert message in capsys.readouterr().err
