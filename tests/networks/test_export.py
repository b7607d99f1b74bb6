"""Exported files run without the package's classes, at sizes and batches that they were not traced at."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from monai_tpseg.cli import main
from monai_tpseg.networks import TPSeg
from monai_tpseg.networks.export import FORMATS, Format, export_task
from monai_tpseg.networks.weights_info import WeightsInfo, save_weights

TASKS = ("skin_lesion", "wet_amd")


@pytest.mark.parametrize("file_format", FORMATS)
def test_written_loaded_and_compared(net: TPSeg, file_format: Format, tmp_path: Path) -> None:
    assert export_task(net, 1, tmp_path / f"task{FORMATS[file_format]}", file_format, (64, 96)) < 1e-4


@torch.no_grad()
def test_the_file_is_of_its_task(net: TPSeg, tmp_path: Path) -> None:
    export_task(net, 1, tmp_path / "task.ts", "torchscript")
    image = torch.randn(2, 3, 64, 96)
    result = torch.jit.load(str(tmp_path / "task.ts"))(image)
    torch.testing.assert_close(result, net(image, 1), atol=2e-4, rtol=1e-3)
    assert not torch.allclose(result, net(image, 0), atol=1e-2)


def test_a_file_that_computes_something_else_is_refused(
    net: TPSeg, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(
        __import__("monai_tpseg.networks.export", fromlist=["_WRITERS"])._WRITERS,
        "onnx",
        lambda one, path, size: lambda image: one(image) + 1.0,
    )
    with pytest.raises(ValueError, match=r"differs from the network by .* not kept"):
        export_task(net, 0, tmp_path / "x.onnx", "onnx")


def test_command(net: TPSeg, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    info = WeightsInfo(tasks=TASKS, network={"backbone": "hiera_demo"}, image_size=(64, 64))
    save_weights(tmp_path / "model.pt", net.state_dict(), info)
    command = ["export", "--checkpoint", str(tmp_path / "model.pt"), "--task", "wet_amd", "--format", "program"]
    assert main([*command, "--out", str(tmp_path / "wet_amd.pt2")]) == 0
    assert "largest difference" in capsys.readouterr().out
    assert main([*command, "--out", str(tmp_path / "no" / "x.pt2")]) == 1
    assert "No folder" in capsys.readouterr().err
    assert main([*command, "--out", str(tmp_path)]) == 1
    assert "is a folder; give a file" in capsys.readouterr().err
    command[4] = "brain_tumor"
    assert main([*command, "--out", str(tmp_path / "x.pt2")]) == 2
    assert "Unknown task 'brain_tumor'; choose one of skin_lesion, wet_amd" in capsys.readouterr().err


def test_unknown_format(net: TPSeg, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="Unknown format 'tflite'; choose one of torchscript, onnx, program"):
        export_task(net, 0, tmp_path / "x", "tflite")  # type: ignore[arg-type]
