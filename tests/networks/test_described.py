"""A network says what built it, and weights bring the network that they are of."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from monai_tpseg.networks import (
    TaskNetwork,
    build_described,
    build_network,
    build_peer,
    describe,
    kprism_demo,
    tpseg_hiera,
    tpseg_hiera_demo,
)
from monai_tpseg.networks.checkpoint import CheckpointError
from monai_tpseg.networks.weights_info import WeightsInfo, save_weights

NETWORKS: dict[str, dict[str, Any]] = {
    "tpseg": {"backbone": "hiera_demo", "reinforcement": 2.5, "bottleneck": 8},
    "released": {"backbone": "hiera_demo", "layout": "released"},
    "ablation": {"backbone": "hiera_demo", "adapter": "lora", "without_pgtd": [1]},
    "u-shaped": {"backbone": "hiera_demo", "decoder": "unet", "channels": (8, 8, 16)},
    "from scratch": {"backbone": "hiera_mini", "stem": "conv", "detail": 16},
    "kprism": {"architecture": "kprism", "backbone": "utnet_demo", "num_layers": 4, "width": 16},
    "peer": {"architecture": "unet", "width": 4},
}


def shapes(net: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in net.state_dict().items()}


@pytest.mark.parametrize("options", NETWORKS.values(), ids=NETWORKS)
def test_a_network_is_built_again_from_what_it_says(options: dict[str, Any]) -> None:
    net = build_network(num_tasks=2, image_size=64, task_names=("liver", "wet_amd"), **options)
    told = json.loads(json.dumps(describe(net)))
    assert shapes(build_network(**told)) == shapes(net)
    assert {key: told[key] for key in options} == {
        key: list(value) if isinstance(value, tuple) else value for key, value in options.items()
    }
    if isinstance(net, TaskNetwork):
        assert (told["num_tasks"], told["task_names"]) == (2, ["liver", "wet_amd"])


def test_every_builder_keeps_its_arguments() -> None:
    assert describe(tpseg_hiera("hiera_demo", 3)) == describe(build_network("tpseg", 3, backbone="hiera_demo"))
    assert describe(kprism_demo(3))["backbone"] == "utnet_demo"
    assert describe(build_peer("unet", (64, 96), 4)) == {"architecture": "unet", "image_size": [64, 96], "width": 4}


def test_freezing_is_no_part_of_it() -> None:
    frozen, trained = (tpseg_hiera("hiera_demo", 2, freeze_encoder=flag) for flag in (True, False))
    assert describe(frozen) == describe(trained)


def test_a_network_put_together_by_hand_does_not_know() -> None:
    with pytest.raises(ValueError, match="Conv2d has no description; build it with build_network"):
        describe(nn.Conv2d(3, 1, 1))


def written(folder: Path, net: nn.Module, tasks: int) -> Path:
    told = describe(net)
    network = {key: value for key, value in told.items() if key not in ("num_tasks", "task_names", "image_size")}
    names = tuple(f"task{row}" for row in range(tasks))
    save_weights(folder / "model.pt", net.state_dict(), WeightsInfo(names, network, (64, 64)))
    return folder / "model.pt"


@pytest.mark.parametrize("options", NETWORKS.values(), ids=NETWORKS)
def test_weights_bring_their_network(options: dict[str, Any], tmp_path: Path) -> None:
    net = build_network(num_tasks=2, image_size=64, **options)
    with torch.no_grad():
        for p in net.parameters():
            p.add_(0.1 * torch.randn_like(p))
    again = build_described(written(tmp_path, net, 2))
    assert not again.training
    expected = net.state_dict()
    assert set(again.state_dict()) == set(expected)
    assert all(torch.equal(value, expected[name]) for name, value in again.state_dict().items())


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    net = tpseg_hiera_demo(2)
    path = written(tmp_path, net, 2)
    described = json.loads(path.with_suffix(".json").read_text())
    path.with_suffix(".json").write_text(json.dumps({**described, "network": {**described["network"], "detail": 16}}))
    with pytest.raises(CheckpointError) as error:
        build_described(path)
    assert "\n" not in str(error.value)
    info = WeightsInfo(("a", "b"), {"architecture": "tpseg", "backbone": "hiera_demo", "flavour": 1}, (64, 64))
    save_weights(path, net.state_dict(), info)
    with pytest.raises(CheckpointError, match=r"cannot build \(.*flavour.*\); update it"):
        build_described(path)
