"""Bundle, `tpseg run` and Python say the same about the same mask, by one implementation."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from PIL import Image

from monai_tpseg import load_model
from monai_tpseg.cli.main import main
from monai_tpseg.results import __file__ as results_file
from monai_tpseg.testing.phantoms import make_volume, write_nifti
from tests.bundle.conftest import SOURCE, _apart, run

_apart = _apart  # a bundle runs in a folder of its own

TASK = "brain_tumor"


def record(path: Path) -> dict[str, Any]:
    """A result.json that keeps its schema."""
    found: dict[str, Any] = json.loads(path.read_text())
    schema = json.loads(Path(results_file).with_name("result.schema.json").read_text())
    jsonschema.Draft202012Validator(schema).validate(found)
    return found


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A volume: its slices are measured before the network is watched, or zeros would be judged too."""
    folder = tmp_path_factory.mktemp("in")
    path, label = write_nifti(make_volume(TASK, 3, (40, 36, 6)), folder / "head.nii.gz")
    label.unlink()
    return path


def bundle(weights: Path, source: Path, out: Path, **options: Any) -> dict[str, Any]:
    common = {"dataset_dir": str(source), "checkpoint": str(weights), "device": "cpu", "progress": False}
    run(SOURCE, "inference", output_dir=str(out), **{**common, **options})
    (path,) = out.glob("*_result.json")
    return record(path)


def test_the_fronts_say_the_same(tmp_path: Path, fitted: Path, source: Path) -> None:
    words = ["--task", TASK, "--out", str(tmp_path / "run"), "--checkpoint", str(fitted), "--quiet", "--contours"]
    main(["run", str(source), *words])
    (path,) = (tmp_path / "run").glob("cases/*/result.json")
    studies = record(path)
    python = load_model(fitted, "cpu", contours=True).segment(source, TASK)
    ours = bundle(fitted, source, tmp_path / "b", task=TASK, contours=True)
    assert studies["trust"]["expected_dice"] is not None
    assert studies["trust"]["not_this_task"] is not None
    assert studies["trust"]["contours"] is not None
    assert ours["trust"] == studies["trust"] == python.trust.record()
    assert ours["flags"] == studies["flags"]
    assert set(ours["files"]) == set(studies["files"]) >= {"inner", "outer"}
    for kind in ("inner", "outer"):
        theirs = path.parent / studies["files"][kind]
        assert (tmp_path / "b" / ours["files"][kind]).read_bytes() == theirs.read_bytes()
    assert ours["provenance"]["config"]["trust"] == studies["provenance"]["config"]["trust"] != {}


def test_a_picture_of_something_else(tmp_path: Path, fitted: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "photo.png")
    said = bundle(fitted, tmp_path / "photo.png", tmp_path / "b", task="skin_lesion")
    assert (said["status"], said["flags"][0]) == ("review", "not_this_task")
    refused = bundle(fitted, tmp_path / "photo.png", tmp_path / "c", task="skin_lesion", refuse=True)
    assert (refused["status"], refused["code"]) == ("skipped", "S_NOT_THIS_TASK")
    assert refused["trust"] == said["trust"]
    assert [path.name for path in (tmp_path / "c").iterdir()] == ["photo_skin_lesion_result.json"]


def test_weights_alone_run_as_before(tmp_path: Path, folder: Path, source: Path) -> None:
    for name in ("model.pt", "model.json"):
        shutil.copy(folder / name, tmp_path / name)
    ours = bundle(tmp_path / "model.pt", source, tmp_path / "b", task=TASK)
    assert ours["trust"] == {"not_this_task": None, "expected_dice": None, "contours": None}
    assert ours["provenance"]["config"]["trust"] == {}
    for option, message in (("contours", "No calibrated contours"), ("refuse", "Nothing beside .* detects")):
        with pytest.raises(SystemExit, match=message):
            bundle(tmp_path / "model.pt", source, tmp_path / "c", task=TASK, **{option: True})
    assert not (tmp_path / "c").exists()
