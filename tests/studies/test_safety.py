"""Sources that mean harm, through `tpseg run`: each ends with its code, nothing is written outside of OUT."""

from __future__ import annotations

import ast
import gzip
import json
import struct
from pathlib import Path

import pydicom
import pytest
from PIL import Image
from pydicom.fileset import FileSet
from safetensors.torch import save_file

from monai_tpseg.cli import main
from monai_tpseg.files import file_sha256
from monai_tpseg.networks.checkpoint import read_checkpoint
from monai_tpseg.networks.weights_info import info_path
from monai_tpseg.studies import read_manifest
from monai_tpseg.testing.phantoms import make_phantom, make_volume, write_dicom_picture, write_nifti, write_png

ROOT = Path(__file__).resolve().parents[2]


def tree(folder: Path) -> dict[str, bytes]:
    """All files below a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def codes_of(out: Path) -> dict[str, str]:
    """Path in the manifest -> code."""
    names = {entry.case: entry.path for entry in read_manifest(out / "manifest.csv")}
    return {names[path.parent.name]: json.loads(path.read_text())["code"] for path in out.glob("cases/*/result.json")}


def test_a_manifest_and_its_links_lead_nowhere_else(weights: Path, tmp_path: Path) -> None:
    root, secret = tmp_path / "root", tmp_path / "secret"
    root.mkdir()
    secret.mkdir()
    write_png(make_phantom("skin_lesion", 0, 40).image, secret / "a.png")
    write_png(make_phantom("skin_lesion", 1, 40).image, root / "own.png")
    (root / "link.png").symlink_to(secret / "a.png")
    (root / "folder").symlink_to(secret)
    paths = ["own.png", "link.png", "folder/a.png", "../secret/a.png", str(secret / "a.png"), "x/../../secret/b.png"]
    (root / "m.csv").write_text("path,task\n" + "".join(f"{path},skin_lesion\n" for path in paths))
    before, out = tree(tmp_path), tmp_path / "out"
    run = ["run", "--data", str(root / "m.csv"), "--out", str(out), "--checkpoint", str(weights), "--quiet"]
    assert main([*run, "--device", "cpu"]) == 3
    found = codes_of(out)
    assert found.pop("own.png") == ""
    assert set(found.values()) <= {"E_OUTSIDE", "E_NOT_FOUND"}
    assert [found[path] for path in paths[1:5]] == ["E_OUTSIDE"] * 4  # as far as they lead anywhere
    after = tree(tmp_path)
    assert {path: content for path, content in after.items() if not path.startswith("out/")} == before
    assert main(["run", "--data", str(tmp_path / "none.csv"), "--out", str(out), "--checkpoint", str(weights)]) == 1


def test_bombs_end_with_a_code(weights: Path, tmp_path: Path) -> None:
    source, out = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    volume, label = write_nifti(make_volume("brain_tumor", 1, (32, 32, 6)), source / "good.nii.gz")
    label.unlink()
    header = bytearray(gzip.decompress(volume.read_bytes()))
    struct.pack_into("<8h", header, 40, 3, 30000, 30000, 30000, 1, 1, 1, 1)
    (source / "claims.nii.gz").write_bytes(gzip.compress(bytes(header)))
    Image.new("1", (30000, 30000)).save(source / "picture.png")
    assert (source / "picture.png").stat().st_size < 200_000  # of 2.7 GB of pixels
    run = ["run", str(source), "--task", "brain_tumor", "--out", str(out), "--checkpoint", str(weights), "--quiet"]
    assert main([*run, "--device", "cpu"]) == 3
    found = codes_of(out)
    assert found["good.nii.gz"] == ""
    assert {found["claims.nii.gz"], found["picture.png"]} == {"E_TOO_LARGE"}


def test_the_index_of_a_disc_leads_nowhere_else(weights: Path, tmp_path: Path) -> None:
    disc, outside = tmp_path / "disc", tmp_path / "outside.dcm"
    files = FileSet()
    files.add(write_dicom_picture(make_phantom("colon_polyp", 1, 40), tmp_path / "a.dcm"))
    files.write(disc)
    write_dicom_picture(make_phantom("colon_polyp", 2, 40), outside)
    index = pydicom.dcmread(disc / "DICOMDIR")
    for record in index.DirectoryRecordSequence:
        if "ReferencedFileID" in record:
            record.ReferencedFileID = ["..", "outside.dcm"]
    index.save_as(disc / "DICOMDIR")
    run = ["--task", "colon_polyp", "--checkpoint", str(weights), "--device", "cpu", "--quiet"]
    status = main(["run", str(disc / "DICOMDIR"), "--out", str(tmp_path / "out"), *run])
    assert status in (1, 3)
    if status == 3:
        assert set(codes_of(tmp_path / "out").values()) == {"E_OUTSIDE"}
    assert not list(tmp_path.glob("out/cases/*/*_mask*"))


def test_weights_are_read_without_running_code() -> None:
    calls = []
    for file in [*(ROOT / "monai_tpseg").rglob("*.py"), *(ROOT / "benchmarks").rglob("*.py")]:
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("torch.load", "load"):
                options = {option.arg: ast.unparse(option.value) for option in node.keywords}
                calls.append((file.name, ast.unparse(node.func), options.get("weights_only")))
    loads = [call for call in calls if call[1] == "torch.load"]
    assert loads
    assert all(only == "True" for _, _, only in loads), loads


def test_weights_that_would_run_code_are_refused(
    weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import pickle

    class Harm:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return Path.touch, (Path(tmp_path / "harm"),)  # type: ignore[return-value]

    bad = tmp_path / "bad.pt"
    bad.write_bytes(pickle.dumps(Harm()))
    described = json.loads(info_path(weights).read_text())
    info_path(bad).write_text(json.dumps({**described, "sha256": file_sha256(bad)}))
    picture = write_png(make_phantom("skin_lesion", 0, 40).image, tmp_path / "a.png")
    run = ["run", str(picture), "--task", "skin_lesion", "--out", str(tmp_path / "out"), "--device", "cpu"]
    assert main([*run, "--checkpoint", str(bad)]) == 1
    assert capsys.readouterr().err.startswith("Error: ")
    assert not (tmp_path / "harm").exists()


def test_safetensors_give_the_same_masks(weights: Path, tmp_path: Path) -> None:
    other = tmp_path / "model.safetensors"
    save_file(read_checkpoint(weights), other)
    described = json.loads(info_path(weights).read_text())
    info_path(other).write_text(json.dumps({**described, "sha256": file_sha256(other)}))
    picture = write_png(make_phantom("skin_lesion", 0, 40).image, tmp_path / "a.png")
    masks = []
    for n, checkpoint in enumerate((weights, other)):
        out = tmp_path / str(n)
        run = ["run", str(picture), "--task", "skin_lesion", "--out", str(out), "--device", "cpu", "--quiet"]
        assert main([*run, "--checkpoint", str(checkpoint)]) == 0
        (mask,) = out.glob("cases/*/*_mask.png")
        masks.append(mask.read_bytes())
    assert masks[0] == masks[1]
