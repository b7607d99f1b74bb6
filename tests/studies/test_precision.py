"""The network of a run: its fast form at the precision that was asked for, which is part of every result."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from monai_tpseg.cli import main
from monai_tpseg.networks import tpseg_hiera
from monai_tpseg.networks.fast.inference_network import InferenceNetwork
from monai_tpseg.networks.weights_info import WeightsInfo, save_weights
from monai_tpseg.results import StudyError
from monai_tpseg.studies import Model, Settings
from monai_tpseg.transforms import pipelines_hash

from .conftest import MARKER

TASKS = ("skin_lesion", "colon_polyp")


def write(path: Path, hard: bool = True, **options: Any) -> Path:
    """Write random weights of a small network, as a training leaves them."""
    torch.manual_seed(3)
    net = tpseg_hiera("hiera_demo", len(TASKS), freeze_encoder=False, **options)
    with torch.no_grad():
        for p in net.parameters():
            p.add_(0.05 * torch.randn_like(p))
    net.encoder.gate.set_hard(hard)
    info = WeightsInfo(TASKS, {"backbone": "hiera_demo", **options}, (32, 32), preprocessing=pipelines_hash())
    save_weights(path, net.state_dict(), info)
    return path


def test_the_fast_form_finds_what_the_trained_network_finds(
    tmp_path: Path, corpus: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    weights, photo = write(tmp_path / "model.pt"), corpus / f"{MARKER}_photo.png"
    with caplog.at_level("INFO"):
        fast, half = (Model(weights, "cpu", Settings(precision=p)) for p in ("fp32", "bf16"))
    assert "The network runs in its fast form. Precision: fp32." in caplog.text
    assert isinstance(fast.network, InferenceNetwork)
    assert (fast.config["fast"], fast.config["precision"], half.config["precision"]) == (True, "fp32", "bf16")
    assert len({fast.config_sha256, half.config_sha256}) == 2
    plain = Model(weights, "cpu")
    plain.segmenter.network = tpseg_hiera("hiera_demo", len(TASKS), freeze_encoder=False).eval()
    plain.network.load_state_dict(torch.load(weights, weights_only=True))
    one, other, rough = (model.segment(photo, "skin_lesion").prob for model in (fast, plain, half))
    torch.testing.assert_close(one, other, atol=1e-4, rtol=0)
    assert not torch.equal(one, rough)
    assert (one - rough).abs().mean() < 0.02


def test_what_has_no_fast_form_runs_as_it_was_trained(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"):
        soft = Model(write(tmp_path / "soft.pt", hard=False), "cpu")
        ablation = Model(write(tmp_path / "unet.pt", decoder="unet"), "cpu")
    assert "The gates of the weights are soft" in caplog.text
    assert "UDecoder has no fast form" in caplog.text
    assert [model.config["fast"] for model in (soft, ablation)] == [False, False]


def test_the_precision_is_an_option_and_resume_heeds_it(tmp_path: Path, corpus: Path) -> None:
    photo, out = corpus / f"{MARKER}_photo.png", tmp_path / "out"
    run = ["run", str(photo), "--task", "skin_lesion", "--checkpoint", str(write(tmp_path / "model.pt"))]
    run += ["--out", str(out), "--device", "cpu", "--quiet", "--resume"]

    def kept() -> bool:
        return bool(json.loads((out / "events.jsonl").read_text().splitlines()[-2])["kept"])

    for more in ([], ["--precision", "bf16"]):
        assert main([*run, *more]) == 0
        assert not kept()
    (record,) = (json.loads(path.read_text()) for path in out.glob("cases/*/result.json"))
    config = record["provenance"]["config"]
    assert (config["precision"], config["fast"]) == ("bf16", True)


def test_a_precision_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="Unknown precision 'int4'; choose one of fp32, bf16, fp16, auto"):
        Settings(precision="int4")
    with pytest.raises(StudyError, match="'fp16' needs a GPU; use bf16, fp32 or auto"):
        Model(write(tmp_path / "model.pt"), "cpu", Settings(precision="fp16"))
