"""A writer that fails leaves what was there, nothing half, and one error of the system that names the file."""

from __future__ import annotations

import ast
import errno
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image

from monai_tpseg.catalogue import get_task
from monai_tpseg.cli.main import main
from monai_tpseg.files import check_folder, complete, threads_in_one_line, write_atomically
from monai_tpseg.label_app.mask_format import in_asked_format
from monai_tpseg.networks import tpseg_hiera
from monai_tpseg.networks.export import Format, export_task
from monai_tpseg.networks.weights_info import WeightsInfo, save_weights
from monai_tpseg.results.label_maps import _write_seg_nrrd
from monai_tpseg.trust.fitted_files import ContourFile, Fitted, trust_path, write_contours, write_fitted
from monai_tpseg.trust.quality import DiceModel
from monai_tpseg.weights.pack import pack
from tests.full_disc import largest_file

PACKAGE = Path(__file__).resolve().parents[1] / "monai_tpseg"


def refused(write: Callable[[], object], path: Path, size: int) -> None:
    """Write where there is no room, beside what was there before."""
    before = {file: file.read_bytes() for file in path.parent.iterdir()}
    with largest_file(size), pytest.raises(OSError, match="File too large") as caught:
        write()
    assert (caught.value.errno, caught.value.filename) == (errno.EFBIG, str(path))
    assert {file: file.read_bytes() for file in path.parent.iterdir()} == before


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path: Path = tmp_path_factory.mktemp("weights") / "model.pt"
    net = tpseg_hiera("hiera_demo", 1, freeze_encoder=False)
    save_weights(path, net.state_dict(), WeightsInfo(("wet_amd",), {"backbone": "hiera_demo"}, (32, 32)))
    return path


def test_packed_weights_stay_where_there_is_no_room_for_new_ones(weights: Path, tmp_path: Path) -> None:
    pack(weights, tmp_path, "mine", {})
    refused(lambda: pack(weights, tmp_path, "mine", {}, replace_old=True), tmp_path / "mine.safetensors", 100_000)


def test_estimates_and_thresholds_stay_where_there_is_no_room_for_new_ones(tmp_path: Path) -> None:
    some = np.ones(50)
    fitted = Fitted(None, DiceModel(some, some, some, some, some, some, some))
    write_fitted(tmp_path / "w.pt", "a" * 64, fitted)
    refused(lambda: write_fitted(tmp_path / "w.pt", "b" * 64, fitted), trust_path(tmp_path / "w.pt"), 100)
    path = write_contours(tmp_path / "w.pt", "a" * 64, ContourFile(0.1, 0.1, {}))
    refused(lambda: write_contours(tmp_path / "w.pt", "b" * 64, ContourFile(0.1, 0.1, {})), path, 20)


@pytest.mark.parametrize("file_format", ["torchscript", "onnx", "program"])
def test_an_export_stays_where_there_is_no_room_for_a_new_one(tmp_path: Path, file_format: Format) -> None:
    """PyTorch's own writer ends the whole process there."""
    path = tmp_path / "task.file"
    path.write_bytes(b"an earlier one")
    net = tpseg_hiera("hiera_demo", 1, freeze_encoder=False).eval()
    refused(lambda: export_task(net, 0, path, file_format, (32, 32)), path, 100_000)


@pytest.mark.parametrize("missing", [1, 8, 4096])
def test_a_segmentation_whose_last_bytes_find_no_room_is_no_success(tmp_path: Path, missing: int) -> None:
    """ITK ignores what closing a packed NRRD says: it called a file whole whose last bytes were not there."""
    path, task = tmp_path / "a.seg.nrrd", get_task("lung_infection")
    labels = np.random.default_rng(0).integers(0, 2, (64, 64, 16)).astype(np.uint8)
    _write_seg_nrrd(path, labels, np.eye(4), task)
    refused(lambda: _write_seg_nrrd(path, labels, np.eye(4), task), path, path.stat().st_size - missing)


@pytest.mark.parametrize("suffix", [".nrrd", ".nii.gz", ".nii"])
@pytest.mark.parametrize("packed", [True, False])
def test_a_mask_for_a_viewer_whose_last_bytes_find_no_room_is_no_success(
    tmp_path: Path, suffix: str, packed: bool
) -> None:
    mask = nibabel.Nifti1Image(np.random.default_rng(0).integers(0, 2, (64, 64, 16)).astype(np.uint8), np.eye(4))
    asked = {"result_extension": suffix, "result_compress": packed}
    (tmp_path / "whole").mkdir()
    for folder in (tmp_path, tmp_path / "whole"):
        nibabel.save(mask, folder / "mask.nii.gz")
    whole = in_asked_format(tmp_path / "whole" / "mask.nii.gz", asked).stat().st_size
    with largest_file(whole - 1), pytest.raises(OSError, match="File too large") as caught:
        in_asked_format(tmp_path / "mask.nii.gz", asked)
    assert caught.value.filename == str(tmp_path / f"mask_asked{suffix}")
    assert {path.name for path in tmp_path.iterdir()} == {"mask.nii.gz", "whole"}


def test_a_folder_without_room_is_refused_before_the_work(tmp_path: Path) -> None:
    said = r"^'out' cannot be written \(File too large\); choose another --output_dir\.$"
    with largest_file(1000), pytest.raises(OSError, match=said):
        check_folder(tmp_path, "out", "--output_dir")
    assert list(tmp_path.iterdir()) == []


def test_a_thread_without_room_says_one_line(caplog: pytest.LogCaptureFixture) -> None:
    """Threads of pynetdicom and TensorBoard write; Python prints the traceback of one that ends with an error."""
    told: list[type[BaseException]] = []

    def ends(error: Exception) -> None:
        raise error

    before, threading.excepthook = threading.excepthook, lambda args: told.append(args.exc_type)
    try:
        with threads_in_one_line():
            for error in (OSError(errno.ENOSPC, "No space left on device", "a"), ValueError("its own")):
                thread = threading.Thread(target=ends, args=(error,))
                thread.start()
                thread.join()
    finally:
        threading.excepthook = before
    assert caplog.messages == ["Cannot write 'a': No space left on device."]
    assert told == [ValueError]


@pytest.mark.parametrize(
    ("number", "way"),
    [
        (errno.ENOSPC, "free some space, then repeat the command."),
        (errno.EDQUOT, "free some space, then repeat the command."),
        (errno.EROFS, "choose a place that can be written."),
        (errno.ENOTDIR, "a file lies where a folder is needed: choose another place."),
    ],
)
def test_the_command_says_the_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], number: int, way: str
) -> None:
    """What the system answers where a file is made cannot be had without mounting: only its number is made up."""
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "a.png")

    def refuses(_source: object, target: object) -> None:
        raise OSError(number, os.strerror(number), _source, None, target)

    monkeypatch.setattr(os, "replace", refuses)
    assert main(["scan", str(tmp_path / "a.png"), "--out", str(tmp_path / "m.csv"), "--quiet"]) == 1
    assert capsys.readouterr().err == f"Error: '{tmp_path / 'm.csv'}': {os.strerror(number)}; {way}\n"
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


def test_a_file_in_place_of_a_folder_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "a.png")
    assert main(["scan", str(tmp_path / "a.png"), "--out", str(tmp_path / "a.png" / "x" / "m.csv"), "--quiet"]) == 1
    assert "a file lies where a folder is needed: choose another place." in capsys.readouterr().err


def test_errors_of_a_writer_itself_are_not_taken_for_a_full_disc(tmp_path: Path) -> None:
    def fails(kind: type[Exception]) -> None:
        with complete(tmp_path / "x") as part:
            part.write_bytes(b"half")
            raise kind("its own")

    for kind in (ValueError, RuntimeError, KeyError):
        with pytest.raises(kind, match="its own"):
            fails(kind)
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_refuses_is_named_as_it_was_given(tmp_path: Path) -> None:
    """Also where removing the temporary file is refused, as on a disc that is read-only."""
    with pytest.raises(OSError, match=r"/proc/x\.json") as caught:
        write_atomically("/proc/x.json", b"{}")
    assert caught.value.filename == "/proc/x.json"
    folder = tmp_path / "kept"

    def vanishes() -> None:
        with complete(folder / "x.json"):
            folder.rmdir()
            folder.write_text("no folder any more: nothing below it can be removed")
            raise OSError(errno.EROFS, "Read-only file system")

    with pytest.raises(OSError, match="Read-only") as caught:
        vanishes()
    assert caught.value.filename == str(folder / "x.json")


WRITERS = {"write_text", "write_bytes", "savefig", "save_file", "WriteImage", "save_as", "dcmwrite", "tofile"}
ELSEWHERE = {
    "annotate/session/journal.py": "appends lines, and cuts one that was not written whole",
    "annotate/web/workspace.py": "what was uploaded, in a temporary folder",
    "experiments/runner.py": "appends to a log",
    "handlers/gates.py": "writes to memory",
    "io/dicom/explicit_vr.py": "writes to where it is told, a temporary name",
    "io/dicom/gdcm.py": "writes to memory",
    "networks/checkpoint.py": "writes to a temporary name",
    "networks/export.py": "writes to a temporary name",
    "pacs/query_retrieve.py": "writes to a temporary name",
    "studies/events.py": "appends lines",
    "studies/slides.py": "in the temporary folder of a case",
    "testing/phantoms/dicom.py": "sample data",
    "testing/phantoms/studies.py": "sample data",
    "testing/phantoms/write.py": "sample data",
}
"""Files that write without `complete` or `write_atomically` around the call, and why that is right."""


def _writes(call: ast.AST) -> bool:
    if not isinstance(call, ast.Call):
        return False
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    modes = [
        one.value for one in (*call.args, *(word.value for word in call.keywords)) if isinstance(one, ast.Constant)
    ]
    if name in ("open", "fdopen"):
        return any(isinstance(mode, str) and mode.strip("bt+") in ("w", "a", "x") for mode in modes)
    of = call.func.value if isinstance(call.func, ast.Attribute) else None
    return name in WRITERS or (name == "save" and isinstance(of, ast.Name) and of.id in ("torch", "nib", "nibabel"))


def _bare_writers(tree: ast.AST, safe: bool = False) -> Iterator[ast.AST]:
    """Calls that write and lie in no block of `complete`."""
    if isinstance(tree, ast.With):
        safe = safe or any("complete(" in ast.unparse(item.context_expr) for item in tree.items)
    if _writes(tree) and not safe:
        yield tree
    for child in ast.iter_child_nodes(tree):
        yield from _bare_writers(child, safe)


def test_files_are_written_in_one_way() -> None:
    found = {
        path.relative_to(PACKAGE).as_posix(): [ast.unparse(call) for call in _bare_writers(ast.parse(path.read_text()))]
        for path in sorted(PACKAGE.rglob("*.py"))
        if path.name != "files.py"
    }
    bare = {path: calls for path, calls in found.items() if calls}
    assert set(bare) == set(ELSEWHERE), {path: bare.get(path) for path in set(bare) ^ set(ELSEWHERE)}
