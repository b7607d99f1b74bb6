"""The `tpseg` command as people call it: help at once, exit statuses, one line for what goes wrong."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from monai_tpseg import __version__
from monai_tpseg.cli import main
from monai_tpseg.report.case_list import collect
from monai_tpseg.testing.phantoms import make_phantom, write_png

from .studies.conftest import write_weights


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights for all tasks."""
    return write_weights(tmp_path_factory.mktemp("weights") / "model.pt")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve pictures."""
    folder = tmp_path_factory.mktemp("pictures")
    for n in range(12):
        write_png(make_phantom("skin_lesion", n, 40).image, folder / f"p{n}.png")
    return folder


def said(capsys: pytest.CaptureFixture[str]) -> str:
    out, err = capsys.readouterr()
    assert out == ""
    return err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--help"], ("COMMAND ...", "\n    experiment", "tpseg run", "tpseg report", "--resume", "exit status")),
        (["run", "--help"], ("--checkpoint", "--read-timeout", "exit status")),
        (["annotate", "--help"], ("--checkpoint", "--no-browser", "--resume", "127.0.0.1")),
        (["--version"], (__version__,)),
    ],
    ids=" ".join,
)
def test_help_needs_no_library_and_teaches(arguments: list[str], words: tuple[str, ...]) -> None:
    code = f"""
import sys, monai_tpseg.cli
try:
    monai_tpseg.cli.main({arguments})
except SystemExit as end:
    assert not end.code
    print(sorted({{"torch", "monai", "numpy", "pydicom", "PIL", "yaml", "jinja2", "scipy"}} & set(sys.modules)))
"""
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert shown.splitlines()[-1] == "[]"
    for word in words:
        assert word in shown


def test_a_picture_waits_for_no_library_of_other_formats(weights: Path, pictures: Path, tmp_path: Path) -> None:
    words = ["run", str(pictures / "p0.png"), "--task", "skin_lesion", "--out", str(tmp_path / "out"), "--quiet"]
    code = f"""
import sys
from monai_tpseg.cli import main
if __name__ == "__main__":
    assert main({[*words, "--checkpoint", str(weights), "--device", "cpu"]}) == 0
    print(sorted({{"SimpleITK", "highdicom", "jinja2", "ray", "uvicorn"}} & set(sys.modules)))
"""
    (tmp_path / "first.py").write_text(code)
    shown = subprocess.run([sys.executable, tmp_path / "first.py"], capture_output=True, text=True, check=True).stdout
    assert shown.splitlines()[-1] == "[]"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "in", "--out", "o", "--checkpoint", "w"], "no default task"),
        (["run", "--out", "o", "--checkpoint", "w"], "either IN"),
        (["run", "in", "--data", "m", "--out", "o", "--checkpoint", "w"], "not both"),
        (["run", "--data", "m", "--task", "wet_amd", "--out", "o", "--checkpoint", "w"], "omit --task"),
        (["run", "in", "--task", "wet_amd", "--shard", "1/2", "--out", "o", "--checkpoint", "w"], "need --data"),
        (["run", "in", "--task", "wet_amd", "--slice-batch", "0", "--out", "o", "--checkpoint", "w"], "1 or more"),
        (["run", "in", "--task", "wet_amd", "--read-timeout", "0", "--out", "o", "--checkpoint", "w"], "more than 0"),
    ],
)
def test_contradictions_are_usage_errors(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main(arguments) == 2
    error = said(capsys)
    assert message in error
    assert error.count("\n") == 1


def test_an_unknown_task_is_a_usage_error(weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "in", "--task", "lung", "--out", "o", "--checkpoint", str(weights)]) == 2
    error = said(capsys)
    assert "lung_infection" in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "meant"),
    [
        (["run", "in", "--task", "skin_leson", "--checkpoint", "W"], "skin_lesion"),
        (["run", "in", "--tasks", "wet_amd,brest_lesion", "--checkpoint", "W"], "breast_lesion"),
        (
            ["prepare", "folders", "--images", "in", "--masks", "x", "--task", "skin_leson", "--out", "o"],
            "skin_lesion",
        ),
        (["check", "--data", "in", "--tasks", "wet_adm"], "wet_amd"),
        (["train", "--data", "in", "--task", "skin_leson", "--out", "o", "--checkpoint", "W"], "skin_lesion"),
        (["export", "--checkpoint", "W", "--task", "lung_infecton", "--out", "o.onnx"], "lung_infection"),
        (["new-task", "m", "--checkpoint", "W", "--modality", "ctt", "--exemplars", "in", "--out", "o.pt"], "ct"),
        (["runn", "in"], "run"),
        (["run", "in", "--task", "wet_amd", "--precison", "bf16"], "--precision"),
        (["run", "in", "--task", "wet_amd", "--precision", "bf61"], "bf16"),
        (["prepare", "foldrs"], "folders"),
    ],
    ids=lambda value: " ".join(value[:4]) if isinstance(value, list) else value,
)
def test_what_is_mistyped_is_answered_with_what_was_meant(
    arguments: list[str],
    meant: str,
    weights: Path,
    pictures: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(pictures, "in/images")
    shutil.copytree(pictures, "in/masks")
    assert main([str(weights) if word == "W" else word for word in arguments]) in (1, 2)
    assert f"did you mean {meant}?" in said(capsys)
    assert not Path("o/model.pt").exists()
    assert not Path("o.pt").exists()


def test_what_cannot_run_ends_with_one_line(
    weights: Path, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, task = str(tmp_path / "out"), ["--task", "skin_lesion"]
    damaged = tmp_path / "model.pt"
    shutil.copy(weights.with_suffix(".json"), tmp_path)
    damaged.write_bytes(weights.read_bytes()[:-1])
    for arguments in (
        ["run", str(tmp_path / "absent"), *task, "--out", out, "--checkpoint", str(weights)],
        ["run", str(pictures), *task, "--out", out, "--checkpoint", str(tmp_path / "absent.pt")],
        ["run", str(pictures), *task, "--out", out, "--checkpoint", str(damaged)],
        ["run", "--data", str(tmp_path / "m.csv"), "--out", out, "--checkpoint", str(weights)],
        ["report", out],
    ):
        assert main(arguments) == 1, arguments
        error = said(capsys)
        assert error.startswith("Error: ")
        assert error.count("\n") == 1
    assert not Path(out).exists()


def test_scan_run_report(weights: Path, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manifest, out = tmp_path / "manifest.csv", tmp_path / "out"
    assert main(["scan", str(pictures), "--out", str(manifest), "--quiet"]) == 0
    lines = manifest.read_text().splitlines()
    named = [line.replace(".png,,,", ".png,,skin_lesion,") for line in lines[:3]]
    manifest.write_text("\n".join([*named, lines[3]]) + "\n")
    run = ["run", "--data", str(manifest), "--out", str(out), "--checkpoint", str(weights), "--device", "cpu"]
    assert main([*run, "--quiet"]) == 3
    tables = {name: (out / name).read_bytes() for name in ("cases.csv", "lesions.csv")}
    assert [line.split(",")[0] for line in tables["cases.csv"].decode().splitlines()[1:]] == [
        case.record["case"] for case in collect(out)
    ]
    assert main(["report", str(out), "--quiet"]) == 0
    assert said(capsys) == ""
    assert tables == {name: (out / name).read_bytes() for name in tables}
    assert sorted(path.name for path in out.iterdir()) == [
        *("cases", "cases.csv", "events.jsonl", "lesions.csv", "manifest.csv", "report.html"),
    ]
    assert main([*run, "--resume"]) == 3
    assert "1 skipped" in said(capsys)
    assert main(["run", "--data", str(manifest), "--out", str(out), "--checkpoint", str(weights)]) == 1
