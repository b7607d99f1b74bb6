"""What the options of a training do to its network."""

from __future__ import annotations

import pytest
import torch

from monai_tpseg.bundle.config import prepare_network
from monai_tpseg.networks import tpseg_hiera_demo
from monai_tpseg.networks.compiled import is_compiled


def test_options() -> None:
    net = tpseg_hiera_demo(2)
    kernel = net.decoder.rfbs[0].merge.conv.weight
    assert prepare_network(net, "cpu") is net
    assert not net.encoder.checkpointing
    assert not kernel.is_contiguous(memory_format=torch.channels_last)
    prepare_network(net, "cpu", "true", channels_last="true")
    assert net.encoder.checkpointing
    assert net.decoder.rfbs[0].merge.conv.weight.is_contiguous(memory_format=torch.channels_last)


def test_compiled_network_keeps_its_class_and_names(caplog: pytest.LogCaptureFixture) -> None:
    net, plain = tpseg_hiera_demo(2), torch.nn.Linear(1, 1)
    names = list(net.state_dict())
    assert prepare_network(net, "cpu", compile=True) is net
    assert "compile=true on a CPU takes minutes" in caplog.text
    assert list(net.state_dict()) == names
    assert all(is_compiled(part) for part in (*net.encoder.trunk.blocks, *net.encoder.adapters, *net.decoder.pgtds))
    assert not is_compiled(net)
    assert prepare_network(plain, "cpu", compile="true") is plain
    assert is_compiled(plain)


def test_errors() -> None:
    with pytest.raises(ValueError, match="checkpoint_activations=true is only for TP-Seg, not Linear"):
        prepare_network(torch.nn.Linear(1, 1), "cpu", True)
    with pytest.raises(ValueError, match="Unknown compile 'maybe'"):
        prepare_network(torch.nn.Linear(1, 1), "cpu", compile="maybe")
