"""Weights files: official SAM 2 layout, damage, other variants, descriptions."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from monai_tpseg.networks import build_hiera, tpseg_hiera_demo
from monai_tpseg.networks.checkpoint import CheckpointError, load_weights, read_checkpoint
from monai_tpseg.networks.sam2_trunk import load_sam2_trunk
from monai_tpseg.networks.weights_info import WeightsInfo, read_info, save_weights


def official(path: Path, backbone: str) -> Path:
    """Write a checkpoint in the official SAM 2 layout: trunk, and other parts beside it."""
    trunk = build_hiera(backbone).state_dict()
    model = {f"image_encoder.trunk.{k}": v for k, v in trunk.items()}
    model |= {"image_encoder.neck.convs.0.conv.weight": torch.zeros(2, 2), "no_mem_embed": torch.zeros(1, 1, 256)}
    torch.save({"model": model}, path)
    return path


def test_official_layout_loads_strictly(tmp_path: Path) -> None:
    path = official(tmp_path / "sam2.1_hiera_tiny.pt", "hiera_tiny")
    trunk = build_hiera("hiera_tiny")
    load_sam2_trunk(trunk, path, "hiera_tiny")
    saved = torch.load(path, weights_only=True)["model"]
    assert all(torch.equal(v, saved[f"image_encoder.trunk.{k}"]) for k, v in trunk.state_dict().items())


def one_line(error: pytest.ExceptionInfo[CheckpointError]) -> str:
    assert "\n" not in str(error.value)
    return str(error.value)


def test_wrong_size_names_the_expected_file(tmp_path: Path) -> None:
    path = official(tmp_path / "x.pt", "hiera_tiny")
    with pytest.raises(CheckpointError) as error:
        load_sam2_trunk(build_hiera("hiera_small"), path, "hiera_small")
    assert "missing" in one_line(error)
    assert "sam2.1_hiera_small.pt" in one_line(error)


@pytest.mark.parametrize("content", [{"weights": torch.zeros(3)}, {"model": {"layer.weight": torch.zeros(3)}}])
def test_foreign_file_is_refused_in_one_line(tmp_path: Path, content: dict[str, object]) -> None:
    torch.save(content, tmp_path / "foreign.pt")
    with pytest.raises(CheckpointError) as error:
        load_sam2_trunk(build_hiera("hiera_tiny"), tmp_path / "foreign.pt", "hiera_tiny")
    assert "not an official SAM 2 file" in one_line(error)


def test_missing_file_says_where_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError) as error:
        load_sam2_trunk(build_hiera("hiera_large"), tmp_path / "none.pt", "hiera_large")
    assert "sam2.1_hiera_large.pt" in one_line(error)
    assert "https://" in one_line(error)


@pytest.mark.parametrize("damage", ["truncated", "text", "empty"])
def test_damaged_file_is_one_line(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "model.pt"
    torch.save(tpseg_hiera_demo(1).state_dict(), path)
    data = path.read_bytes()
    path.write_bytes({"truncated": data[: len(data) // 2], "text": b"hello", "empty": b""}[damage])
    with pytest.raises(CheckpointError) as error:
        read_checkpoint(path)
    assert "Cannot read" in one_line(error)


def test_pickled_code_is_refused(tmp_path: Path) -> None:
    torch.save({"w": Path("x")}, tmp_path / "code.pt")
    with pytest.raises(CheckpointError, match="Cannot read"):
        read_checkpoint(tmp_path / "code.pt")


def test_other_number_of_tasks_leaves_the_network_alone(tmp_path: Path) -> None:
    torch.save(tpseg_hiera_demo(2).state_dict(), tmp_path / "two.pt")
    net = tpseg_hiera_demo(3)
    before = {k: v.clone() for k, v in net.state_dict().items()}
    with pytest.raises(CheckpointError, match="of another shape"):
        load_weights(net, tmp_path / "two.pt")
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())


def test_training_state_is_not_taken_for_weights(tmp_path: Path) -> None:
    torch.save({"network": {"a": torch.zeros(1)}, "epoch": 3}, tmp_path / "last.pt")
    with pytest.raises(CheckpointError, match=r"model\.pt, not last\.pt"):
        load_weights(tpseg_hiera_demo(1), tmp_path / "last.pt")


def test_safetensors(tmp_path: Path) -> None:
    net = tpseg_hiera_demo(1)
    save_file({k: v.contiguous() for k, v in net.state_dict().items()}, tmp_path / "model.safetensors")
    other = tpseg_hiera_demo(1)
    load_weights(other, tmp_path / "model.safetensors")
    assert all(torch.equal(value, net.state_dict()[name]) for name, value in other.state_dict().items())


def test_description_round_trip_and_digest(tmp_path: Path) -> None:
    info = WeightsInfo(tasks=("a", "b"), network={"backbone": "hiera_demo"}, image_size=(64, 96))
    written = save_weights(tmp_path / "out" / "model.pt", tpseg_hiera_demo(2).state_dict(), info)
    assert read_info(tmp_path / "out" / "model.pt", verify=True) == written
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["model.json", "model.pt"]
    with (tmp_path / "out" / "model.pt").open("ab") as stream:
        stream.write(b"x")
    with pytest.raises(CheckpointError, match="SHA-256 differs"):
        read_info(tmp_path / "out" / "model.pt", verify=True)


def test_description_missing_or_foreign(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(1)}, tmp_path / "model.pt")
    with pytest.raises(CheckpointError, match=r"expected 'model\.json' beside it"):
        read_info(tmp_path / "model.pt")
    (tmp_path / "model.json").write_text(json.dumps({"tasks": 3}))
    with pytest.raises(CheckpointError, match="not the description"):
        read_info(tmp_path / "model.pt")
    with pytest.raises(CheckpointError, match=r"model\.json' holds no weights; give the \.pt"):
        read_info(tmp_path / "model.json")


@pytest.mark.parametrize("key", ["network", "training", "card"])
def test_a_description_of_the_wrong_shape_is_one_line(key: str, tmp_path: Path) -> None:
    weights = tmp_path / "model.pt"
    options = {"architecture": "tpseg", "backbone": "hiera_demo"}
    save_weights(weights, {"w": torch.zeros(1)}, WeightsInfo(("skin_lesion",), options, (32, 32)))
    assert read_info(weights).network == options
    path = weights.with_suffix(".json")
    path.write_text(json.dumps({**json.loads(path.read_text()), key: 5.5}))
    with pytest.raises(CheckpointError) as error:
        read_info(weights)
    assert f"'{path}' is not the description of a weights file ('{key}' is no object)" in one_line(error)
