"""Arithmetic of the blocks against inputs, weights and outputs of the released ones (relative error below 1e-4)."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from monai_tpseg.networks.adapter import TaskAdapter
from monai_tpseg.networks.checkpoint import CheckpointError
from monai_tpseg.networks.decoder import PGTD
from monai_tpseg.networks.layers import RFB
from monai_tpseg.networks.released_layout import convert_released

TOLERANCE = 1e-4


def golden(shared: Path, name: str) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return (arrays, state dict) of one golden file."""
    with np.load(shared / "golden" / f"{name}.npz") as content:
        arrays = {k: torch.from_numpy(np.asarray(content[k])) for k in content.files}
    state = {k.removeprefix("state/"): v for k, v in arrays.items() if k.startswith("state/")}
    return arrays, state


def relative(result: Tensor, expected: Tensor) -> float:
    """Return the largest error relative to the largest value."""
    return float((result - expected).abs().max() / expected.abs().max())


def convert(state: dict[str, Tensor], released: str, ours: str) -> dict[str, Tensor]:
    """Convert the state dict of one block that stands at `released.` to the names below `ours.`."""
    converted = convert_released({f"{released}.{k}": v for k, v in state.items()})
    return {k.removeprefix(f"{ours}."): v for k, v in converted.items() if k.startswith(f"{ours}.")}


@torch.no_grad()
def test_rfb(shared_dir: Path) -> None:
    arrays, state = golden(shared_dir, "rfb")
    block = RFB(12, 8)
    block.load_state_dict(convert(state, "rfb1", "decoder.rfbs.0"))
    assert relative(block(arrays["x"]), arrays["y"]) < TOLERANCE


@torch.no_grad()
def test_adapter_task_route(shared_dir: Path) -> None:
    arrays, state = golden(shared_dir, "adapter_task_route")
    block = TaskAdapter(24, 3, bottleneck=8, routes="task", task_scale=True)
    block.load_state_dict(convert(state, "encoder.blocks.0.adapter", "encoder.adapters.0"))
    assert relative(block(arrays["x"], arrays["task"]), arrays["y"]) < TOLERANCE


@pytest.fixture
def pgtd(shared_dir: Path) -> tuple[PGTD, dict[str, Tensor]]:
    arrays, state = golden(shared_dir, "pgtd")
    block = PGTD(16, 24, 32, num_tasks=3, momentum=float(arrays["momentum"]), released=True)
    block.load_state_dict(convert(state, "pgtd1", "decoder.pgtds.0"))
    return block, arrays


@torch.no_grad()
def test_pgtd_outputs(pgtd: tuple[PGTD, dict[str, Tensor]]) -> None:
    block, arrays = pgtd
    result = block(arrays["x_low"], arrays["x_high"], arrays["task"])
    assert relative(result.encoded, arrays["encoded"]) < TOLERANCE
    assert relative(result.features, arrays["features"]) < TOLERANCE
    assert relative(result.logits, arrays["logits"]) < TOLERANCE


@torch.no_grad()
def test_prototype_update(pgtd: tuple[PGTD, dict[str, Tensor]]) -> None:
    block, arrays = pgtd
    block.bank.update(arrays["encoded"][:3], arrays["label"][:3], arrays["task"][:3])
    expected = arrays["prototypes_after_update"][:, 0].flip(1)
    assert relative(block.bank.prototypes, expected) < TOLERANCE


@pytest.mark.slow
def test_released_state_dict_loads(shared_dir: Path) -> None:
    from monai_tpseg.networks import tpseg_hiera_large

    shapes = json.loads((shared_dir / "golden" / "released_state_dict.json").read_text())
    state = {
        k: torch.ones(v, dtype=torch.bool if k.endswith("initialized") else torch.float32) for k, v in shapes.items()
    }
    net = tpseg_hiera_large(num_tasks=8, layout="released")
    net.load_state_dict(convert_released(state))  # strict


def test_foreign_key_is_refused() -> None:
    with pytest.raises(CheckpointError, match=r"'decoder\.layer\.0\.weight' is not a name of the released"):
        convert_released({"decoder.layer.0.weight": torch.zeros(1)})
