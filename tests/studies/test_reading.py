"""Reading apart: equal to reading here, ahead of the network, and never the end of a run."""

from __future__ import annotations

import errno
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import torch
from pydicom.uid import SecondaryCaptureImageStorage

from monai_tpseg.io import ReadError
from monai_tpseg.results import StudyError
from monai_tpseg.studies import Limits, Model, Reader, Run, case, exit_status, find_entries, prepare_output
from monai_tpseg.subprocesses import available_memory
from monai_tpseg.testing.phantoms import make_phantom, make_volume, write_dicom_series, write_png
from monai_tpseg.transforms import LoadMedicalImage

from .conftest import MARKER

FALL = "tests.studies.conftest:read_or_fall"


@pytest.fixture(scope="module")
def reader() -> Iterator[Reader]:
    """One reading process."""
    one = Reader()
    yield one
    one.close()


def pictures(folder: Path, *names: str) -> Path:
    folder.mkdir()
    for n, name in enumerate(names):
        write_png(make_phantom("skin_lesion", n, 40).image, folder / name)
    return folder


@pytest.mark.parametrize("name", ["ct/series", "mr.nii.gz", "photo.png", "thyroid_nodule.dcm"])
def test_an_image_is_the_same_as_read_here(corpus: Path, reader: Reader, name: str) -> None:
    source = corpus / f"{MARKER}_{name}"
    there, here = reader.get(source), LoadMedicalImage()(source)
    assert there.image is not None
    assert torch.equal(there.image.as_tensor(), here.as_tensor())
    assert there.image.is_contiguous()
    assert set(there.image.meta) == set(here.meta)
    for key, value in here.meta.items():
        np.testing.assert_array_equal(np.asarray(there.image.meta[key]), np.asarray(value), key)
    assert there.seconds > 0


def test_a_refusal_comes_with_its_code(corpus: Path, reader: Reader) -> None:
    error = reader.get(corpus / f"{MARKER}_cut.dcm").error
    assert isinstance(error, ReadError)
    assert error.code == "E_TRUNCATED"


@pytest.mark.parametrize("readers", [1, 2, 3])
def test_sources_are_asked_for_ahead_and_come_in_order(tmp_path: Path, readers: int) -> None:
    folder = pictures(tmp_path / "in", *(f"{n}.png" for n in range(5)))
    sources = [*sorted(folder.iterdir()), None]
    seen = []

    def looked_at() -> Iterator[Path | None]:
        for source in sources:
            seen.append(source)
            yield source

    reader, got = Reader(Limits(readers=readers)), []
    for source, read in reader.in_order(looked_at(), lambda source: source):
        assert len(seen) == min(len(got) + 1 + readers, len(sources))  # the next ones are on their way
        got.append(source)
        assert (read is None) == (source is None)
        if read is not None and read.image is not None:
            assert read.image.meta["filename_or_obj"] == str(source)
    assert got == sources
    reader.close()


def test_what_was_asked_for_in_vain_is_given_up(tmp_path: Path) -> None:
    folder = pictures(tmp_path / "in", "a.png", "b.png")
    reader = Reader()
    reader.ask(folder / "a.png")
    read = reader.get(folder / "b.png")
    assert read.image is not None
    assert read.image.meta["filename_or_obj"].endswith("b.png")
    reader.close()


def test_a_source_that_ends_its_process_once_is_read_the_second_time(tmp_path: Path) -> None:
    folder = pictures(tmp_path / "in", "stumble.png")
    reader = Reader(target=FALL)
    assert reader.get(folder / "stumble.png").image is not None
    reader.close()


def test_a_crash_a_hang_and_a_glutton_cost_one_case_each(model: Model, tmp_path: Path) -> None:
    names = ("a.png", "b_crash.png", "c.png", "d_hang.png", "e.png", "f_eat.png", "g.png")
    folder, out = pictures(tmp_path / "in", *names), tmp_path / "out"
    entries = find_entries(folder, "skin_lesion")
    run = Run(model, out, quiet=True, reader=Reader(Limits(seconds=3.0, readers=2), target=FALL))
    counts = run(prepare_output(out, entries, "source", False))
    records = {path.parent.name: json.loads(path.read_text()) for path in out.glob("cases/*/result.json")}
    assert {name: record["code"] for name, record in records.items()} == {
        **dict.fromkeys((f"{name}_skin_lesion" for name in "aceg"), ""),
        "b_crash_skin_lesion": "E_CRASH",
        "d_hang_skin_lesion": "E_TIMEOUT",
        "f_eat_skin_lesion": "E_MEMORY",
    }
    assert all(record["next_action"] for record in records.values() if record["code"])
    assert (counts["failed"], sum(counts.values()), exit_status(counts)) == (3, 7, 3)


def test_memory_that_runs_out_while_reading_is_a_refusal(tmp_path: Path) -> None:
    wide = write_png(np.zeros((6000, 6000, 3), np.uint8), tmp_path / "wide.png")
    reader = Reader(Limits(memory=0.125))
    error = reader.get(wide).error
    assert isinstance(error, ReadError)
    assert error.code == "E_TOO_LARGE"
    assert reader.get(pictures(tmp_path / "in", "a.png") / "a.png").image is not None
    reader.close()


def test_a_picture_of_a_screen_is_skipped_until_it_is_allowed(corpus: Path, model: Model, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    header = pydicom.dcmread(corpus / f"{MARKER}_colon_polyp.dcm")
    header.SOPClassUID = header.file_meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    header.save_as(tmp_path / "in" / "screen.dcm")
    cases = prepare_output(tmp_path / "out", find_entries(tmp_path / "in", "colon_polyp"), "source", False)
    record = tmp_path / "out" / "cases" / "in_colon_polyp" / "result.json"  # the folder is the case
    assert Run(model, tmp_path / "out", quiet=True, reader=Reader(screenshots=False))(cases)["skipped"] == 1
    assert json.loads(record.read_text())["code"] == "S_SCREENSHOT"
    assert "--allow-secondary-capture" in json.loads(record.read_text())["next_action"]
    assert Run(model, tmp_path / "out", resume=True, quiet=True)(cases)["skipped"] == 0


def test_slices_at_unequal_distances_are_segmented_and_need_a_review(model: Model, tmp_path: Path) -> None:
    series = write_dicom_series(make_volume("lung_infection", 1, (32, 32, 8)), tmp_path / "in" / "series")
    next(file for file in series.iterdir() if pydicom.dcmread(file).InstanceNumber == 4).unlink()
    counts = Run(model, tmp_path / "out", quiet=True)(
        prepare_output(tmp_path / "out", find_entries(tmp_path / "in", "lung_infection"), "source", False)
    )
    record = json.loads((tmp_path / "out" / "cases" / "series_lung_infection" / "result.json").read_text())
    assert counts["review"] == 1
    assert "slice_gap" in record["flags"]


def test_a_full_disc_stops_the_run_and_leaves_nothing_half(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, out = pictures(tmp_path / "in", "a.png", "b.png", "c.png"), tmp_path / "out"
    cases = prepare_output(out, find_entries(folder, "skin_lesion"), "source", False)
    plain = case.write_segmented

    def write(found: Any, task: str, name: str, *more: Any) -> Any:
        if name == "b" and full:
            (more[0] / "half").write_bytes(b"half")
            raise OSError(full, "as the system says it")
        return plain(found, task, name, *more)

    monkeypatch.setattr(case, "write_segmented", write)
    full = errno.ENOSPC
    with pytest.raises(StudyError, match=r"full or read-only.*--resume"):
        Run(model, out, quiet=True)(cases)
    assert [path.name for path in (out / "cases").iterdir()] == ["a_skin_lesion"]
    assert json.loads((out / "events.jsonl").read_text().splitlines()[-1])["complete"] is False
    full = errno.EIO  # one file that cannot be written is the business of its case
    counts = Run(model, out, resume=True, quiet=True)(cases)
    assert (counts["failed"], sum(counts.values())) == (1, 3)
    assert [path.name for path in (out / "cases" / "b_skin_lesion").iterdir()] == ["result.json"]
    assert json.loads((out / "cases" / "b_skin_lesion" / "result.json").read_text())["code"] == "E_WRITE"
    full = 0
    assert Run(model, out, resume=True, quiet=True)(cases)["failed"] == 0


def test_an_output_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StudyError, match="cannot be written"):
        prepare_output(tmp_path / "file" / "out", [], "salted", False)


@pytest.mark.parametrize(
    "limits",
    [{name: value} for name in ("seconds", "memory") for value in (-1.0, math.nan, math.inf, 1e99)]
    + [{"seconds": 0}, {"readers": 0}, {"readers": 10**10}],
    ids=str,
)
def test_limits_that_make_no_sense_are_named(limits: dict[str, float]) -> None:
    with pytest.raises(StudyError, match="must be"):
        Limits(**limits)  # type: ignore[arg-type]


def test_half_of_the_memory_is_divided_among_the_readers() -> None:
    assert Limits(readers=1).bytes == max(available_memory() // 2, 2**30)
    assert Limits(readers=4).bytes == max(available_memory() // 8, 2**30)
    assert Limits(memory=2).bytes == 2**31
