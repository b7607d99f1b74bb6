"""Weights are loaded at the start, from either format, into the network as it stands."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from ignite.engine import Engine
from safetensors.torch import save_file
from torch import nn

from monai_tpseg.handlers import WeightsLoader
from monai_tpseg.networks.checkpoint import CheckpointError


@pytest.mark.parametrize("name", ["w.pt", "w.safetensors"])
def test_both_formats_fill_the_network_when_the_engine_starts(tmp_path: Path, name: str) -> None:
    source, target = nn.Linear(3, 2), nn.Linear(3, 2)
    state = dict(source.state_dict())
    save_file(state, tmp_path / name) if name.endswith("s") else torch.save(state, tmp_path / name)
    engine = Engine(lambda engine, batch: torch.equal(target.weight, source.weight))
    WeightsLoader(tmp_path / name, target).attach(engine)
    assert not torch.equal(target.weight, source.weight)
    assert engine.run([0]).output is True


def test_weights_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    torch.save(dict(nn.Linear(4, 2).state_dict()), tmp_path / "w.pt")
    with pytest.raises(CheckpointError, match="another shape"):
        WeightsLoader(tmp_path / "w.pt", nn.Linear(3, 2))(Engine(lambda engine, batch: None))
