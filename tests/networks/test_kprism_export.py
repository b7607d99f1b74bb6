"""K-Prism as two ONNX files: what a viewer would compute with them is what the network computes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from monai_tpseg.networks import Prompt, kprism_demo
from monai_tpseg.networks.kprism import KPrism
from monai_tpseg.networks.kprism.onnx_export import NO_MASK, export_prompts, file_pair

runtime = pytest.importorskip("onnxruntime")
SIZE = (64, 96)


def network(detail: int) -> KPrism:
    torch.manual_seed(0)
    return kprism_demo(num_tasks=3, detail=detail).eval()


def session(file: Path) -> runtime.InferenceSession:
    return runtime.InferenceSession(str(file), providers=["CPUExecutionProvider"])


@torch.no_grad()
@pytest.mark.parametrize(("row", "detail"), [(None, 0), (1, 8)])
def test_encode_once_and_click_twice(row: int | None, detail: int, tmp_path: Path) -> None:
    net = network(detail)
    error, files = export_prompts(net, tmp_path / "click.onnx", SIZE, row)
    assert error < 1e-3
    assert files == file_pair(tmp_path / "click.onnx")
    assert [file.name for file in files] == ["click_encoder.onnx", "click_decoder.onnx"]
    encoder, decoder = map(session, files)
    image = torch.randn(1, 3, *SIZE)
    names = [one.name for one in encoder.get_outputs()]
    maps = dict(zip(names, encoder.run(None, {"image": image.numpy()}), strict=True))
    state = net.encode(image)
    first = torch.tensor([[[20.0, 30.0, 1.0]]])
    second = torch.tensor([[[20.0, 30.0, 1.0], [50.2, 70.9, -1.0], [0.0, 0.0, 0.0]]])  # the last one is none
    mask, empty = None, torch.full((1, 1, *SIZE), NO_MASK)
    for clicks in (first, second):
        expected = net.decode(state, Prompt(task=row, clicks=clicks, previous_logits=mask))
        given = {"clicks": clicks.numpy(), "previous_logits": (empty if mask is None else mask).numpy(), **maps}
        found = torch.from_numpy(decoder.run(None, given)[0])
        assert float((found - expected).abs().max() / expected.abs().max()) < 1e-3
        mask = expected


@torch.no_grad()
def test_a_class_alone_is_a_click_that_does_not_exist(tmp_path: Path) -> None:
    net = network(0)
    _, files = export_prompts(net, tmp_path / "class.onnx", SIZE, 2)
    encoder, decoder = map(session, files)
    image = torch.randn(2, 3, *SIZE)
    maps = dict(zip([o.name for o in encoder.get_outputs()], encoder.run(None, {"image": image.numpy()}), strict=True))
    none, empty = torch.zeros(2, 1, 3), torch.full((2, 1, *SIZE), NO_MASK)
    found = decoder.run(None, {"clicks": none.numpy(), "previous_logits": empty.numpy(), **maps})[0]
    expected = net.decode(net.encode(image), Prompt(task=2))
    assert float((torch.from_numpy(found) - expected).abs().max() / expected.abs().max()) < 1e-3


def test_an_unknown_class_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="Unknown class 3; the network has 0 to 2"):
        export_prompts(network(0), tmp_path / "x.onnx", SIZE, 3)
    assert not list(tmp_path.iterdir())
