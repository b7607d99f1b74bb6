"""Folders and headers are looked at in a process that may be ended, and each DICOM file is opened three times a run."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import struct
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.uid import BasicTextSRStorage

from monai_tpseg.cli import main
from monai_tpseg.cli.run import check_exists
from monai_tpseg.io import file_access, headers
from monai_tpseg.io.probing import IsolatedFileAccess
from monai_tpseg.studies import read_manifest, scan
from monai_tpseg.testing.phantoms import make_phantom, make_volume, write_dicom_picture, write_dicom_series, write_png

_OPEN, _CLOSED = 0x20, 0x18  # IN_OPEN; IN_CLOSE_WRITE and IN_CLOSE_NOWRITE


@contextmanager
def opens_of(folder: Path) -> Iterator[Counter[str]]:
    """Count how often any process opens each file of `folder`."""
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor = libc.inotify_init1(0)
    # closing is watched too: the kernel makes one of two equal events in a row
    assert libc.inotify_add_watch(descriptor, os.fsencode(folder), _OPEN | _CLOSED) >= 0
    counts: Counter[str] = Counter()

    def count() -> None:
        while True:
            data, place = os.read(descriptor, 2**16), 0
            while place < len(data):
                _, mask, _, length = struct.unpack_from("iIII", data, place)
                name = data[place + 16 : place + 16 + length].rstrip(b"\0").decode()
                place += 16 + length
                if name == ".end":
                    return
                counts[name] += bool(mask & _OPEN) and bool(name)

    reader = threading.Thread(target=count, daemon=True)
    reader.start()
    try:
        yield counts
    finally:
        (folder / ".end").touch()
        reader.join()
        os.close(descriptor)
        (folder / ".end").unlink()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="inotify counts")
@pytest.mark.parametrize("mixed", [False, True])
def test_a_run_opens_each_dicom_file_three_times(weights: Path, tmp_path: Path, mixed: bool) -> None:
    folder = write_dicom_series(make_volume("lung_infection", 1, (32, 32, 7)), tmp_path / "in")
    if mixed:
        more = write_dicom_series(make_volume("lung_infection", 2, (32, 32, 6)), tmp_path / "more", 2)
        for path in more.iterdir():
            path.rename(folder / f"more{path.name}")
    files = {path.name for path in folder.iterdir()}
    run = ["run", str(folder), "--task", "lung_infection", "--out", str(tmp_path / "out"), "--checkpoint", str(weights)]
    with opens_of(folder) as counts:
        assert main([*run, "--device", "cpu", "--quiet", "--threshold", "0.01"]) == 0
    assert set(+counts) - {".end"} == files
    assert max(counts.values()) <= 3
    assert len(list(tmp_path.glob("out/cases/*/*_seg.dcm"))) == 1 + mixed  # headers reached the segmentation


def slow(what: str, *arguments: object) -> object:
    """Answer as usual, but for what is called so; in a process apart."""
    names = [str(path) for argument in arguments for path in (argument if isinstance(argument, list) else [argument])]
    if any("hang" in Path(name).name for name in names) and what in ("headers", "place"):
        threading.Event().wait()
    return file_access.answer(what, *arguments)


def test_what_does_not_answer_costs_itself_and_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("a.png", "hang1.png", "z.png"):
        write_png(make_phantom("skin_lesion", len(name), 40).image, tmp_path / name)
    monkeypatch.setattr("monai_tpseg.io.probing.ANSWER", f"{__name__}:slow")
    with IsolatedFileAccess(1.0) as access:
        found = {entry.path: entry.note for entry in scan(tmp_path, access)}
    assert set(found) == {"a.png", "hang1.png", "z.png"}
    assert found["hang1.png"] == "it took too long to read its header"
    assert caplog.text.count("did not answer within 1 s") == 1


def test_a_scan_counts_and_shows_what_it_leaves_out(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "in").mkdir()
    write_png(make_phantom("skin_lesion", 1, 40).image, tmp_path / "in" / "a\x1b[31m.png")
    (tmp_path / "in" / "b.zip").write_bytes(b"PK")
    os.mkfifo(tmp_path / "in" / "pipe")
    for name in (".a", ".b"):
        (tmp_path / "in" / name).touch()
    assert main(["scan", str(tmp_path / "in"), "--out", str(tmp_path / "m.csv")]) == 0
    said = capfd.readouterr().err
    assert "Left out: 2 hidden files, 1 pipe, 1 zip." in said
    assert "2file" in said.replace(" ", "").replace("files", "file")
    assert main(["scan", str(tmp_path / "in" / "pipe"), "--out", str(tmp_path / "m.csv"), "--quiet"]) == 1
    assert "is a pipe, not a regular file" in capfd.readouterr().err


def test_many_files_of_one_folder_take_little_memory(tmp_path: Path) -> None:
    series = write_dicom_series(make_volume("lung_infection", 1, (32, 32, 6)), tmp_path / "in")
    found = headers.read_header(next(series.iterdir()))
    sizes = [sys.getsizeof(value) for value in found] + [sys.getsizeof(mark) for mark in found.marks]
    assert sum(sizes) + np.dtype(np.float64).itemsize < 6000  # 50,000 files: below 300 MB, and much of it is shared


def test_what_needs_no_task_is_never_asked_for_one(weights: Path, tmp_path: Path) -> None:
    folder, kinds = tmp_path / "in", {"sr": ("SR", "E_NOT_IMAGE"), "scout": ("MR", "S_LOCALIZER"), "us": ("US", "")}
    folder.mkdir()
    for name, (modality, _) in kinds.items():
        path = write_dicom_picture(make_phantom("thyroid_nodule", 1, 40), folder / f"{name}.dcm")
        header = pydicom.dcmread(path)
        header.Modality = modality
        header.SOPInstanceUID = header.file_meta.MediaStorageSOPInstanceUID = f"1.2.3.{len(name)}"
        if name == "sr":
            header.SOPClassUID = header.file_meta.MediaStorageSOPClassUID = BasicTextSRStorage
        if name == "scout":
            header.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
        header.save_as(path)
    manifest, out = tmp_path / "m.csv", tmp_path / "out"
    assert main(["scan", str(folder), "--out", str(manifest), "--quiet"]) == 0
    entries = {entry.path: entry for entry in read_manifest(manifest)}
    run = ["run", "--data", str(manifest), "--out", str(out), "--checkpoint", str(weights), "--device", "cpu"]
    assert main([*run, "--quiet"]) == 3
    records = [json.loads(path.read_text()) for path in out.glob("cases/*/result.json")]
    codes = {record["code"]: record["next_action"] for record in records}
    assert set(codes) == {"E_NOT_IMAGE", "S_LOCALIZER", "S_NO_TASK"}
    assert [code for code, action in codes.items() if "task into the manifest" in action] == ["S_NO_TASK"]
    assert {name: entry.task for name, entry in entries.items()} == dict.fromkeys(["sr.dcm", "scout.dcm", "us.dcm"], "")


@pytest.mark.parametrize("command", ["scan", "run"])
def test_a_pipe_that_is_named_is_refused_in_one_line(
    weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    os.mkfifo(tmp_path / "pipe")
    more = ["--task", "skin_lesion", "--checkpoint", str(weights)] if command == "run" else []
    assert main([command, str(tmp_path / "pipe"), "--out", str(tmp_path / "out"), *more]) == 1
    assert capsys.readouterr().err == "Error: pipe is a pipe, not a regular file; give a file or a folder. [E_FORMAT]\n"
    assert not (tmp_path / "out").exists()


def test_an_input_that_hangs_is_named_as_it_was_typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("monai_tpseg.io.probing.ANSWER", f"{__name__}:slow")
    with IsolatedFileAccess(1.0) as access:
        with pytest.raises(ValueError, match=r"'\./hang' does not answer; check its disk"):
            check_exists("./hang", access)
        assert not access.same(tmp_path / "a", tmp_path / "a")  # neither is there
        assert access.same(tmp_path, tmp_path / ".." / tmp_path.name)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="a session of its own, as a terminal makes one")
def test_ctrl_c_ends_a_scan_in_one_line_and_writes_nothing(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    write_png(make_phantom("skin_lesion", 1, 40).image, tmp_path / "in" / "a.png")
    code = (
        "import sys, threading\n"
        "from monai_tpseg.io.probing import IsolatedFileAccess as Access\n"
        "from monai_tpseg.cli import main\n"
        "Access.headers = lambda self, files: (print('begun', flush=True), threading.Event().wait())\n"
        "if __name__ == '__main__':\n"
        "    sys.exit(main(['scan', *sys.argv[1:], '--out', sys.argv[1] + '.csv', '--quiet']))\n"
    )
    (tmp_path / "scan.py").write_text(code)
    for number, status in ((signal.SIGINT, 130), (signal.SIGHUP, 129)):
        command = [sys.executable, str(tmp_path / "scan.py"), str(tmp_path / "in")]
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
        ) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "begun\n"
            os.killpg(process.pid, number)  # a terminal tells all processes, those that look among them
            assert process.communicate()[1] == "Stopped. Nothing was written; repeat the command to start again.\n"
        assert process.returncode == status
    assert [path.name for path in tmp_path.iterdir() if "csv" in path.name] == []
