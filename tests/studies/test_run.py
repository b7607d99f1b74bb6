"""A run: every case once, bad ones apart, results complete, resumed exactly, nothing private outside of it."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from PIL import Image

from monai_tpseg.report import write_report
from monai_tpseg.results import StudyError
from monai_tpseg.results.codes import DeviceLostError, device_answers
from monai_tpseg.results.folder import case_folder
from monai_tpseg.segment import Segmentation
from monai_tpseg.studies import (
    Entry,
    Model,
    Run,
    Settings,
    case,
    exit_status,
    find_entries,
    known_salt,
    prepare_output,
    read_manifest,
)
from monai_tpseg.studies.manifest import new_salt

from .conftest import MARKER, MARKER_UID, write_weights

TASKS = {"ct": "lung_infection", "mr": "brain_tumor", "colon": "colon_polyp", "thyroid": ""}


def entries_of(corpus: Path, salt: str = "") -> list[Entry]:
    entries = find_entries(corpus, "skin_lesion", salt)
    return [replace(e, task=TASKS.get(e.path.split("_")[1].split("/")[0], e.task)) for e in entries]


def go(model: Model, out: Path, entries: list[Entry], resume: bool = False, names: Any = "salted") -> Counter[str]:
    return Run(model, out, resume=resume, quiet=True)(prepare_output(out, entries, names, resume))


def records(out: Path) -> dict[str, dict[str, Any]]:
    """Source -> its record."""
    names = {entry.case: entry.path for entry in read_manifest(out / "manifest.csv")}
    return {names[f.parent.name]: json.loads(f.read_text()) for f in (out / "cases").glob("*/result.json")}


def contents(out: Path) -> dict[str, bytes]:
    return {str(f.relative_to(out)): f.read_bytes() for f in (out / "cases").rglob("*") if f.is_file()}


@pytest.fixture(scope="module")
def done(corpus: Path, model: Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output of one run over the corpus."""
    out = tmp_path_factory.mktemp("done") / "out"
    assert sum(go(model, out, entries_of(corpus)).values()) == 8
    write_report(out)
    return out


def test_every_case_ends_once_and_bad_ones_carry_their_code(done: Path) -> None:
    found = {path.removeprefix(f"{MARKER}_"): record for path, record in records(done).items()}
    assert len(found) == len(list((done / "cases").iterdir())) == 8
    for good in ("ct/series", "mr.nii.gz", "photo.png", "colon_polyp.dcm", "skin_lesion.dcm"):
        assert found[good]["status"] in ("ok", "ok_empty"), found[good]
    assert (found["thyroid_nodule.dcm"]["status"], found["thyroid_nodule.dcm"]["code"]) == ("skipped", "S_NO_TASK")
    assert (found["cut.dcm"]["status"], found["cut.dcm"]["code"]) == ("failed", "E_TRUNCATED")
    assert found["broken.png"]["code"] == "E_TRUNCATED"
    assert all(record["next_action"] for record in found.values() if record["code"])
    start, *lines, end = [json.loads(line) for line in (done / "events.jsonl").read_text().splitlines()]
    assert (start["event"], start["cases"]) == ("start", 8)
    assert (end["event"], end["complete"], end["failed"], end["skipped"]) == ("end", True, 2, 1)
    assert {"read", "network", "write"} <= set(next(line for line in lines if line["status"].startswith("ok")))
    assert sorted(line["case"] for line in lines) == sorted(path.name for path in (done / "cases").iterdir())


def test_masks_lie_on_the_grid_of_their_source(done: Path, corpus: Path) -> None:
    found = records(done)
    volume, photo = found[f"{MARKER}_mr.nii.gz"], found[f"{MARKER}_photo.png"]
    mask = nibabel.load(done / "cases" / volume["case"] / volume["files"]["mask"])
    source = nibabel.load(corpus / f"{MARKER}_mr.nii.gz")
    assert mask.shape == source.shape
    assert np.array_equal(mask.affine, source.affine)
    picture = np.asarray(Image.open(done / "cases" / photo["case"] / photo["files"]["mask"]))
    assert picture.shape == (36, 48)
    assert set(np.unique(picture)) <= {0, 255}
    assert int((picture > 0).sum()) == photo["voxels"]


def test_a_result_says_what_made_it(done: Path, model: Model) -> None:
    record = records(done)[f"{MARKER}_ct/series"]
    made_by = record["provenance"]
    assert made_by["model"]["weights_sha256"] == model.info.sha256
    assert made_by["config_sha256"] == model.config_sha256
    assert made_by["config"]["preprocessing"] == model.preprocessing
    assert made_by["versions"]["torch"] == torch.__version__.split("+")[0]
    assert record["decisions"]["dicom_modality"] == "CT"
    assert record["decisions"]["intensity"] == "physical"


def test_only_the_manifest_leads_back_to_patients_and_paths(done: Path, corpus: Path) -> None:
    secrets = [MARKER, MARKER_UID, str(corpus), corpus.parent.name, read_manifest(done / "manifest.csv")[0].salt]
    for file in done.rglob("*"):
        name = str(file.relative_to(done))
        for_others = file.is_file() and name != "manifest.csv" and not name.endswith(("_seg.dcm", "_sr.dcm"))
        content = file.read_bytes() if for_others else b""  # an object of DICOM names its patient
        if name.endswith(".gz"):
            content = bytes(nibabel.load(file).header.binaryblock) + content
        for secret in secrets:
            assert secret not in name
            assert secret.encode() not in content, f"{secret} in {name}"
    assert (done / "manifest.csv").stat().st_mode & 0o777 == 0o600
    assert MARKER in (done / "manifest.csv").read_text()


def test_no_message_repeats_what_is_private(
    corpus: Path, model: Model, tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    with caplog.at_level("INFO"):
        Run(model, tmp_path)(prepare_output(tmp_path, entries_of(corpus), "salted", False))
    said = caplog.text + "".join(capfd.readouterr())
    assert "case" in said  # the progress bar
    for secret in (MARKER, MARKER_UID, str(corpus)):
        assert secret not in said


def test_an_unexpected_exception_stays_with_its_case(corpus: Path, model: Model, tmp_path: Path) -> None:
    entries = [e for e in entries_of(corpus) if e.path.endswith((".png", "polyp.dcm")) and "broken" not in e.path]
    plain = model.segment_image

    def segment(image: MetaTensor, task: str, slice_batch: int | None = None) -> Segmentation:
        if image.meta["filename_or_obj"].endswith(".png"):
            raise KeyError(f"{MARKER} of {image.meta}")
        return plain(image, task, slice_batch)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(model, "segment_image", segment)
        counts = go(model, tmp_path, entries)
    record = records(tmp_path)[f"{MARKER}_photo.png"]
    assert (record["status"], record["code"], record["detail"]) == ("failed", "E_INTERNAL", "KeyError")
    assert counts["failed"] == 1
    assert sum(counts.values()) == len(entries) == 2
    assert exit_status(counts) == 3


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
    ],
)
def test_out_of_memory_is_tried_again_slice_by_slice(
    corpus: Path, model: Model, tmp_path: Path, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    entries = [e for e in entries_of(corpus) if "mr" in e.path]
    plain, batches = model.segment_image, []

    def segment(image: MetaTensor, task: str, slice_batch: int | None = None) -> Segmentation:
        batches.append(slice_batch)
        if slice_batch is None or tight:
            raise error
        return plain(image, task, slice_batch)

    monkeypatch.setattr(model, "segment_image", segment)
    tight = False
    assert go(model, tmp_path / "roomy", entries)["failed"] == 0
    tight = True
    go(model, tmp_path / "tight", entries)
    (record,) = records(tmp_path / "tight").values()
    assert batches == [None, 1, None, 1]
    assert record["code"] == "E_MEMORY"
    assert record.get("files") is None


def test_a_device_that_is_lost_ends_the_run_and_no_case(
    corpus: Path, model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entries = [e for e in entries_of(corpus) if e.path.endswith((".png", ".jpg")) or "mr" in e.path]
    plain, lost, runs = model.segment_image, False, 0

    def segment(image: MetaTensor, task: str, slice_batch: int | None = None) -> Segmentation:
        nonlocal lost, runs
        runs += 1
        lost = lost or runs == 2
        if lost:
            raise RuntimeError("CUDA error: an illegal memory access was encountered")
        return plain(image, task, slice_batch)

    monkeypatch.setattr(model, "segment_image", segment)
    monkeypatch.setattr(case, "device_answers", lambda device: not lost)
    with pytest.raises(DeviceLostError, match=r"Device 'cpu' stopped answering at case .*--resume"):
        go(model, tmp_path, entries)
    assert runs == 2
    assert all(record["detail"] != "RuntimeError" for record in records(tmp_path).values())
    lost, runs = False, 10
    assert go(model, tmp_path, entries, resume=True)["failed"] == 1  # which cannot be read
    assert len(records(tmp_path)) == len(entries)


def test_a_device_answers_or_not(monkeypatch: pytest.MonkeyPatch) -> None:
    assert device_answers(torch.device("cpu"))

    def fails(*args: Any, **kwargs: Any) -> None:
        raise RuntimeError("CUDA error: unspecified launch failure")

    monkeypatch.setattr(torch, "ones", fails)
    assert not device_answers(torch.device("cuda"))


def test_resume_keeps_what_holds_and_makes_again_what_changed(weights: Path, corpus: Path, tmp_path: Path) -> None:
    folder, out, salt = tmp_path / "in", tmp_path / "out", new_salt()
    folder.mkdir()
    for name in ("skin_lesion.dcm", "photo.png", "cut.dcm"):
        shutil.copy(corpus / f"{MARKER}_{name}", folder)
    first, entries = Model(weights, "cpu"), entries_of(folder, salt)
    go(first, out, entries)

    def remade(model: Model, entries: list[Entry]) -> set[str]:
        done = len((out / "events.jsonl").read_text().splitlines())
        go(model, out, entries, resume=True)
        lines = [json.loads(line) for line in (out / "events.jsonl").read_text().splitlines()[done:]]
        events = [line for line in lines if line["event"] == "case"]
        assert len(events) == 3
        names = {entry.case: entry.path.split("_")[1] for entry in read_manifest(out / "manifest.csv")}
        return {names[event["case"]] for event in events if not event["kept"]}

    before, photo = contents(out), folder / f"{MARKER}_photo.png"
    assert known_salt(out) == salt
    assert remade(first, entries) == {"cut.dcm"}  # what failed is tried again
    assert contents(out) == before
    Image.fromarray(255 - np.asarray(Image.open(photo))).save(photo)
    assert remade(first, entries) == {"photo.png", "cut.dcm"}
    other = [replace(e, task="colon_polyp") if "skin" in e.path else e for e in entries]
    assert remade(first, other) == {"skin", "cut.dcm"}
    every = {"skin", "photo.png", "cut.dcm"}
    assert remade(Model(weights, "cpu", Settings(threshold=0.4)), other) == every
    assert remade(Model(write_weights(tmp_path / "other.pt", seed=1), "cpu"), other) == every


def test_results_are_not_mixed_by_accident(done: Path, corpus: Path) -> None:
    with pytest.raises(StudyError, match="--resume"):
        prepare_output(done, entries_of(corpus), "salted", resume=False)


def test_shards_share_an_output_and_leave_no_case_out(corpus: Path, model: Model, tmp_path: Path, done: Path) -> None:
    entries = entries_of(corpus, known_salt(done))
    cases = prepare_output(tmp_path, entries, "salted", False)
    counts = sum((Run(model, tmp_path, f"{i}/3", quiet=True)(cases) for i in (1, 2, 3)), Counter())
    assert sum(counts.values()) == len(entries)
    assert contents(tmp_path) == contents(done)


def test_names_of_sources_are_kept_on_request(corpus: Path, model: Model, tmp_path: Path) -> None:
    go(model, tmp_path, [e for e in entries_of(corpus) if "photo" in e.path], names="source")
    assert (tmp_path / "cases" / f"{MARKER}_photo_skin_lesion" / f"{MARKER}_photo_skin_lesion_mask.png").is_file()


def test_weights_without_the_task_fail_the_case_only(corpus: Path, tmp_path: Path) -> None:
    model = Model(write_weights(tmp_path / "one.pt", tasks=("skin_lesion",)), "cpu")
    entries = [e for e in entries_of(corpus) if "photo" in e.path or "polyp" in e.path]
    go(model, tmp_path / "out", [*entries, replace(entries[0], path="x.png", task=MARKER)])
    found = records(tmp_path / "out")
    assert {path: record["code"] for path, record in found.items()} == {
        f"{MARKER}_photo.png": "",
        f"{MARKER}_colon_polyp.dcm": "E_TASK",
        "x.png": "E_TASK",
    }
    assert found["x.png"]["task"] == ""


def test_a_case_folder_is_complete_or_absent(tmp_path: Path) -> None:
    def write(name: str, stop: bool = False) -> None:
        with case_folder(tmp_path / "case", "all") as folder:
            (folder / name).write_text(name)
            if stop:
                raise KeyError(name)

    with pytest.raises(KeyError):
        write("half", stop=True)
    assert list(tmp_path.iterdir()) == []
    write("one")
    with pytest.raises(KeyError):
        write("half", stop=True)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["case", "one"]
    write("two")
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["case", "two"]


def test_a_manifest_leads_nowhere_else(corpus: Path, model: Model, tmp_path: Path) -> None:
    photo, outside = corpus / f"{MARKER}_photo.png", tmp_path / "root"
    outside.mkdir()
    shutil.copy(photo, tmp_path / "secret.png")
    shutil.copy(photo, outside / "own.png")
    paths = ("own.png", "../secret.png", str(photo))
    (outside / "m.csv").write_text("path,task\n" + "".join(f"{path},skin_lesion\n" for path in paths))
    go(model, tmp_path / "out", read_manifest(outside / "m.csv"))
    codes = {path: record["code"] for path, record in records(tmp_path / "out").items()}
    assert codes == {"own.png": "", "../secret.png": "E_OUTSIDE", str(photo): "E_OUTSIDE"}
