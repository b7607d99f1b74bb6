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
from monai_tpseg.networks.weights_info import read_info
from monai_tpseg.results import __file__ as results_file
from monai_tpseg.studies import Model, Settings
from monai_tpseg.studies.trust_fitting import data_digest
from monai_tpseg.trust.fitted_files import contours_path, read_contours, read_fitted, trust_path
from monai_tpseg.weights.pack import pack

from ..full_disc import largest_file
from ..studies.conftest import write_weights
from .conftest import TASKS


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
    with pytest.raises(CheckpointError, match=r"tpseg calibrate --fit trust, or do not set refuse"):
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
    assert thresholds.data["cases"] == 42
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
        with pytest.raises(CheckpointError, match="belongs to weights other than"):
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
    assert main(["calibrate", *data, *words]) == 2
    assert message in capsys.readouterr().err


def test_packed_weights_keep_what_was_fitted(tmp_path: Path, folder: Path, fitted: Path) -> None:
    """The copy in half precision has another digest; what was fitted is bound to it, and says the same."""
    info = pack(fitted, tmp_path, "mine", {})
    file = tmp_path / "mine.safetensors"
    before, after = read_fitted(fitted, read_info(fitted).sha256), read_fitted(file, info.sha256)
    assert before is not None
    assert after is not None
    assert {**after.provenance, "weights_sha256": ""} == {**before.provenance, "weights_sha256": ""}
    assert before.dice is not None
    assert after.dice is not None
    assert np.array_equal(after.dice.weights, before.dice.weights)
    assert read_contours(file, info.sha256) == read_contours(fitted, read_info(fitted).sha256)
    own, copy = (Model(path, "cpu", Settings(contours=True)) for path in (fitted, file))
    records = [model.segment(folder / "skin_lesion_1.png", "skin_lesion").trust.record() for model in (own, copy)]
    assert records[1]["expected_dice"]["value"] == pytest.approx(records[0]["expected_dice"]["value"], abs=0.02)


def test_a_pack_takes_nothing_of_other_weights(tmp_path: Path, folder: Path, fitted: Path) -> None:
    plain = write_weights(tmp_path / "model.pt", seed=1, tasks=TASKS)
    pack(fitted, tmp_path / "out", "mine", {})
    pack(plain, tmp_path / "out", "mine", {}, replace_old=True)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["mine.json", "mine.safetensors"]
    trust_path(plain).write_bytes(trust_path(fitted).read_bytes())
    with pytest.raises(CheckpointError, match="belongs to weights other than"):
        pack(plain, tmp_path / "new", "mine", {})
    assert not (tmp_path / "new").exists()


def test_the_file_says_which_list_set_the_limits(tmp_path: Path, folder: Path) -> None:
    """Fitted on one list, limits of another: number of cases and digest of both are kept."""
    entries = json.loads((folder / "datalist.json").read_text())["validation"]
    halves = {"training": entries[::2], "validation": entries[1::2]}
    data = folder / "halves.json"
    data.write_text(json.dumps(halves))
    for name in ("model.pt", "model.json"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    words = ["--data", str(data), "--checkpoint", str(tmp_path / "model.pt"), "--quiet"]
    assert main(["calibrate", *words, "--fit", "trust", "--list", "training"]) == 0
    found = read_fitted(tmp_path / "model.pt", read_info(tmp_path / "model.pt").sha256)
    assert found is not None
    about = found.provenance
    assert (about["data"]["list"], about["data"]["cases"]) == ("training", 21)
    assert (about["limits"]["list"], about["limits"]["cases"]) == ("validation", 21)
    cases = [{**one, **{key: folder / one[key] for key in ("image", "label")}} for one in halves["validation"]]
    assert about["limits"]["sha256"] == data_digest(cases) != about["data"]["sha256"]


def test_a_full_disc_is_one_line_and_changes_nothing(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    with largest_file(2**16):
        words = ["--data", str(folder / "datalist.json"), "--checkpoint", str(folder / "model.pt")]
        assert main(["calibrate", *words, "--quiet"]) == 1
    assert "cannot be written (File too large); choose another --checkpoint" in capsys.readouterr().err
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == before
