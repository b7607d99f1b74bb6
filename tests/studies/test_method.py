"""Files that a network made give its own name."""

from __future__ import annotations

from pathlib import Path

import pydicom
import pytest
import torch

from monai_tpseg.cli import main
from monai_tpseg.networks import kprism_demo
from monai_tpseg.networks.weights_info import WeightsInfo, save_weights
from monai_tpseg.results import SaveResultd
from monai_tpseg.transforms import LoadMedicalImage, pipelines_hash

from .conftest import MARKER


@pytest.fixture
def kprism(tmp_path: Path) -> Path:
    """Random weights of K-Prism for one task."""
    torch.manual_seed(0)
    path = tmp_path / "weights" / "model.pt"
    path.parent.mkdir()
    network = {"architecture": "kprism", "backbone": "utnet_demo"}
    info = WeightsInfo(("skin_lesion",), network, (32, 32), preprocessing=pipelines_hash())
    save_weights(path, kprism_demo(1).state_dict(), info)
    return path


@pytest.mark.parametrize(
    ("network", "name"),
    [({}, "TP-Seg"), ({"architecture": "kprism"}, "K-Prism"), ({"architecture": "dynunet"}, "dynunet")],
)
def test_names_of_networks(network: dict[str, str], name: str) -> None:
    assert WeightsInfo(("skin_lesion",), network, (32, 32)).method == name


def test_a_study_says_which_network_segmented_it(kprism: Path, corpus: Path, tmp_path: Path) -> None:
    source = corpus / f"{MARKER}_skin_lesion.dcm"
    words = ["--task", "skin_lesion", "--checkpoint", str(kprism), "--out", str(tmp_path / "out"), "--quiet"]
    assert main(["run", str(source), *words, "--threshold", "0.001", "--device", "cpu"]) in (0, 1)
    (seg,) = (tmp_path / "out").rglob("*_seg.dcm")
    header = pydicom.dcmread(seg)
    assert header.ManufacturerModelName == "K-Prism"
    assert header.SegmentSequence[0].SegmentAlgorithmName == "K-Prism"


def test_weights_for_clicks_say_so(
    kprism: Path, corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture = next(path for path in corpus.rglob("*.png") if "broken" not in path.name)
    words = ["--task", "skin_lesion", "--checkpoint", str(kprism), "--out", str(tmp_path / "out")]
    assert main(["run", str(picture), *words]) == 0
    lines = [line for line in capsys.readouterr().err.splitlines() if "tpseg annotate" in line]
    assert lines == ["K-Prism weights are meant for clicks: tpseg annotate. Here they run without any."]


def test_so_does_the_end_of_a_bundle(kprism: Path, corpus: Path, tmp_path: Path) -> None:
    image = LoadMedicalImage()(corpus / f"{MARKER}_skin_lesion.dcm")
    mask = torch.zeros(1, *image.shape[1:])
    mask[:, 5:12, 6:15] = 1
    save = SaveResultd(tmp_path / "out", checkpoint=kprism)
    save({"image": image, "pred": mask, "prob": mask, "task_name": "skin_lesion"})
    (seg,) = (tmp_path / "out").rglob("*_seg.dcm")
    assert pydicom.dcmread(seg).ManufacturerModelName == "K-Prism"
