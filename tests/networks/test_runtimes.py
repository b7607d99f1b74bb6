"""ONNX Runtime and OpenVINO compute what PyTorch computes, task by task, and say what they cannot do."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from monai_tpseg.cli import main
from monai_tpseg.networks import TPSeg, build_network
from monai_tpseg.networks.fast import runtimes
from monai_tpseg.networks.fast.runtimes import RuntimeNetwork, check_runtime
from monai_tpseg.networks.weights_info import WeightsInfo, save_weights
from monai_tpseg.testing.phantoms import make_phantom, write_png

TASKS = ("skin_lesion", "colon_polyp")
CPU = torch.device("cpu")
OTHERS = ("onnxruntime", "openvino")


@pytest.mark.parametrize("runtime", OTHERS)
@torch.no_grad()
def test_logits_are_those_of_the_network(net: TPSeg, runtime: str, tmp_path: Path) -> None:
    other = RuntimeNetwork(net, runtime, "a" * 64, folder=tmp_path)
    image = torch.randn(3, 3, 64, 96)
    rows = torch.tensor([1, 0, 1])
    expected = net(image, rows)
    found = other(image, rows)
    assert found.shape == (3, 1, 64, 96)
    assert float((found - expected).abs().max() / expected.abs().max()) < 1e-4
    assert not torch.allclose(net(image, 0), expected, atol=1e-2)  # the tasks differ, so the rows were obeyed


@torch.no_grad()
def test_a_file_is_made_once_and_found_again_by_its_weights(
    net: TPSeg, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = torch.randn(1, 3, 64, 64)
    first = RuntimeNetwork(net, "onnxruntime", "a" * 64, folder=tmp_path)(image, 1)
    assert [file.name.split("-")[0] for file in tmp_path.iterdir()] == ["a" * 16]
    monkeypatch.setattr(runtimes, "export_task", lambda *_: pytest.fail("made again"))
    assert torch.equal(RuntimeNetwork(net, "onnxruntime", "a" * 64, folder=tmp_path)(image, 1), first)
    with pytest.raises(pytest.fail.Exception, match="made again"):
        RuntimeNetwork(net, "onnxruntime", "b" * 64, folder=tmp_path)(image, 1)


@torch.no_grad()
def test_a_cache_that_cannot_be_written_is_no_obstacle(net: TPSeg, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    other = RuntimeNetwork(net, "onnxruntime", "a" * 64, folder=tmp_path / "file")
    assert other(torch.randn(1, 3, 64, 64), 0).shape == (1, 1, 64, 64)


@pytest.mark.parametrize(
    "damage", [lambda data: b"", lambda data: data[:-9], lambda data: data[:-9] + b"another " + b"x"]
)
@torch.no_grad()
def test_a_file_that_was_changed_is_made_again(net: TPSeg, tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    image = torch.randn(1, 3, 64, 64)
    first = RuntimeNetwork(net, "onnxruntime", "a" * 64, folder=tmp_path)(image, 1)
    (file,) = tmp_path.iterdir()
    whole = file.read_bytes()
    file.write_bytes(damage(whole))
    assert torch.equal(RuntimeNetwork(net, "onnxruntime", "a" * 64, folder=tmp_path)(image, 1), first)
    assert file.read_bytes() == whole  # the same export, so of the same name


@torch.no_grad()
def test_a_full_cache_is_no_obstacle(net: TPSeg, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache, plain = tmp_path / "cache", runtimes.export_task

    def export(*given: Any) -> float:
        if Path(given[2]).parent == cache:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return plain(*given)

    monkeypatch.setattr(runtimes, "export_task", export)
    other = RuntimeNetwork(net, "onnxruntime", "a" * 64, folder=cache)
    assert other(torch.randn(1, 3, 64, 64), 0).shape == (1, 1, 64, 64)
    assert list(cache.iterdir()) == []


def test_what_cannot_run_is_said_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="Unknown runtime 'tvm'; choose one of pytorch, onnxruntime, openvino"):
        check_runtime("tvm", CPU, "fp32")
    with pytest.raises(ValueError, match="is for a CPU, not for cuda"):
        check_runtime("openvino", torch.device("cuda"), "fp32")
    with pytest.raises(ValueError, match="computes in fp32, not in bf16; change --precision"):
        check_runtime("onnxruntime", CPU, "bf16")
    check_runtime("openvino", CPU, "bf16")
    monkeypatch.setattr(runtimes, "find_spec", lambda name: None if name == "openvino" else True)
    with pytest.raises(ValueError, match=r"needs openvino: pip install -e '\.\[openvino\]'"):
        check_runtime("openvino", CPU, "fp32")
    kprism = build_network("kprism", backbone="hiera_demo", num_tasks=2, channels=32, num_layers=3, num_experts=2)
    with pytest.raises(ValueError, match="KPrism runs only in PyTorch; omit --runtime"):
        RuntimeNetwork(kprism, "onnxruntime", "a" * 64)


@pytest.mark.parametrize("runtime", OTHERS)
def test_masks_of_the_command_are_those_of_pytorch(
    net: TPSeg, runtime: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtimes.platformdirs, "user_cache_path", lambda *_, **__: tmp_path / "cache")
    weights = tmp_path / "w.pt"
    save_weights(weights, net.state_dict(), WeightsInfo(TASKS, {"backbone": "hiera_demo"}, (64, 64)))
    picture = tmp_path / "skin.png"
    write_png(make_phantom("skin_lesion", 0, 96).image, picture)
    masks = {}
    for name in ("pytorch", runtime):
        words = ["run", str(picture), "--task", "skin_lesion", "--checkpoint", str(weights), "--device", "cpu"]
        assert (
            main([*words, "--min-lesion-area", "0", "--runtime", name, "--out", str(tmp_path / name), "--quiet"]) == 0
        )
        (folder,) = (tmp_path / name / "cases").iterdir()
        assert json.loads((folder / "result.json").read_text())["provenance"]["config"]["runtime"] == name
        masks[name] = np.asarray(Image.open(next(folder.glob("*_mask.png"))))
    assert 0 < (masks["pytorch"] > 0).mean() < 1
    assert (masks["pytorch"] != masks[runtime]).mean() < 1e-3  # a logit at the threshold may round either way


def test_the_command_says_what_does_not_go_together(
    net: TPSeg, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = tmp_path / "w.pt"
    save_weights(weights, net.state_dict(), WeightsInfo(TASKS, {"backbone": "hiera_demo"}, (64, 64)))
    write_png(make_phantom("skin_lesion", 0, 96).image, tmp_path / "skin.png")
    words = [
        "run",
        str(tmp_path / "skin.png"),
        "--task",
        "skin_lesion",
        "--checkpoint",
        str(weights),
        "--device",
        "cpu",
    ]
    for more, said in ((["--refuse"], "--refuse needs"), (["--precision", "bf16"], "computes in fp32, not in bf16")):
        assert main([*words, *more, "--runtime", "onnxruntime", "--out", str(tmp_path / "out"), "--quiet"]) != 0
        assert said in capsys.readouterr().err
